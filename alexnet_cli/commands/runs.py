"""`alexnet runs`: recipes, progress and best errors of runs, and how they differ."""

import csv
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from alexnet_cli.cli.console import print_line, print_rich, safe
from alexnet_cli.cli.options import AsJson
from alexnet_cli.cli.tables import show
from alexnet_cli.errors import counted

COLUMNS = ("run", "state", "recipe", "epochs", "top-1", "top-5", "images/s", "changes")
MAX_DIFFERENCES = 12  # of recipes, on the screen


def runs(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(metavar="RUN", help="Runs, or folders of runs; by default runs/."),
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print one row of CSV per run.")] = False,
    as_json: AsJson = False,
) -> None:
    """List runs: recipe, progress, best validation errors, and where their recipes differ."""
    if as_csv and as_json:
        raise typer.BadParameter("contradicts --json.", param_hint="--csv")
    from alexnet_cli.training.runs import list_runs

    result = asdict(list_runs(folders or [Path("runs")]))
    show(result, as_json, show_csv if as_csv else show_runs)


def show_csv(result: dict) -> None:
    """Print one row per run; errors are fractions."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    names = ("run", "state", "recipe", "epochs", "num_epochs")
    errors = ("epoch", "top1_error", "top5_error")
    writer.writerow((*names, "best_epoch", *errors[1:], "images_per_second"))
    for run in result["runs"]:
        best = [(run["best"] or {}).get(name) for name in errors]
        writer.writerow((*(run[name] for name in names), *best, run["images_per_second"]))


def show_runs(result: dict) -> None:
    """Print a table of the runs, then the fields in which the recipes of several differ."""
    table = Table()
    table.add_column(COLUMNS[0], overflow="fold")
    for column in COLUMNS[1:]:
        table.add_column(column, justify="right" if column in COLUMNS[3:7] else "left")
    for run in result["runs"]:
        best, speed = run["best"], run["images_per_second"]
        table.add_row(
            safe(run["run"]),
            run["state"],
            safe(run["recipe"]),
            f"{run['epochs']}/{run['num_epochs'] or '?'}",
            *(f"{best[name]:.1%}" if best else "" for name in ("top1_error", "top5_error")),
            f"{speed:,.0f}" if speed else "",
            safe(", ".join(f"{name}={value}" for name, value in run["changes"].items())),
        )
    print_rich(table)
    differ = list(result["differences"].items()) if len(result["runs"]) <= 4 else []
    for name, values in differ[:MAX_DIFFERENCES]:
        print_line(f"{safe(name)}: {safe(', '.join(map(str, values)))}")
    if left := len(differ[MAX_DIFFERENCES:]):
        more = counted(left, "more field differs", "more fields differ")
        print_line(f"{more}; --json lists all.")
