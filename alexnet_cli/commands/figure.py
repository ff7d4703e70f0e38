"""`alexnet figure`: the paper's pictures, and pictures of why a network decides."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from alexnet_cli.cli import console
from alexnet_cli.cli.command import Command
from alexnet_cli.cli.console import print_line, safe
from alexnet_cli.cli.options import (
    AsJson,
    ClassNames,
    DatasetOfModel,
    Device,
    DrawSeed,
    ModelPath,
    PredictionsOrModel,
    SplitName,
    Subset,
    Theme,
    Views,
    check_views,
    complete_run,
    runtime_config,
)
from alexnet_cli.cli.tables import show
from alexnet_cli.errors import counted

if TYPE_CHECKING:
    from alexnet_cli.figures.style import FigureFile

app = typer.Typer(
    no_args_is_help=True, help="Draw a figure of a network, a run or a dataset: PNG, SVG or PDF."
)

Out = Annotated[Path, typer.Option("--output", "-o", help="File to write: .png, .svg or .pdf.")]
ImageFile = Annotated[Path, typer.Argument(metavar="IMAGE", help="Image file.")]
DatasetName = Annotated[
    str, typer.Argument(metavar="DATASET", help="Folder or URL of a dataset that prep made.")
]


@app.command(cls=Command)
def filters(
    model: ModelPath,
    out: Out = Path("filters.png"),
    normalize_each: Annotated[
        bool,
        typer.Option(
            "--normalize-each", help="Give each kernel its own gray scale, so that weak ones show."
        ),
    ] = False,
    theme: Theme = "light",
    as_json: AsJson = False,
) -> None:
    """Draw the kernels of the first layer, those of each column apart (Figure 3)."""
    from alexnet_cli.figures.filters import FiltersRequest, draw_filters

    _show(draw_filters(FiltersRequest(_find(model), out, normalize_each, theme)), as_json)


@app.command(cls=Command)
def predictions(
    model: ModelPath,
    dataset: DatasetName,
    out: Out = Path("predictions.png"),
    split: Annotated[str, typer.Option(help="Split of the images.")] = "val",
    count: Annotated[int, typer.Option(min=1, max=64, help="Number of images.")] = 8,
    only_errors: Annotated[
        bool, typer.Option("--only-errors", help="Show only images that are classified wrongly.")
    ] = False,
    seed: DrawSeed = 0,
    theme: Theme = "light",
    as_json: AsJson = False,
) -> None:
    """Draw images with their five most probable classes (Figure 4, left)."""
    from alexnet_cli.data.dataset_ref import DatasetRef
    from alexnet_cli.figures.predictions import PredictionsRequest, draw_predictions

    ref = DatasetRef.parse(dataset)
    request = PredictionsRequest(_find(model), ref, out, split, count, seed, only_errors, theme)
    _show(draw_predictions(request), as_json)


@app.command(cls=Command)
def neighbors(
    model: ModelPath,
    dataset: DatasetName,
    out: Out = Path("neighbors.png"),
    queries: Annotated[str, typer.Option(help="Split of the images in the first column.")] = "val",
    split: Annotated[str, typer.Option(help="Split of their neighbors.")] = "train",
    count: Annotated[int, typer.Option(min=1, max=32, help="Number of rows.")] = 5,
    seed: DrawSeed = 0,
    theme: Theme = "light",
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Draw images beside the training images nearest in feature space (Figure 4, right)."""
    from alexnet_cli.data.dataset_ref import DatasetRef
    from alexnet_cli.figures.neighbors import NeighborsRequest, draw_neighbors

    request = NeighborsRequest(
        _find(model),
        DatasetRef.parse(dataset),
        out,
        queries,
        split,
        count,
        seed=seed,
        theme=theme,
        runtime=runtime_config(device, None),
    )
    _show(draw_neighbors(request, console.ConsoleProgress()), as_json)


@app.command(cls=Command)
def confusion(
    source: PredictionsOrModel,
    dataset: DatasetOfModel = None,
    out: Out = Path("confusion.png"),
    split: SplitName = "val",
    class_names: ClassNames = None,
    views: Views = 10,
    subset: Subset = False,
    theme: Theme = "light",
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Draw which classes a network takes for which; of many, the most confused ones."""
    check_views(views)
    from alexnet_cli.figures.confusion import ConfusionRequest, draw_confusion

    request, progress = None, console.ConsoleProgress()
    if dataset is not None:
        from alexnet_cli.data.dataset_ref import DatasetRef
        from alexnet_cli.inference.evaluate import EvalRequest

        source, ref = _find(source), DatasetRef.parse(dataset)
        runtime = runtime_config(device)
        request = EvalRequest(source, ref, split, views, None, runtime, class_names)
    figure = draw_confusion(ConfusionRequest(source, out, request, subset, theme), progress)
    if figure:  # None from a replica that is not the main one
        _show(figure, as_json)


@app.command(cls=Command)
def curves(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN", help="Folders of runs.", autocompletion=complete_run),
    ],
    out: Out = Path("curves.png"),
    theme: Theme = "light",
    as_json: AsJson = False,
) -> None:
    """Draw loss, errors and learning rate of runs against epochs."""
    from alexnet_cli.figures.curves import CurvesRequest, draw_curves

    _show(draw_curves(CurvesRequest(tuple(runs), out, theme)), as_json)


@app.command(cls=Command)
def ablations(
    results: Annotated[
        Path,
        typer.Argument(metavar="RESULTS", help="results.json of a table of alexnet reproduce."),
    ],
    out: Out = Path("ablations.png"),
    theme: Theme = "light",
    as_json: AsJson = False,
) -> None:
    """Draw the errors of a reproduced table beside the paper's, with intervals."""
    from alexnet_cli.figures.ablations import AblationsRequest, draw_ablations

    _show(draw_ablations(AblationsRequest(results, out, theme)), as_json)


@app.command(cls=Command)
def activations(
    model: ModelPath,
    image: ImageFile,
    out: Out = Path("activations.png"),
    layer: Annotated[
        str | None,
        typer.Option(help="Layer, as alexnet info names it; by default the first activation."),
    ] = None,
    theme: Theme = "light",
    as_json: AsJson = False,
) -> None:
    """Draw what each kernel of a layer answers to an image."""
    from alexnet_cli.figures.activations import ActivationsRequest, draw_activations

    _show(draw_activations(ActivationsRequest(_find(model), image, out, layer, theme)), as_json)


@app.command(cls=Command)
def explain(
    model: ModelPath,
    image: ImageFile,
    out: Out = Path("explain.png"),
    method: Annotated[
        Literal["gradcam", "occlusion", "saliency"],
        typer.Option(
            help="gradcam: where conv5 speaks for the class. occlusion: how much its score falls "
            "where the image is covered. saliency: how fast it changes with each pixel."
        ),
    ] = "gradcam",
    wanted: Annotated[
        str | None,
        typer.Option(
            "--class", help="Class to explain, by name or wnid; by default the most probable one."
        ),
    ] = None,
    theme: Theme = "light",
    as_json: AsJson = False,
) -> None:
    """Draw where the network, and each of its columns, looks to find a class."""
    from alexnet_cli.figures.explain import ExplainRequest, draw_explanation

    _show(
        draw_explanation(ExplainRequest(_find(model), image, out, method, wanted, theme)), as_json
    )


def _find(model: Path) -> Path:
    from alexnet_cli.pretrained.names import find_model

    return find_model(model, console.ConsoleProgress())


def _show(figure: "FigureFile", as_json: bool) -> None:
    show(asdict(figure), as_json, show_figure)


def show_figure(result: dict) -> None:
    """Print the file that was written, and what it shows in numbers."""
    print_line(f"[bold]{safe(result['path'])}[/]: {result['kind']}")
    for name, value in result["numbers"].items():
        print_line(f"  {name.replace('_', ' ')}: {safe(_text(value))}")


def _text(value: object) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{key}: {_text(inner)}" for key, inner in value.items())
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return counted(len(value), "row")
    if isinstance(value, list) and len(value) > 8 and isinstance(value[0], list):
        return counted(len(value), "row")
    if isinstance(value, list):
        return ", ".join(_text(inner) for inner in value[:8]) + (", ..." if value[8:] else "")
    return f"{value:.6g}" if isinstance(value, float) else str(value)
