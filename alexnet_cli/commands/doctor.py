"""`alexnet doctor`: what works on this machine, what does not, and the command that mends it."""

from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from alexnet_cli.cli import console
from alexnet_cli.cli.console import print_line, print_rich, safe
from alexnet_cli.cli.options import AsJson
from alexnet_cli.cli.tables import show
from alexnet_cli.errors import MachineError


def doctor(
    require: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Fail unless this works, such as cuda, onnx-cuda or parquet; can be repeated.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check what works on this machine, and say how to mend what does not."""
    from alexnet_cli.doctor.checks import examine

    progress = console.ConsoleProgress()
    examination = examine(lambda group: progress.say(f"checking {group}"))
    missing = examination.missing(require or [])
    result = {"checks": [asdict(check) for check in examination.checks], "missing": missing}
    show(result, as_json, show_doctor)
    if missing:
        raise MachineError(
            f"these do not work here: {', '.join(missing)}.",
            hint="The table says how to mend each of them.",
        )


def show_doctor(result: dict) -> None:
    """Print a table of all checks, then what to do about those that failed."""
    table = Table()
    for column in ("", "check", "", "detail"):
        table.add_column(column)
    group = ""
    for check in result["checks"]:
        mark = "[green]ok[/]" if check["works"] else "[red]no[/]" if check["needed"] else "no"
        heading = check["group"] if check["group"] != group else ""
        group = check["group"]
        table.add_row(heading, check["name"], mark, safe(check["detail"]))
    print_rich(table)
    remedies: dict[str, list[str]] = {}
    for check in result["checks"]:
        if not check["works"]:
            remedies.setdefault(check["remedy"], []).append(check["name"])
    for remedy, names in remedies.items():
        print_line(f"[bold]{', '.join(names)}[/]: {safe(remedy)}")
