"""`alexnet ARGUMENTS` as a process of its own, shown while it runs; its result is returned.

demo and reproduce run the very commands that a person would type. A job that fails ends its parent
with the same exit code. Signals to the parent are passed on, so that the job saves what it has.
"""

import json
import os
import shlex
import sys
from pathlib import Path

from alexnet_cli.cli import console
from alexnet_cli.cli.tables import RESULT_FILE
from alexnet_cli.cli.variables import job_environment
from alexnet_cli.errors import JobError
from alexnet_cli.io.signals import CAN_PASS_ON, handling, known_signals

PASSED_ON = known_signals("SIGINT", "SIGTERM", "SIGHUP") if CAN_PASS_ON else []


def run_job(
    arguments: list[str],
    purpose: str,
    *,
    quiet: bool,
    advice: str = "Run the same command to continue.",
) -> dict:
    """Run a command, which shows its own result unless `quiet`, and return what --json prints.

    Args:
        advice: what to do after a failure.

    Raises:
        JobError: if the command failed or was stopped; it has printed why.
    """
    import subprocess
    import tempfile

    if not quiet:
        shown = console.safe(shlex.join(arguments))
        console.print_line(f"\n[dim]{console.safe(purpose)}[/]\n[bold cyan]$ alexnet {shown}[/]")
        sys.stdout.flush()
    command = [sys.executable, "-m", "alexnet_cli", *arguments]
    with tempfile.TemporaryDirectory(prefix="alexnet-") as scratch:
        result = Path(scratch, "result.json")
        with (
            # A group of its own: a terminal's Ctrl-C reaches it once, from here, and not twice.
            subprocess.Popen(
                command,
                stdout=subprocess.DEVNULL if quiet else None,
                process_group=0,
                env=job_environment(os.environ) | {RESULT_FILE: str(result)},
            ) as process,
            handling(PASSED_ON, lambda number, _: process.send_signal(number)),
        ):
            code = process.wait()
        if code:
            code = code if code > 0 else 128 - code
            raise JobError(
                f"`alexnet {arguments[0]}` ended with exit code {code}, see above.",
                code,
                kept="Finished work is kept.",
                hint=advice,
            )
        return json.loads(result.read_bytes())
