"""`alexnet eval`: top-1 and top-5 error of a checkpoint on a split (sections 4.1 and 6)."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from alexnet_cli.cli import console
from alexnet_cli.cli.console import print_line, print_rich, safe
from alexnet_cli.cli.options import (
    AllowPipe,
    AsJson,
    CheckpointPath,
    Classes,
    Columns,
    DatasetSource,
    Device,
    JoinMinutes,
    Precision,
    Replicated,
    Stream,
    Views,
    check_views,
    find_source,
    runtime_config,
)
from alexnet_cli.cli.tables import VIEWS, error_cells, error_table, show


def evaluate(
    checkpoint: CheckpointPath,
    dataset: DatasetSource,
    split: Annotated[str, typer.Option(help="Split of the dataset: train, val or test.")] = "val",
    stream: Stream = False,
    classes: Classes = None,
    allow_pipe: AllowPipe = False,
    views: Views = 10,
    predictions: Annotated[
        Path | None,
        typer.Option(help="Also save the class probabilities of every image, for ensemble."),
    ] = None,
    gpus: Replicated = None,
    columns: Columns = None,
    device: Device = "auto",
    precision: Precision = "fp32",
    join_minutes: JoinMinutes = None,
    as_json: AsJson = False,
) -> None:
    """Measure top-1 and top-5 error of the center crop and of ten crops."""
    check_views(views)
    source = find_source(dataset, stream, classes, allow_pipe)
    from alexnet_cli.inference.describe import published_results
    from alexnet_cli.inference.evaluate import EvalRequest
    from alexnet_cli.inference.evaluate import evaluate as measure
    from alexnet_cli.pretrained.names import find_model

    progress = console.ConsoleProgress()
    checkpoint = find_model(checkpoint, progress)
    runtime = runtime_config(device, gpus, columns, precision, join_minutes=join_minutes)
    request = EvalRequest(checkpoint, source, split, views, predictions, runtime)
    result = measure(request, progress)
    if result:  # None from a replica that is not the main one
        published = published_results(checkpoint) if split == "val" else []
        show({**asdict(result), "published": published}, as_json, show_eval)


def show_eval(result: dict) -> None:
    """Print the error rates."""
    print_line(f"[bold]{safe(result['checkpoint'])}[/] on {safe(result['dataset'])}")
    precision = "" if result["precision"] == "fp32" else f", {result['precision']}"
    table = error_table(f"{result['split']}: {result['images']:,} images{precision}")
    if result["center"]:
        table.add_row("center view", *error_cells(result["center"]))
    table.add_row(VIEWS[result["views"]], *error_cells(result))
    for row in result.get("published", ()):
        errors = (f"{row['top1_error']:.2%}", f"{row['top5_error']:.2%}", "")
        table.add_row(f"published: {row['protocol']} ({row['source']})", *errors)
    print_rich(table)
