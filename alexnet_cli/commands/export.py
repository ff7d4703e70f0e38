"""`alexnet export`: a checkpoint becomes one ONNX file."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from alexnet_cli.cli import console
from alexnet_cli.cli.console import print_line, safe
from alexnet_cli.cli.options import AsJson, ModelPath, Views, check_views
from alexnet_cli.cli.tables import show
from alexnet_cli.errors import counted


def export(
    model: ModelPath,
    output: Annotated[Path, typer.Option("-o", "--output", help="The .onnx file to write.")],
    views: Views = 1,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write one ONNX file that maps uint8 images to class probabilities."""
    check_views(views)
    from alexnet_cli.inference import export as verb
    from alexnet_cli.pretrained.names import find_model

    progress = console.ConsoleProgress()
    found = find_model(model, progress)
    result = verb.export(found, output, num_views=views, force=force, progress=progress)
    show(asdict(result), as_json, show_export)


def show_export(result: dict) -> None:
    """Print what was written and how much it differs from torch."""
    from alexnet_cli.data.views import NAMES_OF_VIEWS

    views = NAMES_OF_VIEWS[result["views"]]
    about = f"{result['bytes'] / 1e6:.0f} MB, {counted(result['classes'], 'class')}, {views}"
    print_line(f"[bold]{safe(result['onnx'])}[/]: {about}, opset {result['opset']}")
    differing = result["top1_differing"]
    first = (
        f"another first class for {differing} by a near tie" if differing else "same first class"
    )
    print_line(
        f"{counted(result['checked'], 'image')}: probabilities within "
        f"{result['max_abs_difference']:.1e} "
        f"of torch's, {first}"
    )
