"""`alexnet errors`: the classes that a network gets wrong, and what it takes them for."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from alexnet_cli.cli import console
from alexnet_cli.cli.console import print_line, print_rich, safe
from alexnet_cli.cli.options import (
    AllowPipe,
    AsJson,
    Classes,
    ClassNames,
    DatasetOfModel,
    Device,
    PredictionsOrModel,
    SplitName,
    Stream,
    Subset,
    Views,
    check_views,
    find_source,
    runtime_config,
)
from alexnet_cli.cli.tables import short_name, show, with_interval
from alexnet_cli.errors import counted
from alexnet_cli.io.atomic import is_device


def errors(
    source: PredictionsOrModel,
    dataset: DatasetOfModel = None,
    split: SplitName = "val",
    stream: Stream = False,
    classes: Classes = None,
    allow_pipe: AllowPipe = False,
    class_names: ClassNames = None,
    views: Views = 10,
    subset: Subset = False,
    top: Annotated[
        int, typer.Option(min=1, help="Number of classes, pairs and mistakes to show.")
    ] = 10,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="CSV file to which the errors of all classes go."),
    ] = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Show errors per class, the most confused pairs and the most confident mistakes."""
    check_views(views)
    if output and output.suffix.lower() != ".csv" and not is_device(output):
        raise typer.BadParameter(f"{output} does not end in .csv.", param_hint="--output")
    request, progress = None, console.ConsoleProgress()
    if dataset is not None:
        ref = find_source(dataset, stream, classes, allow_pipe)
        from alexnet_cli.inference.evaluate import EvalRequest
        from alexnet_cli.pretrained.names import find_model

        source = find_model(source, progress)
        runtime = runtime_config(device)
        request = EvalRequest(source, ref, split, views, None, runtime, class_names)
    from alexnet_cli.inference.mistakes import find_mistakes

    result = find_mistakes(
        source,
        request,
        num_shown=top,
        among_classes_of_dataset=subset,
        csv_path=output,
        progress=progress,
    )
    if result:  # None from a replica that is not the main one
        show(asdict(result), as_json, lambda content: show_errors(content, top))


def show_errors(result: dict, top: int = 10) -> None:
    """Print the classes with the highest errors, the most confused pairs, the surest mistakes."""
    print_line(
        f"[bold]{safe(result['source'])}[/]: {result['split']}, "
        f"{counted(result['images'], 'image')}, "
        f"top-1 error {result['top1_error']:.2%}"
    )
    with_images = [row for row in result["classes"] if row["images"]]
    worst = sorted(with_images, key=lambda row: (-row["top1_error"], -row["images"]))[:top]
    table = _table("classes with the highest error", "class", "images", "top-1 error", "taken for")
    for row in worst:
        error = with_interval(row["top1_error"], row["top1_interval"])
        confused = ""
        if row["confused_with"] is not None:
            confused = short_name(row["confused_with"], row["confused_name"])
            confused += f" ({row['confused_images']:,})"
        table.add_row(short_name(row["wnid"], row["name"]), f"{row['images']:,}", error, confused)
    print_rich(table)
    table = _table("most confused pairs", "class", "images", "of the class", "taken for")
    for row in result["pairs"]:
        cells = (
            f"{row['images']:,}",
            f"{row['fraction']:.1%}",
            short_name(row["predicted_wnid"], row["predicted_name"]),
        )
        table.add_row(short_name(row["wnid"], row["name"]), *cells)
    print_rich(table)
    table = _table("most confident mistakes", "class", "image", "probability", "taken for")
    for row in result["mistakes"]:
        cells = (
            safe(row["image"]),
            f"{row['probability']:.1%}",
            short_name(row["predicted_wnid"], row["predicted_name"]),
        )
        table.add_row(short_name(row["wnid"], row["name"]), *cells)
    print_rich(table)
    if missing := len(result["classes"]) - len(with_images):
        print_line(f"classes without images: {missing:,}")
    if result["csv"]:
        print_line(f"errors of {counted(len(result['classes']), 'class')}: {safe(result['csv'])}")


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title)
    for column in columns:
        is_text = column in ("class", "taken for")
        table.add_column(column, justify="left" if is_text else "right", no_wrap=not is_text)
    return table
