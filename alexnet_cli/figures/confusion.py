"""Which classes a network takes for which: a confusion matrix, or its busiest part.

K classes are shown: all of the dataset, or those with the most confusions.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb

from alexnet_cli.data.imagenet_classes import shown_name
from alexnet_cli.figures.style import (
    INK,
    RIGHT,
    WRONG,
    FigureFile,
    Theme,
    check_path,
    fitted,
    ink_on,
    new_figure,
    save,
    short_name,
    styled,
)
from alexnet_cli.inference.evaluate import EvalRequest
from alexnet_cli.inference.mistakes import confusions, find_predictions
from alexnet_cli.inference.predictions import Predictions
from alexnet_cli.io.progress import SILENT, Progress

MAX_CLASSES = 40  # more are not readable on a page
NUM_WORST = 30  # classes that are shown of more
MAX_WITH_COUNTS = 20  # classes whose counts fit into their squares


@dataclass(frozen=True, slots=True)
class ConfusionRequest:
    """What to draw.

    Attributes:
        source: a predictions file, or the model of `evaluation`.
        evaluation: None for a predictions file.
        among_classes_of_dataset: whether to leave out what the dataset has no classes for.
    """

    source: Path
    out: Path
    evaluation: EvalRequest | None = None
    among_classes_of_dataset: bool = False
    theme: Theme = "light"


@dataclass(frozen=True, slots=True)
class Confusion:
    """A part of the confusion matrix.

    Attributes:
        labels: the network's labels of the K classes.
        counts: int64 (K, K + 1), rows are classes of images, columns what they are taken for; the
            last column is for all classes that are not shown.
        selection: which classes are shown, in words.
    """

    labels: tuple[int, ...]
    counts: np.ndarray
    selection: str


def draw_confusion(request: ConfusionRequest, progress: Progress = SILENT) -> FigureFile | None:
    """Draw the confusion matrix of predictions; only the main replica returns a result.

    Raises:
        UsageError: if a model has no dataset, a predictions file has one, or the figure cannot be
            written under this name.
        InputError: if the file, model or dataset cannot be used.
    """
    check_path(request.out)
    found = find_predictions(
        request.source, request.evaluation, request.among_classes_of_dataset, progress
    )
    if found is None:
        return None
    confusion = confusion_of(found)
    pairs = zip(found.classes, found.names, strict=True)
    names = [shown_name(*pair) for pair in pairs]
    names = [names[label] for label in confusion.labels]
    size = 1.6 + 0.22 * max(len(names), 8)
    with styled(request.theme):
        figure = new_figure(size, size)
        shown = [fitted(short_name(name), 1.15, 6) for name in names]
        legend = _draw_matrix(figure.subplots(), confusion, shown, request)
        if len(names) < len(found.outputs):
            legend += f"\n{confusion.selection}"
        figure.suptitle(legend, fontsize=7)
        save(figure, request.out)
    counts = confusion.counts
    numbers = {
        "split": found.split,
        "images": len(found.keys),
        "shown": confusion.selection,
        "top1_error": float((found.probs.argmax(axis=1) != found.labels).mean()),
        "classes": names,
        "counts": counts[:, :-1].tolist(),
        "taken_for_others": counts[:, -1].tolist(),
    }
    return FigureFile("confusion", str(request.out), numbers)


def confusion_of(found: Predictions) -> Confusion:
    """Return the confusion matrix of all classes of the dataset, or of those confused most."""
    labels, selection = found.outputs, f"all {len(found.outputs)} classes"
    if len(labels) > MAX_CLASSES:
        labels = _most_confused(found)
        selection = (
            f"the {len(labels)} of {len(found.outputs):,} classes in the most frequent confusions, "
            "confused ones side by side"
        )
    place = np.full(len(found.classes), len(labels))
    place[list(labels)] = np.arange(len(labels))
    counts = np.zeros((len(labels) + 1, len(labels) + 1), np.int64)
    np.add.at(counts, (place[found.labels], place[found.probs.argmax(axis=1)]), 1)
    return Confusion(tuple(labels), counts[:-1], selection)


def _most_confused(found: Predictions) -> tuple[int, ...]:
    """Return the classes of the most frequent confusions, those confused with each other adjoining.

    Confusions are joined to blocks, the most frequent first, as in single-linkage clustering.
    """
    meant = {*found.outputs}
    pairs = [(a, b, count) for a, b, count in confusions(found) if b in meant]
    both: dict[tuple[int, int], int] = {}
    for a, b, count in pairs:
        pair = (min(a, b), max(a, b))
        both[pair] = both.get(pair, 0) + count
    ordered = sorted(both, key=lambda pair: -both[pair])
    block_of: dict[int, list[int]] = {}
    for a, b in ordered:
        if len({*block_of, a, b}) > NUM_WORST:
            continue
        first, second = block_of.get(a, [a]), block_of.get(b, [b])
        if first is not second:
            joined = first + second
            block_of |= dict.fromkeys(joined, joined)
    if not block_of:  # no mistake among the classes of the dataset
        return found.outputs[:NUM_WORST]
    blocks = {id(block): block for block in block_of.values()}.values()
    return tuple(label for block in blocks for label in block)


def _draw_matrix(
    axes: Axes, confusion: Confusion, names: list[str], request: ConfusionRequest
) -> str:
    """Draw right answers in blue and confusions in orange, each on a scale of its own.

    Returns:
        What the colors mean.
    """
    counts, num = confusion.counts, len(names)
    totals = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(totals, 1)
    has_others = bool(counts[:, -1].any())
    shares, counts = (table[:, : num + has_others] for table in (shares, counts))
    right = np.eye(*shares.shape) == 1
    inside = ~right & (np.arange(shares.shape[1]) < num)
    worst = float(shares[inside].max(initial=0))
    strength = np.where(right, shares, shares / (worst or 1)).clip(0, 1)[..., None]
    ink, paper = (np.array(to_rgb(color)) for color in INK[request.theme])
    hue = np.where(right[..., None], to_rgb(WRONG), to_rgb(RIGHT))
    colors = paper + strength * (hue - paper)
    axes.imshow(colors, interpolation="nearest")
    axes.set_xticks(range(shares.shape[1]), names + ["others"] * has_others, rotation=90)
    axes.set_yticks(range(num), names)
    axes.tick_params(length=0, labelsize=6)
    axes.set_xlabel("taken for", fontsize=7)
    axes.set_ylabel("class", fontsize=7)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    if has_others:
        axes.axvline(num - 0.5, color=ink, linewidth=0.5)
    if num <= MAX_WITH_COUNTS:
        for row, column in np.argwhere(counts):
            axes.text(
                column,
                row,
                f"{counts[row, column]}",
                ha="center",
                va="center",
                fontsize=5,
                color=ink_on(colors[row, column]),
            )
    confused = f"confused, full at {worst:.0%}" if worst else "confused, none here"
    return f"blue: right, full at 100%. orange: {confused}"
