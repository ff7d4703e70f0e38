"""`alexnet reproduce`: a table of the paper, trained and measured, beside the published figures."""

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from alexnet_cli.cli import console
from alexnet_cli.cli.console import print_line, print_rich, safe
from alexnet_cli.cli.job import run_job
from alexnet_cli.cli.options import (
    AsJson,
    Device,
    Settings,
)
from alexnet_cli.cli.tables import show


def reproduce(
    table: Annotated[str, typer.Argument(help="ilsvrc-2010, ilsvrc-2012, ablations or figure-1.")],
    data: Annotated[
        list[str] | None, typer.Option(metavar="NAME=DATASET", help="Such as ilsvrc-2012=shards/a.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of runs and results; by default results/TABLE.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Shorten every run.")] = None,
    only: Annotated[list[str] | None, typer.Option(metavar="ROW", help="Only this row.")] = None,
    settings: Settings = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the commands with images, hours and disk.")
    ] = False,
    gpus: Annotated[
        int | None, typer.Option(min=1, help="2: one per column. More: that many replicas.")
    ] = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Train and measure a table of the paper, beside its figures."""
    from alexnet_cli.reproduce import run as verb

    shortcuts = verb.Shortcuts(epochs, tuple(settings or ()), device, gpus)
    pairs = tuple(_parse_data(text) for text in data or ())
    folder = out or Path("results") / table
    request = verb.Request(table, pairs, folder, tuple(only or ()), shortcuts)
    if dry_run:
        estimate = verb.plan(request, progress=console.ConsoleProgress())
        show(asdict(estimate), as_json, show_plan)
        return

    def run_command(arguments: list[str], purpose: str) -> dict:
        return run_job(arguments, purpose, quiet=as_json)

    result = verb.reproduce(request, run_command, progress=console.ConsoleProgress())
    show(result, as_json, show_reproduce)


def _parse_data(text: str) -> tuple[str, Path | str]:
    from alexnet_cli.data.dataset_ref import DatasetRef

    name, equals, place = text.partition("=")
    if not (name and equals and place):
        raise typer.BadParameter(f"{text}: write NAME=DATASET.", param_hint="--data")
    return name, DatasetRef.parse(place)


def show_plan(result: dict) -> None:
    """The commands of a reproduction in the order in which they run, with their cost."""
    for name, commands in result["to_prepare"].items():
        print_line(f"[bold]first[/], with the archives or class folders of {name} in SOURCE:")
        print_line(f"  $ {safe(commands)}")
    for step in result["steps"]:
        cost = [f"{step['images']:,} images", _hours(step["hours"]), _size(step["disk_bytes"])]
        print_line(f"  $ alexnet {safe(shlex.join(step['command']))}")
        print_line(f"    [dim]{', '.join(cost)}[/]")
    rates = ", ".join(f"{name}: {rate:g}" for name, rate in result["rates"].items())
    print_line(f"training images/s measured here on {' + '.join(result['devices'])}: {safe(rates)}")
    hours = _hours(result["hours"])
    print_line(f"in all {result['images']:,} images, {hours} one after the other")
    print_line(
        f"disk: {_size(result['disk_bytes'])} for runs and predictions, "
        f"{_size(result['data_bytes'])} for the shards"
    )
    print_line(
        "Each command can be run by hand, on any machine that sees the folders, with its own"
    )
    print_line("GPUs (CUDA_VISIBLE_DEVICES=0,1 alexnet ...). reproduce takes up what is there.")


def _hours(hours: float) -> str:
    return f"{60 * hours:.0f} min" if hours < 1.5 else f"{hours:,.1f} h"


def _size(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.0f} MB"


def show_reproduce(result: dict) -> None:
    """The table of results.md, and where the files are."""
    from alexnet_cli.reproduce.results import describe_ratio, table_cells

    for caveat in result["caveats"]:
        print_line(f"[bold yellow]not the published experiment:[/] {safe(caveat)}")
    cells = table_cells(result)
    if "rows" in result:  # a terminal has no room for the paper's gain and the images
        cells = [[row[column] for column in (0, 1, 2, 3, 5, 6, 8)] for row in cells]
        cells[0][4] = "worse by"
    header, *rows = cells
    table = Table(title=result["title"])
    for column in header:
        table.add_column(column, no_wrap=column == "row")
    for row in rows:
        table.add_row(*row)
    print_rich(table)
    if "laps" in result:
        print_line(describe_ratio(result))
        print_line(safe(result["figure"]))
    print_line(safe(result["results"]))
