"""`alexnet report`: one HTML page about a run or a predictions file."""

import shlex
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from alexnet_cli.cli import console
from alexnet_cli.cli.console import print_line, safe
from alexnet_cli.cli.options import (
    MODEL,
    AsJson,
    SplitName,
    Views,
    check_views,
    complete_model,
)
from alexnet_cli.cli.tables import show


def report(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL|PREDICTIONS",
            help=f"Predictions file (.npz) of eval; or a trained network: {MODEL}",
            autocompletion=complete_model,
        ),
    ],
    data: Annotated[
        str | None,
        typer.Option(help="Dataset to measure the run on and to take example images from."),
    ] = None,
    out: Annotated[Path, typer.Option("--output", "-o", help="Page to write.")] = Path(
        "report.html"
    ),
    split: SplitName = "val",
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
    from alexnet_cli.pretrained.names import find_model

    progress = console.ConsoleProgress()
    ref = DatasetRef.parse(data) if data else None
    lines = partial(_command_lines, source, data, split, out)
    found = find_model(source, progress)
    request = ReportRequest(found, out, ref, split, views, predictions, lines)
    show(asdict(write_report(request, progress)), as_json, show_report)


def _command_lines(
    source: Path,
    data: str | None,
    split: str,
    out: Path,
    recipe: str | None,
    changes: list[tuple[str, Any, Any]],
) -> list[str]:
    """Return the command lines that train, measure and report the same again."""
    model, page, part = (shlex.quote(str(text)) for text in (source, out, split))
    run = f" --run {model}" if source.is_dir() else ""
    dataset = shlex.quote(data) if data else "DATASET"
    lines = []
    if recipe:
        fields = "".join(f" --set {shlex.quote(f'{name}={own}')}" for name, _, own in changes)
        lines.append(f"alexnet train {dataset}{run} --recipe {recipe}{fields}")
        lines.append(f"alexnet eval {model} {dataset} --split {part}")
    about = f" --data {dataset} --split {part}" if data else ""
    return [*lines, f"alexnet report {model}{about} -o {page}"]


def show_report(result: dict) -> None:
    """Print where the page is."""
    sections = ", ".join(result["sections"])
    print_line(f"[bold]{safe(result['path'])}[/]: {result['bytes'] / 1e6:.1f} MB, {sections}")
