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
    """Return the reference that DATASET and its options mean.

    Raises:
        UsageError: if nothing is fetched from URLs of this kind.
    """
    from alexnet_cli.data.dataset_ref import DatasetRef

    if (classes or allow_pipe) and not stream:
        name = "--classes" if classes else "--allow-pipe"
        raise typer.BadParameter("is for --stream.", param_hint=name)
    return DatasetRef.parse(text, stream=stream, classes=classes, allow_pipe=allow_pipe)


Run = Annotated[Path, typer.Option(help="Folder of the run, for example runs/paper.")]
RecipeName = Annotated[str | None, typer.Option(help="By default paper; see alexnet recipes.")]
Epochs = Annotated[int | None, typer.Option(min=1, help="Same as --set epochs=N.")]
InitFrom = Annotated[Path | None, typer.Option(help="Checkpoint whose layers the run begins with.")]
Replicated = Annotated[
    int | None,
    typer.Option("--gpus", min=1, help="2 hold a column each; 4 two replicas of that, and so on."),
]
Columns = Annotated[
    int | None, typer.Option(min=1, max=2, help="1: every GPU a replica of the whole network.")
]
Precision = Annotated[
    Literal["fp32", "tf32", "bf16"],
    typer.Option(help="Arithmetic of the forward and backward passes; weights stay fp32."),
]
Compiled = Annotated[bool, typer.Option("--compile", help="Let torch.compile make the kernels.")]
Cache = Annotated[
    Literal["raw"] | None,
    typer.Option(help="raw: decode all images once into a file, 197 kB per image, and read that."),
]
SaveMinutes = Annotated[
    float, typer.Option(min=0, help="Between checkpoints within an epoch; 0 for none.")
]
SaveSteps = Annotated[int, typer.Option(min=0, help="The same in updates.")]
Tensorboard = Annotated[
    bool, typer.Option("--tensorboard", help="Also draw curves: RUN/tensorboard.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on where the run stopped.")]
AllowDataChange = Annotated[
    bool, typer.Option("--allow-data-change", help="With --resume: go on with other images.")
]


def wanted_recipe(name: str | None, settings: list[str], epochs: int | None):
    from dataclasses import replace

    from alexnet_cli.recipes.catalog import find_recipe
    from alexnet_cli.recipes.overrides import with_settings

    wanted = with_settings(find_recipe(name or "paper"), settings)
    return replace(wanted, epochs=epochs) if epochs else wanted


def check_views(views: int | None) -> None:
    if views not in (None, 1, 9, 10):
        raise typer.BadParameter(f"{views} is none of 1, 9 and 10.", param_hint="--views")
