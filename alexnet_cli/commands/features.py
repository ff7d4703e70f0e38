"""`alexnet features` and `alexnet similar`: an index of images by what a network sees in them."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.table import Table

from alexnet_cli.cli import console
from alexnet_cli.cli.console import print_line, print_rich, safe
from alexnet_cli.cli.options import AsJson, Device, ModelPath, complete_model
from alexnet_cli.cli.tables import show


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


def similar(
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="Image file.")],
    index: Annotated[Path, typer.Option(help="Index that alexnet features wrote.")],
    model: Annotated[
        Path | None,
        typer.Option(
            metavar="MODEL",
            help="Network of the index, if it has moved since the index was made.",
            autocompletion=complete_model,
        ),
    ] = None,
    top: Annotated[int, typer.Option("--top", "-k", min=1, help="Number of images to find.")] = 10,
    method: Annotated[
        Literal["exact", "codes"],
        typer.Option(
            help="exact compares every feature; codes compares binary codes first, and then the "
            "features of the images with the most similar ones."
        ),
    ] = "exact",
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Find the images of an index that a network sees as most similar to an image."""
    from alexnet_cli.inference.feature_index import find_similar
    from alexnet_cli.pretrained.names import find_model

    result = find_similar(
        image,
        index,
        model_path=find_model(model, console.ConsoleProgress()) if model else None,
        count=top,
        by_codes=method == "codes",
        device=device,
    )
    show(asdict(result), as_json, show_similar)


def show_features(result: dict) -> None:
    """Print what the index holds, and how well it finds images of the same class."""
    print_line(
        f"[bold]{safe(result['index'])}[/]: {result['images']:,} images, {result['units']:,} "
        f"values of {safe(result['layer'])} and {result['bits']} bits each, "
        f"{result['bytes'] / 1e6:,.1f} MB"
    )
    if found := result["precision"]:
        print_line(
            f"of the {found['k']} nearest images {found['exact']:.1%} have the class of the image "
            f"searched for, {found['codes']:.1%} by codes alone, {found['chance']:.1%} by chance "
            f"({found['queries']:,} images)"
        )


def show_similar(result: dict) -> None:
    """Print the nearest images with their distances."""
    table = Table(title=f"{safe(result['image'])}: nearest of {result['images']:,} images")
    table.add_column("image", no_wrap=True)
    table.add_column("class")
    table.add_column("distance", justify="right")
    for row in result["nearest"]:
        name = (row["name"] or "").split(",")[0]
        table.add_row(safe(row["image"]), safe(name), f"{row['distance']:.2f}")
    print_rich(table)
