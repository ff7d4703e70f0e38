"""`alexnet demo`: every step on generated images, by the real commands one after the other."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from alexnet_cli.cli import console
from alexnet_cli.cli.console import print_line, print_rich, safe
from alexnet_cli.cli.job import run_job
from alexnet_cli.cli.options import (
    AsJson,
    Device,
)
from alexnet_cli.cli.tables import error_cells, error_table, show


def demo(
    folder: Annotated[Path | None, typer.Argument(help="New folder; by default demo.")] = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Show all of it working on generated images, in a few minutes."""
    from alexnet_cli.reproduce import demo as verb

    def run_command(arguments: list[str], purpose: str) -> dict:
        return run_job(arguments, purpose, quiet=as_json)

    result = verb.demo(
        folder or verb.unused_folder(),
        run_command,
        device=device,
        progress=console.ConsoleProgress(),
    )
    show(asdict(result), as_json, show_demo)


def show_demo(result: dict) -> None:
    """The demo's results table, and what to type for ImageNet."""
    table = error_table("what the demo reached, on generated validation images")
    for row in result["rows"]:
        table.add_row(safe(row["name"]), *error_cells(row))
    print_rich(table)
    print_line(f"{result['seconds']:.0f} s in all; everything is in {safe(result['folder'])}/")
    print_line("\nThe same on ImageNet, with the three official archives in one folder:")
    for line in result["next"]:
        print_line(f"  {safe(line)}")
