"""`alexnet eval`: top-1 and top-5 error of a network on a split (sections 4.1 and 6)."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from alexnet_cli.cli import console
from alexnet_cli.cli.console import print_line, print_rich, safe
from alexnet_cli.cli.options import (
    AllowPipe,
    AsJson,
    Classes,
    ClassNames,
    Columns,
    DatasetSource,
    Device,
    JoinMinutes,
    ModelPath,
    Precision,
    Replicated,
    SplitName,
    Stream,
    Views,
    check_views,
    find_source,
    runtime_config,
)
from alexnet_cli.cli.tables import INTERVALS, error_cells, error_table, show, some_of
from alexnet_cli.errors import counted


def evaluate(
    model: ModelPath,
    dataset: DatasetSource,
    split: SplitName = "val",
    stream: Stream = False,
    classes: Classes = None,
    allow_pipe: AllowPipe = False,
    class_names: ClassNames = None,
    views: Views = 10,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE.npz",
            help="Also save the class probabilities of every image in this .npz file, for "
            "ensemble, compare and errors.",
        ),
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
    if output and output.suffix.lower() != ".npz":
        raise typer.BadParameter(
            f"{output} does not end in .npz. A table of classes is written by: "
            "alexnet errors FILE.npz -o FILE.csv",
            param_hint="--output",
        )
    source = find_source(dataset, stream, classes, allow_pipe)
    from alexnet_cli.inference.describe import published_results
    from alexnet_cli.inference.evaluate import EvalRequest
    from alexnet_cli.inference.evaluate import evaluate as measure
    from alexnet_cli.pretrained.names import find_model

    progress = console.ConsoleProgress()
    model = find_model(model, progress)
    runtime = runtime_config(device, gpus, columns, precision, join_minutes=join_minutes)
    request = EvalRequest(model, source, split, views, output, runtime, class_names)
    result = measure(request, progress)
    if result:  # None from a replica that is not the main one
        has_all = split == "val" and result.subset is None
        published = published_results(model) if has_all else []
        show({**asdict(result), "published": published}, as_json, show_eval)
        source.check_all_used()


def show_eval(result: dict) -> None:
    """Print the error rates."""
    from alexnet_cli.data.views import NAMES_OF_VIEWS

    print_line(f"[bold]{safe(result['model'])}[/] on {safe(result['dataset'])}")
    precision = "" if result["precision"] == "fp32" else f", {result['precision']}"
    table = error_table(f"{result['split']}: {counted(result['images'], 'image')}{precision}")
    views = NAMES_OF_VIEWS[result["views"]]
    if result["center"]:
        table.add_row("center view", *error_cells(result["center"]))
    table.add_row(views, *error_cells(result))
    for row in result.get("published", ()):
        errors = (f"{row['top1_error']:.2%}", f"{row['top5_error']:.2%}", "")
        table.add_row("published", *errors)
    if subset := result["subset"]:
        among = counted(subset["classes"], "class")
        table.add_section()
        if subset["center"]:
            table.add_row(f"center view, {among}", *error_cells(subset["center"]))
        table.add_row(f"{views}, {among}", *error_cells(subset))
    print_rich(table)
    print_line(INTERVALS)
    for row in result.get("published", ()):
        print_line(f"published: {row['protocol']} ({safe(row['source'])})")
    if result["subset"]:
        print_line(some_of(result))
    if result["matched_by"] != "order":
        print_line(f"classes matched by {result['matched_by']}")
    if line := decode_line(result["decode_rules"]):
        print_line(line)


def decode_line(rules: dict) -> str:
    """Return in what the decoding of a network's images and of a dataset's differs, if it does."""
    texts = {
        "apply_orientation": lambda value: "as EXIF says" if value else "not turned",
        "gray_bits": lambda value: f"{value or 16} bits",
    }
    words = {"apply_orientation": "orientation", "gray_bits": "wide gray images"}
    model, dataset = rules["model"], rules["dataset"]
    differing = [
        f"{words[name]}: {text(model[name])} and {text(dataset[name])}"
        for name, text in texts.items()
        if text(model[name]) != text(dataset[name])
    ]
    if not differing:
        return ""
    return (
        f"[yellow]images of network and dataset were decoded differently:[/] {'; '.join(differing)}"
    )
