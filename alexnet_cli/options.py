"""The arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated, Literal

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Device = Annotated[Literal["auto", "cuda", "cpu"], typer.Option(help="Where it runs.")]
Gpus = Annotated[
    int | None, typer.Option(min=1, help="2 splits the network over two devices, a column each.")
]
Views = Annotated[
    int, typer.Option(help="1 (centre), 9 (3 x 3), or 10 (corners, centre, mirrored).")
]
DatasetPath = Annotated[Path, typer.Argument(metavar="DATASET", help="A folder made by prep.")]
CheckpointPath = Annotated[
    Path, typer.Argument(metavar="CKPT", help="A .safetensors file of a run.")
]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Change a recipe's field.")
]
