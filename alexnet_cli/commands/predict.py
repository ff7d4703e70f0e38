"""`alexnet predict`: class names and probabilities of image files."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from alexnet_cli.cli import console
from alexnet_cli.cli.console import print_line, safe
from alexnet_cli.cli.options import AsJson, Device, check_views
from alexnet_cli.cli.tables import show

BAR_WIDTH = 30


def predict(
    images: Annotated[
        list[str], typer.Argument(metavar="IMAGE...", help="Image files, folders or glob patterns.")
    ],
    model: Annotated[
        Path | None,
        typer.Option(
            help="Checkpoint, run folder, .onnx file, torchvision or bvlc; by default the best "
            "checkpoint of the newest run."
        ),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Number of classes to show per image.")] = 5,
    views: Annotated[
        int | None,
        typer.Option(help="Crops to average over: 1, 9 or 10; an .onnx file has its own number."),
    ] = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Classify image files."""
    check_views(views)
    from alexnet_cli.inference import predict as verb
    from alexnet_cli.pretrained.names import find_model

    progress = console.ConsoleProgress()
    result = verb.predict(
        images,
        find_model(model, progress) if model else None,
        num_top=top,
        num_views=views,
        device=device,
        progress=progress,
    )
    show(result.to_json(), as_json, show_predict)
    result.check_all_read()


def show_predict(result: dict) -> None:
    """Print names and probabilities with bars, one block per image."""
    block = "#" if "utf" not in (sys.stdout.encoding or "").lower() else "\u2588"
    for entry in result["images"]:
        print_line(f"[bold]{safe(entry['image'])}[/]")
        if "error" in entry:
            print_line(f"  [red]{safe(entry['error'])}[/]")
        for row in entry.get("predictions", ()):
            bar = block * round(BAR_WIDTH * row["probability"])
            name = f"{safe(row['name'].split(',')[0])} ({safe(row['wnid'])})"
            print_line(f"  {row['probability']:6.1%} [green]{bar:<{BAR_WIDTH}}[/] {name}")
    for kind, count in result["ignored"].items():
        print_line(f"passed over: {count:,} {safe(kind)}")
