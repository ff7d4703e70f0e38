"""One page about a run or a predictions file: HTML without scripts that loads nothing.

The page's policy forbids every request, and every text from data is escaped. Figures are SVG inside
the page, whose ink and background follow the reader's light or dark scheme.
"""

import base64
import io
import platform
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from jinja2 import Environment, PackageLoader
from markupsafe import Markup
from matplotlib.figure import Figure
from PIL import Image

from alexnet_cli.data.dataset_ref import DatasetRef
from alexnet_cli.data.imagenet_classes import shown_name
from alexnet_cli.data.shards.dataset import Dataset, Split
from alexnet_cli.data.views import NAMES_OF_VIEWS
from alexnet_cli.errors import InputError, UsageError, counted, hint
from alexnet_cli.figures.curves import curves_figure
from alexnet_cli.figures.explain import explanation_figure
from alexnet_cli.figures.filters import filters_figure
from alexnet_cli.figures.style import INK, RIGHT, WRONG, short_name, styled
from alexnet_cli.inference.evaluate import EvalRequest, predict_dataset
from alexnet_cli.inference.metrics import measured
from alexnet_cli.inference.mistakes import MistakesResult, mistakes_in
from alexnet_cli.inference.network import load_network
from alexnet_cli.inference.on_cpu import load_on_cpu
from alexnet_cli.inference.predictions import Predictions, load_predictions
from alexnet_cli.io.atomic import check_output, write_output
from alexnet_cli.io.progress import SILENT, Progress
from alexnet_cli.model.architecture import parameter_shapes
from alexnet_cli.model.checkpoint import Checkpoint, checkpoint_file
from alexnet_cli.pretrained.names import is_predictions
from alexnet_cli.recipes.catalog import NAMED_RECIPES
from alexnet_cli.recipes.recipe import Recipe
from alexnet_cli.training.run_directory import RunDirectory

THUMBNAIL = 144  # pixels
NUM_EXAMPLES = 6
NUM_ROWS = 10
Changes = list[tuple[str, Any, Any]]


@dataclass(frozen=True, slots=True)
class ReportRequest:
    """What to report.

    Attributes:
        source: a run folder, a checkpoint, an ONNX file, or a predictions file.
        dataset: to measure a run on and show images of; may be None.
        predictions: what the network of a run predicts, if `eval` has already written it.
        command_lines: returns the command lines that make the page again, from the recipe of a run
            (None for a predictions file) and the fields that differ from it.
        num_views: 1, 9 or 10 views for the errors.
    """

    source: Path
    out: Path
    dataset: DatasetRef | None = None
    split: str = "val"
    num_views: int = 10
    predictions: Path | None = None
    command_lines: Callable[[str | None, Changes], list[str]] = lambda recipe, changes: []


@dataclass(frozen=True, slots=True)
class ReportFile:
    """A report that was written: its path, its sections, and its size in bytes."""

    path: str
    sections: list[str]
    bytes: int


def write_report(request: ReportRequest, progress: Progress = SILENT) -> ReportFile:
    """Write the page.

    Raises:
        UsageError: if the name is not one of a page.
        AlexNetError: if the run, predictions or dataset cannot be read, or do not fit each other.
    """
    if request.out.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"{request.out}: a report is a .html file.", hint=hint("report_name"))
    check_output(request.out)
    changes: Changes = []
    parts: dict[str, Any] = {"name": request.source.name or str(request.source)}
    if is_predictions(request.source):
        predictions: Predictions | None = load_predictions(request.source)
        model = None
    else:
        model = checkpoint_file(request.source)
        checkpoint = load_network(model)
        parts |= _describe_run(request.source, checkpoint)
        changes = parts["changes"]
        predictions = _predict(request, model, checkpoint, progress)
    dataset = request.dataset.open((request.split,)) if request.dataset else None
    if predictions:
        parts |= _describe_errors(request, predictions, dataset)
        if model and dataset:
            parts |= _explain(model, dataset.split(request.split), predictions)
    parts["repeat"] = request.command_lines(parts["run"]["recipe"] if model else None, changes)
    page = _render(parts)
    with write_output(request.out) as file:
        file.write(page.encode())
    sections = ("run", "curves", "errors", "filters", "examples", "explained")
    written = [name for name in sections if parts.get(name)]
    return ReportFile(str(request.out), written, len(page.encode()))


def _predict(
    request: ReportRequest, model: Path, checkpoint: Checkpoint, progress: Progress
) -> Predictions | None:
    if path := request.predictions:
        found = load_predictions(path)
        if found.weights_hash != checkpoint.weights_hash():
            raise InputError(f"{path}: predictions of another network than {model}.")
        return found
    if request.dataset is None:
        return None
    evaluation = EvalRequest(model, request.dataset, request.split, request.num_views)
    return predict_dataset(evaluation, progress)


def _describe_run(source: Path, checkpoint: Checkpoint) -> dict[str, Any]:
    """Return what was trained, how it went, and what it learned to see."""
    recipe, state = checkpoint.recipe, checkpoint.train_state
    shapes = parameter_shapes(recipe, len(checkpoint.classes)).values()
    folder = RunDirectory(source if source.is_dir() else source.parent)
    rows = folder.rows()
    facts = {
        "recipe": recipe.name,
        "classes": f"{len(checkpoint.classes):,}",
        "parameters": f"{sum(int(np.prod(shape)) for shape in shapes):,}",
        "columns": str(recipe.columns),
        "finished epochs": f"{len(rows) or state.epoch} of {recipe.epochs}",
        "updates": f"{state.total_steps:,} of {recipe.batch_size} images",
        "dataset": checkpoint.fingerprint,
        "weights": checkpoint.weights_hash(),
        "trained with": checkpoint.tool,
    }
    if commits := list(dict.fromkeys(filter(None, map(_commit_of, folder.sessions())))):
        facts["source"] = ", ".join(commits)
    if origin := checkpoint.init_from:
        facts["first weights from"] = ", ".join(map(str, origin.values()))
    with styled("light"):
        filters, numbers = filters_figure(checkpoint)
        parts: dict[str, Any] = {
            "run": facts,
            "changes": _changes(recipe),
            "published": _published(recipe),
            "filters": _to_svg(filters, "filters", "Kernels of the first layer"),
            "color_index": numbers["color_index"],
        }
        if rows:
            label = "Log loss, top-1 error and learning rate of each epoch"
            parts["curves"] = _to_svg(curves_figure({str(folder.path): rows}), "curves", label)
            parts["speed"] = _speed(rows, folder.sessions())
    return parts


def _commit_of(session: dict) -> str:
    commit = session.get("commit")
    return f"commit {commit}{', modified' if session.get('modified') else ''}" if commit else ""


def _changes(recipe: Recipe) -> Changes:
    """Return the fields that differ from the named recipe: name, its value, the value used."""
    named = NAMED_RECIPES.get(recipe.name)
    if named is None:
        return []
    return [(name, *values) for name, values in recipe.changes_from(named.recipe).items()]


def _speed(rows: list[dict], sessions: list[dict]) -> dict[str, str]:
    """Return how fast a run was, and on what machine its last part was trained."""

    def median(key: str) -> float:
        return float(np.median([row[key] for row in rows if row.get(key) is not None] or [0]))

    trained_on = {}
    if sessions:
        last = sessions[-1]
        devices = last.get("devices")
        devices = ", ".join(map(str, devices)) if isinstance(devices, list) else "device not known"
        packages = last.get("packages")
        torch_version = packages.get("torch") if isinstance(packages, dict) else None
        trained_on["trained on"] = (
            f"{devices}, {last.get('cores')} CPU cores, {last.get('platform')}, "
            f"torch {torch_version}"
        )
    return {
        "images per second": f"{median('images_per_second'):,.0f} (median of the epochs)",
        "waiting for data": f"{median('data_wait'):.1%} of the time",
        "memory": f"{max(row.get('memory_mb') or 0 for row in rows):,} MB at most",
        **trained_on,
        "this page was made on": f"{platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}",
    }


def _describe_errors(
    request: ReportRequest, predictions: Predictions, dataset: Dataset | None
) -> dict[str, Any]:
    """Return the errors and the mistakes behind them."""
    num = len(predictions.keys)
    views = [NAMES_OF_VIEWS[predictions.views], "center view"]
    errors = [
        {"name": name, **asdict(measured(scores, num))}
        for name, scores in zip(views, predictions.scores(), strict=False)
    ]
    found = mistakes_in(predictions, str(request.source), NUM_ROWS)
    with_images = [row for row in found.classes if row.top1_error is not None]
    worst = sorted(with_images, key=lambda row: -(row.top1_error or 0))[:NUM_ROWS]
    parts: dict[str, Any] = {
        "errors": errors,
        "num_images": counted(num, "image"),
        "split": predictions.split,
        "worst": [row for row in worst if row.top1_error],
        "pairs": found.pairs,
    }
    if dataset:
        split = dataset.split(request.split)
        if tuple(split.keys()) != predictions.keys:
            raise InputError(
                f"{request.source} and {dataset.name} have different images in {request.split}.",
                hint="Name the dataset that the predictions were made on.",
            )
        parts["examples"] = _examples(split, predictions, found)
    return parts


def _published(recipe: Recipe) -> list[dict]:
    """Return the published errors of a recipe, as fractions."""
    named = NAMED_RECIPES.get(recipe.name)
    return [asdict(result.as_fractions()) for result in named.published] if named else []


def _examples(
    split: Split, predictions: Predictions, found: MistakesResult
) -> dict[str, list[dict]]:
    """Return right images, drawn at random, and the most confident mistakes."""
    predicted = predictions.probs.argmax(axis=1)
    right = np.flatnonzero(predicted == predictions.labels)
    right = np.random.default_rng(0).permutation(right)[:NUM_EXAMPLES]
    places = {key: place for place, key in enumerate(predictions.keys)}
    wrong = [places[row.image] for row in found.mistakes[:NUM_EXAMPLES]]
    names = [shown_name(*pair) for pair in zip(predictions.classes, predictions.names, strict=True)]
    return {
        "right": [_example(split, predictions, names, place) for place in right.tolist()],
        "wrong": [_example(split, predictions, names, place) for place in wrong],
    }


def _example(
    split: Split, predictions: Predictions, names: list[str], place: int
) -> dict[str, Any]:
    probs, label = predictions.probs[place], int(predictions.labels[place])
    best = np.argsort(-probs, kind="stable")[:5].tolist()
    return {
        "image": _thumbnail(split.pixels(np.array([place]))[0]),
        "name": names[label],
        "bars": [(short_name(names[k]), float(probs[k]), k == label) for k in best],
    }


def _explain(model: Path, split: Split, predictions: Predictions) -> dict[str, Any]:
    """Return Grad-CAM of the most confident mistake, or image if there is none, and its class."""
    classifier, checkpoint = load_on_cpu(model)
    predicted = predictions.probs.argmax(axis=1)
    wrong = np.flatnonzero(predicted != predictions.labels)
    rows = np.arange(len(predicted)) if not len(wrong) else wrong
    place = rows[predictions.probs[rows, predicted[rows]].argmax()]
    image = split.pixels(np.array([place]))
    with styled("light"):
        # Several views may find another class than the center view that is drawn.
        figure, numbers = explanation_figure(
            classifier, checkpoint.classes, image, "gradcam", int(predicted[place])
        )
        explained = _to_svg(figure, "explained", "The image, and the maps of Grad-CAM over it")
    label = int(predictions.labels[place])
    name = shown_name(predictions.classes[label], predictions.names[label])
    taken_for = numbers["class"]
    return {"explained": explained, "explained_class": name, "explained_as": taken_for}


def _thumbnail(image: np.ndarray) -> str:
    """Return an image, uint8 RGB (H, W, 3), as the address of a small JPEG inside the page."""
    small = Image.fromarray(image).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def _to_svg(figure: Figure, name: str, label: str) -> Markup:
    """Return a figure as SVG inside the page, in the page's ink on the page's background.

    Args:
        name: of the figure, before the names of its parts.
        label: what it shows, for those who do not see it.
    """
    file = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none"}):  # text stays text
        figure.savefig(file, format="svg", metadata={"Date": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    # Names of groups and clips repeat from figure to figure; on one page they must differ.
    text = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", text)
    text = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', text)
    ink, paper = INK["light"]
    variables = {ink: "ink", paper: "paper", WRONG.lower(): "wrong", RIGHT.lower(): "right"}
    for color, variable in variables.items():
        text = re.sub(rf"\b(fill|stroke): {color}", rf"\1: var(--{variable})", text)
    # Letters of eight points are not drawn smaller than eight pixels; narrow screens scroll.
    box = re.search(r'<svg [^>]*?viewBox="([^"]+)"[^>]*>', text)
    assert box
    width = float(box[1].split()[2])
    tag = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{box[1]}" style="width:100%;min-width:{width:.0f}px;'
        f'max-width:{width * 1.35:.0f}px" role="img" aria-label="{label}">'
    )
    return Markup(text[: box.start()] + tag + text[box.end() :])


def _render(parts: dict[str, Any]) -> str:
    environment = Environment(
        loader=PackageLoader("alexnet_cli.figures", "."), autoescape=True, trim_blocks=True
    )
    environment.filters["percent"] = lambda value: f"{value:.2%}"
    return environment.get_template("report.html").render(parts)
