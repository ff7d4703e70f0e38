"""`alexnet features`: an index of images by what a network sees in them."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from alexnet_cli.cli import console
from alexnet_cli.cli.console import print_line, safe
from alexnet_cli.cli.options import AsJson, Device, ModelPath
from alexnet_cli.cli.tables import show
from alexnet_cli.errors import counted


def features(
    model: ModelPath,
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA", help="Folder or URL of a dataset that prep made; or a folder of images."
        ),
    ],
    out: Annotated[
        Path, typer.Option("--output", "-o", metavar="INDEX", help="New folder for the index.")
    ],
    split: Annotated[str, typer.Option(help="Split of a dataset: train, val or test.")] = "train",
    bits: Annotated[int, typer.Option(help="Bits of a binary code, a multiple of 64.")] = 256,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Write what the last hidden layer answers to images, to search for similar ones."""
    from alexnet_cli.inference.feature_index import FeaturesRequest, check_all_read, make_index
    from alexnet_cli.pretrained.names import find_model

    progress = console.ConsoleProgress()
    request = FeaturesRequest(find_model(model, progress), data, out, split, bits, device)
    info = make_index(request, progress)
    show(asdict(info), as_json, show_features)
    check_all_read(info)


def show_features(result: dict) -> None:
    """Print what the index holds, and how well it finds images of the same class."""
    print_line(
        f"[bold]{safe(result['index'])}[/]: {counted(result['images'], 'image')}, "
        f"{result['units']:,} "
        f"values of {safe(result['layer'])} and {result['bits']} bits each, "
        f"{result['bytes'] / 1e6:,.1f} MB"
    )
    if found := result["precision"]:
        print_line(
            f"of the {found['k']} nearest images {found['exact']:.1%} have the class of the image "
            f"searched for, {found['codes']:.1%} by codes alone, {found['chance']:.1%} by chance "
            f"({counted(found['queries'], 'image')})"
        )
