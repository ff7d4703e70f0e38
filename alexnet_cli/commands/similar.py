"""`alexnet similar`: the images of an index that are most similar to one."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.table import Table

from alexnet_cli.cli import console
from alexnet_cli.cli.console import print_rich, safe
from alexnet_cli.cli.options import AsJson, Device, complete_model
from alexnet_cli.cli.tables import show
from alexnet_cli.errors import counted


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


def show_similar(result: dict) -> None:
    """Print the nearest images with their distances."""
    table = Table(title=f"{safe(result['image'])}: nearest of {counted(result['images'], 'image')}")
    table.add_column("image", no_wrap=True)
    table.add_column("class")
    table.add_column("distance", justify="right")
    for row in result["nearest"]:
        name = (row["name"] or "").split(",")[0]
        table.add_row(safe(row["image"]), safe(name), f"{row['distance']:.2f}")
    print_rich(table)
