"""`alexnet import`: published weights of torchvision or Caffe become a checkpoint."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from alexnet_cli.cli import console
from alexnet_cli.cli.console import print_line, safe
from alexnet_cli.cli.options import AsJson
from alexnet_cli.cli.tables import show
from alexnet_cli.errors import counted


def import_weights(
    source: Annotated[
        str,
        typer.Argument(
            metavar="NAME|FILE",
            help="torchvision or bvlc, which are fetched; or a .pth file of torchvision's alexnet, "
            "a .caffemodel, bvlcalexnet-12.onnx of the ONNX model zoo, or an .onnx file of export.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", help="Checkpoint to write, by default runs/NAME/best.safetensors."
        ),
    ] = None,
    mean: Annotated[
        Path | None,
        typer.Option(help="Mean image of a Caffe network, .binaryproto; by default its color."),
    ] = None,
    classes: Annotated[
        Path | None,
        typer.Option(
            help="File of class names, one per line, in label order; by default ImageNet's 1,000."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make a checkpoint of published weights: torchvision's alexnet, BVLC AlexNet, CaffeNet."""
    from alexnet_cli.pretrained import importer as verb

    path = output or verb.default_output(source)
    request = verb.ImportRequest(source, path, mean, classes, force)
    result = verb.import_weights(request, console.ConsoleProgress())
    show(asdict(result), as_json, show_import)


def show_import(result: dict) -> None:
    """Print what was written, and what can be done with it."""
    path = safe(result["checkpoint"])
    print_line(
        f"[bold]{path}[/]: recipe {result['recipe']}, {counted(result['classes'], 'class')}, "
        f"{counted(result['parameters'], 'parameter')}"
    )
    print_line(f"from {safe(result['source'])}, SHA-256 {result['sha256']}")
    print_line(f"try: alexnet predict IMAGE --model {path}")
