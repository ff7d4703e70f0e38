"""`alexnet ARGUMENTS` as a process of its own: shown as it runs, its JSON returned.

demo and reproduce run the very commands a person would type. A child's fault ends the parent with
the child's exit code; signals to the parent are passed on, so that the child saves what it has.
"""

import json
import shlex
import signal
import subprocess
import sys

from alexnet_cli.cli import console
from alexnet_cli.cli import tables as report
from alexnet_cli.errors import JobError
from alexnet_cli.io.signals import handling

PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run_child(arguments: list[str], purpose: str, *, quiet: bool) -> dict:
    """Run a command, print what it prints unless `quiet`, and return its JSON.

    Raises:
        JobError: the command failed, or was stopped; it has said why itself.
    """
    if not quiet:
        shown = console.safe(shlex.join(arguments))
        console.print_line(f"\n[dim]{console.safe(purpose)}[/]\n[bold cyan]$ alexnet {shown}[/]")
        sys.stdout.flush()
    command = [sys.executable, "-m", "alexnet_cli", *arguments, "--json"]
    # A group of its own: a terminal's Ctrl-C reaches it once, from here, and not twice.
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, process_group=0) as child,
        handling(PASSED_ON, lambda number, _: child.send_signal(number)),
    ):
        output = child.stdout.read()
        code = child.wait()
    if code:
        code = code if code > 0 else 128 - code
        raise JobError(
            f"`alexnet {arguments[0]}` ended with exit code {code}, see above.\n"
            "What is finished is kept: the same command goes on from there.",
            code,
        )
    result = json.loads(output)
    if not quiet:
        getattr(report, f"show_{arguments[0]}")(result)
    return result
