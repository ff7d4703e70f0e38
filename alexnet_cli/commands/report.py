"""`alexnet report`: one HTML page about a run or a predictions file."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from alexnet_cli.cli import console
from alexnet_cli.cli.console import print_line, safe
from alexnet_cli.cli.options import AsJson, Views, check_views, complete_run
from alexnet_cli.cli.tables import show


def report(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="RUN|PREDICTIONS",
            help="Run folder, checkpoint or predictions file (.npz).",
            autocompletion=complete_run,
        ),
    ],
    data: Annotated[
        str | None,
        typer.Option(help="Dataset to measure the run on and to take example images from."),
    ] = None,
    out: Annotated[Path, typer.Option("--output", "-o", help="Page to write.")] = Path(
        "report.html"
    ),
    split: Annotated[str, typer.Option(help="Split of the dataset: train, val or test.")] = "val",
    views: Views = 10,
    predictions: Annotated[
        Path | None,
        typer.Option(help="Predictions of the run that eval wrote, instead of measuring again."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write one page about a run: what was trained, curves, errors, filters, mistakes."""
    check_views(views)
    from alexnet_cli.data.dataset_ref import DatasetRef
    from alexnet_cli.figures.report import ReportRequest, write_report

    ref = DatasetRef.parse(data) if data else None
    request = ReportRequest(source, out, ref, split, views, predictions)
    show(asdict(write_report(request, console.ConsoleProgress())), as_json, show_report)


def show_report(result: dict) -> None:
    """Print where the page is."""
    sections = ", ".join(result["sections"])
    print_line(f"[bold]{safe(result['path'])}[/]: {result['bytes'] / 1e6:.1f} MB, {sections}")
