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
    int, typer.Option(help="1 (center), 9 (3 x 3), or 10 (corners, center, mirrored).")
]


def _folder(text: str) -> Path:
    if "://" in text:
        raise typer.BadParameter(
            f"{text} is a URL. Name a folder; what comes from a URL is checked as it comes."
        )
    return Path(text)


DatasetPath = Annotated[
    Path, typer.Argument(metavar="DATASET", parser=_folder, help="A folder made by prep.")
]
DatasetSource = Annotated[
    str, typer.Argument(metavar="DATASET", help="A folder made by prep, or its URL.")
]
Stream = Annotated[
    bool, typer.Option("--stream", help="DATASET is tars that prep did not make: name-{00..99}.tar")
]
Classes = Annotated[
    Path | None, typer.Option("--classes", help="With --stream: class names in label order.")
]
Layout = Annotated[
    Literal["archives", "kaggle", "parquet", "webdataset", "cifar", "synset-tars", "folders"]
    | None,
    typer.Option(help="How SOURCE is laid out; by default found out by looking."),
]
FollowLinks = Annotated[
    bool, typer.Option("--follow-links", help="Follow links that lead out of class folders.")
]
AllowEmptyClass = Annotated[
    bool, typer.Option("--allow-empty-class", help="Keep classes without an image, and numbers.")
]
AllowPipe = Annotated[
    bool, typer.Option("--allow-pipe", help="With --stream: run pipe:COMMAND in a shell.")
]
CheckpointPath = Annotated[
    Path, typer.Argument(metavar="CKPT", help="A .safetensors file of a run.")
]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Change a recipe's field.")
]


def find_source(text: str, stream: bool, classes: Path | None, allow_pipe: bool):
    """Return what DATASET and its options name: a path, a URL, or tars to stream.

    Raises:
        UsageError: a URL that is not supported.
    """
    from alexnet_cli.data.remote.files import location
    from alexnet_cli.data.remote.tar_set import TarSet

    if stream:
        return TarSet(text, classes, allow_pipe)
    if classes or allow_pipe:
        name = "--classes" if classes else "--allow-pipe"
        raise typer.BadParameter("is for --stream.", param_hint=name)
    return location(text)
