"""The arguments and options that several commands share."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from alexnet_cli.errors import UsageError

if TYPE_CHECKING:
    from alexnet_cli.data.dataset_ref import DatasetRef
    from alexnet_cli.distributed.runtime_config import RuntimeConfig
    from alexnet_cli.recipes.recipe import Recipe


def complete_recipe(incomplete: str) -> list[tuple[str, str]]:
    """Return the recipes whose name begins so, with what each is for, for shell completion."""
    from alexnet_cli.recipes.catalog import NAMED_RECIPES

    return [
        (name, entry.summary)
        for name, entry in NAMED_RECIPES.items()
        if name.startswith(incomplete)
    ]


def complete_run(incomplete: str) -> list[str]:
    """Return the run folders below runs/ whose path begins so, for shell completion."""
    found = (str(path.parent) for path in Path("runs").glob("*/recipe.json"))
    return sorted(path for path in found if path.startswith(incomplete))


def complete_model(incomplete: str) -> list[str]:
    """Return what names a network and begins so, for shell completion."""
    from alexnet_cli.pretrained.names import NAMES

    files = (str(path) for path in Path().glob("*.onnx"))
    return [
        name for name in (*NAMES, *complete_run(incomplete), *files) if name.startswith(incomplete)
    ]


AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]


def complete_device(incomplete: str) -> list[str]:
    """Return the kinds of devices that begin so, for shell completion."""
    return [kind for kind in ("auto", "cuda", "mps", "cpu") if kind.startswith(incomplete)]


def _check_device(device: str) -> str:
    from alexnet_cli.cli.hints import sentence
    from alexnet_cli.distributed.runtime_config import kind_and_index

    try:
        kind_and_index(device)
    except UsageError as error:
        text = f"{error.problem} {sentence(error.hint)}".strip()
        raise typer.BadParameter(text, param_hint="--device") from error
    return device


Device = Annotated[
    str,
    typer.Option(
        metavar="auto|cuda|cuda:N|mps|cpu",
        envvar="ALEXNET_DEVICE",
        callback=_check_device,
        autocompletion=complete_device,
        help="Device to run on: cuda is any NVIDIA GPU, cuda:1 the second one, mps the GPU of a "
        "Mac. auto uses a GPU if there is one.",
    ),
]
Gpus = Annotated[
    int | None,
    typer.Option(
        min=1, help="Number of GPUs; 2 splits the network as in the paper, one column on each."
    ),
]
Views = Annotated[
    int,
    typer.Option(
        help="Crops to average: 1 (center), 9 (3 x 3) or 10 (corners and center, mirrored too)."
    ),
]


def _folder(text: str) -> Path:
    if "://" in text:
        raise typer.BadParameter(
            f"{text} is a URL. Name a folder; files from a URL are checked while they are fetched."
        )
    return Path(text)


DatasetPath = Annotated[
    Path,
    typer.Argument(metavar="DATASET", parser=_folder, help="Folder of a dataset that prep made."),
]
DatasetSource = Annotated[
    str, typer.Argument(metavar="DATASET", help="Folder or URL of a dataset that prep made.")
]
Stream = Annotated[
    bool,
    typer.Option(
        "--stream", help="Read DATASET as WebDataset tars that prep did not make: name-{00..99}.tar"
    ),
]
Classes = Annotated[
    Path | None,
    typer.Option(
        "--classes", help="With --stream: file of class names, one per line, in label order."
    ),
]
Layout = Annotated[
    Literal[
        "archives", "kaggle", "parquet", "webdataset", "cifar", "synset-tars", "packed", "folders"
    ]
    | None,
    typer.Option(help="Layout of SOURCE; by default it is recognized."),
]
FollowLinks = Annotated[
    bool,
    typer.Option(
        "--follow-links", help="Follow symbolic links that lead out of the class folders."
    ),
]
AllowEmptyClass = Annotated[
    bool,
    typer.Option(
        "--allow-empty-class",
        help="Keep classes without images, so that labels keep their numbers.",
    ),
]
AllowPipe = Annotated[
    bool,
    typer.Option("--allow-pipe", help="With --stream: allow pipe:COMMAND, which runs in a shell."),
]
MODEL = (
    "checkpoint, run folder (for its best checkpoint), ONNX file, or the name of published "
    "weights: torchvision or bvlc."
)
ModelPath = Annotated[
    Path,
    typer.Argument(
        metavar="MODEL", help=f"A trained network: {MODEL}", autocompletion=complete_model
    ),
]
PredictionsOrModel = Annotated[
    Path,
    typer.Argument(
        metavar="PREDICTIONS|MODEL",
        help=f"Predictions file (.npz) of eval; or a trained network: {MODEL}",
        autocompletion=complete_model,
    ),
]
DatasetOfModel = Annotated[
    str | None,
    typer.Argument(metavar="DATASET", help="Folder or URL of a dataset, for a model."),
]
Subset = Annotated[
    bool,
    typer.Option("--subset", help="Leave out classes of the network that the data has not."),
]
SplitName = Annotated[str, typer.Option(help="Split of the dataset: train, val or test.")]
ClassNames = Annotated[
    Path | None,
    typer.Option(
        help="File that says what the classes of DATASET are called: its first line names folder "
        "or label 0."
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="FIELD=VALUE",
        help="Change one field of the recipe, which alexnet recipes NAME lists; can be repeated.",
    ),
]


def find_source(text: str, stream: bool, classes: Path | None, allow_pipe: bool) -> "DatasetRef":
    """Return the reference that DATASET and its options mean.

    Raises:
        UsageError: if nothing is fetched from URLs of this kind.
    """
    from alexnet_cli.data.dataset_ref import DatasetRef

    if (classes or allow_pipe) and not stream:
        name = "--classes" if classes else "--allow-pipe"
        raise typer.BadParameter("is for --stream.", param_hint=name)
    return DatasetRef.parse(text, stream=stream, classes=classes, allow_pipe=allow_pipe)


Run = Annotated[
    Path | None,
    typer.Option(
        help="Folder for the run's files; by default runs/RECIPE, or runs/RECIPE-2 and so on.",
        autocompletion=complete_run,
    ),
]
RecipeName = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FILE",
        help="Recipe: a name that alexnet recipes lists, or a .json file; by default paper.",
        autocompletion=complete_recipe,
    ),
]
Epochs = Annotated[
    int | None, typer.Option(min=1, help="Number of epochs, instead of the recipe's.")
]
LearningRate = Annotated[
    float | None,
    typer.Option("--lr", help="Learning rate to begin with; the same as --set learning_rate=."),
]
BatchSize = Annotated[
    int | None,
    typer.Option("--batch-size", help="Images per update; the same as --set batch_size=."),
]
Seed = Annotated[
    int | None, typer.Option("--seed", help="Of all random numbers; the same as --set seed=.")
]
DrawSeed = Annotated[
    int, typer.Option(min=0, help="Draws the images at random; another seed, other images.")
]
Theme = Annotated[Literal["light", "dark"], typer.Option(help="Light or dark background.")]
InitFrom = Annotated[
    Path | None,
    typer.Option(
        metavar="MODEL",
        help=f"Network whose layers initialize this run: {MODEL}",
        autocompletion=complete_model,
    ),
]
Freeze = Annotated[
    str | None,
    typer.Option(
        metavar="LAYERS",
        help="Layers of --init-from whose weights stay as they are: conv1-conv5, or conv1,conv2.",
    ),
]
Replicated = Annotated[
    int | None,
    typer.Option(
        "--gpus",
        min=1,
        help="Number of GPUs; 2 split the network as in the paper, 4 are two replicas of a pair.",
    ),
]
Columns = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=2,
        help="GPUs per copy of the network: 2 splits it as in the paper, 1 keeps it whole.",
    ),
]
Precision = Annotated[
    Literal["fp32", "tf32", "bf16"],
    typer.Option(help="Arithmetic of the forward and backward passes; weights stay in fp32."),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=1,
        help="Threads or processes of each replica that read and decode images; by default one "
        "per CPU core.",
    ),
]
Compiled = Annotated[
    bool, typer.Option("--compile", help="Compile the network with torch.compile.")
]
JoinMinutes = Annotated[
    float | None,
    typer.Option(
        min=0,
        help="With several machines: minutes to wait until all replicas have started; 30 by "
        "default.",
    ),
]
Cache = Annotated[
    Literal["raw"] | None,
    typer.Option(
        help="raw decodes all images once into one file (197 kB per image) and reads that."
    ),
]
SaveMinutes = Annotated[
    float,
    typer.Option(
        min=0, help="Minutes between checkpoints within an epoch; 0 saves at epoch ends only."
    ),
]
SaveSteps = Annotated[
    int,
    typer.Option(
        min=0, help="Updates between checkpoints within an epoch; 0 saves at epoch ends only."
    ),
]
Loggers = Annotated[
    str | None,
    typer.Option(
        "--log",
        metavar="NAME,...",
        help="Also draw the metrics with tensorboard (in RUN/tensorboard), wandb or mlflow; "
        "several with commas.",
    ),
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Continue the run from its last checkpoint.")
]
AllowDataChange = Annotated[
    bool,
    typer.Option(
        "--allow-data-change",
        help="With --resume: continue on another dataset of the same classes.",
    ),
]


def unused_folder(first: Path) -> Path:
    """Return `first`, or the same name with -2, -3 and so on, if that exists."""
    folder, number = first, 2
    while folder.exists():
        folder, number = first.with_name(f"{first.name}-{number}"), number + 1
    return folder


def settings_of(settings: list[str] | None, **shortcuts: float | None) -> list[str]:
    """Return the settings of the command line and those of its shortcuts that are given.

    Raises:
        BadParameter: if a shortcut and a setting are given for one field.
    """
    from alexnet_cli.recipes.overrides import field_of

    found = list(settings or [])
    for field, value in shortcuts.items():
        if value is None:
            continue
        if any(field_of(setting) == field for setting in found):
            raise typer.BadParameter(f"{field} is given twice.", param_hint="--set")
        found.append(f"{field}={value}")
    return found


def wanted_recipe(
    name: str | None,
    settings: list[str],
    epochs: int | None,
    network: "Recipe | None" = None,
    freeze: str | None = None,
) -> "Recipe":
    """Return the named recipe with the changes of the command line.

    Args:
        network: the recipe whose network `finetune` trains.
        freeze: layers that keep their weights: `conv1-conv5` or `conv1,conv2`.
    """
    from dataclasses import replace

    from alexnet_cli.recipes.catalog import find_recipe
    from alexnet_cli.recipes.overrides import layers_between, with_settings
    from alexnet_cli.recipes.small import finetune_of

    named = finetune_of(network) if network and name == "finetune" else find_recipe(name or "paper")
    wanted = with_settings(named, settings)
    if freeze:
        wanted = replace(wanted, frozen=layers_between(wanted, freeze))
    return replace(wanted, epochs=epochs) if epochs else wanted


def runtime_config(
    device: str,
    gpus: int | None = None,
    columns: int | None = None,
    precision: str = "fp32",
    compiled: bool = False,
    join_minutes: float | None = None,
) -> "RuntimeConfig":
    """Return where and how a command computes, from its options."""
    from dataclasses import replace

    from alexnet_cli.distributed.runtime_config import RuntimeConfig

    config = RuntimeConfig(device, gpus, columns, precision, compiled)
    return config if join_minutes is None else replace(config, join_minutes=join_minutes)


def check_views(views: int | None) -> None:
    """Raise BadParameter unless views is a supported number."""
    if views not in (None, 1, 9, 10):
        raise typer.BadParameter(f"{views} is not 1, 9 or 10.", param_hint="--views")
