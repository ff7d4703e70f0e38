"""Figure 4, left: images with the five classes that the network finds most probable.

The bar of the right class is orange, those of wrong ones are blue; the right class stands above
each image (2012: shownet.py:199).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from alexnet_cli.data.dataset_ref import DatasetRef
from alexnet_cli.data.imagenet_classes import shown_name
from alexnet_cli.data.shards.dataset import Split
from alexnet_cli.figures.style import (
    RIGHT,
    WRONG,
    FigureFile,
    Theme,
    check_path,
    fitted,
    new_figure,
    save,
    short_name,
    show_image,
    styled,
)
from alexnet_cli.inference.classifier import Classifier
from alexnet_cli.inference.on_cpu import load_on_cpu
from alexnet_cli.inference.predict_split import check_fit

PER_ROW, NUM_BARS = 4, 5
WIDTH = 1.75  # inches of an image with its bars
BATCH_SIZE = 16
MAX_TRIED = 512  # images, in search of wrong ones


@dataclass(frozen=True, slots=True)
class PredictionsRequest:
    """What to draw.

    Attributes:
        num_images: drawn at random; the same seed draws the same images.
        only_errors: show only images whose most probable class is wrong, the first found among at
            most `MAX_TRIED` random ones.
    """

    model: Path
    dataset: DatasetRef
    out: Path
    split: str = "val"
    num_images: int = 8
    seed: int = 0
    only_errors: bool = False
    theme: Theme = "light"


def draw_predictions(request: PredictionsRequest) -> FigureFile:
    """Draw random images of a split and their most probable classes, of the center view.

    Raises:
        AlexNetError: if model and dataset cannot be read, or do not fit each other.
        UsageError: if the figure cannot be written under this name.
    """
    check_path(request.out)
    classifier, checkpoint = load_on_cpu(request.model)
    dataset = request.dataset.open((request.split,))
    check_fit(request.model, checkpoint, dataset)
    split = dataset.split(request.split)
    positions = np.random.default_rng(request.seed).permutation(len(split))
    shown: list[tuple[int, np.ndarray, np.ndarray]] = []
    limit = MAX_TRIED if request.only_errors else request.num_images
    for start in range(0, min(limit, len(positions)), BATCH_SIZE):
        part = positions[start : start + BATCH_SIZE]
        found = _classify(classifier, split, part)
        shown += [
            entry
            for entry in found
            if not request.only_errors or entry[2].argmax() != split.labels[entry[0]]
        ]
        if len(shown) >= request.num_images:
            break
    shown = shown[: request.num_images]
    names = [short_name(shown_name(*entry)) for entry in checkpoint.classes]
    with styled(request.theme):
        rows = max(1, -(-len(shown) // PER_ROW))
        figure = new_figure(WIDTH * PER_ROW, 2.6 * rows)
        grid = figure.subplots(2 * rows, PER_ROW, squeeze=False, height_ratios=[3, 2] * rows)
        for axes in grid.flat:
            axes.set_axis_off()
        for i, (position, image, probs) in enumerate(shown):
            row, column = 2 * (i // PER_ROW), i % PER_ROW
            right = int(split.labels[position])
            show_image(grid[row, column], image)
            grid[row, column].set_title(fitted(names[right], WIDTH - 0.1, 9))
            _draw_bars(grid[row + 1, column], probs, names, right)
        save(figure, request.out)
    wrong = sum(int(probs.argmax() != split.labels[i]) for i, _, probs in shown)
    keys = split.keys()
    numbers = {"images": [keys[i] for i, _, _ in shown], "wrong": wrong}
    return FigureFile("predictions", str(request.out), numbers)


def _classify(
    classifier: Classifier, split: Split, positions: np.ndarray
) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """Return position, image and probabilities (K,) of each."""
    images = split.pixels(positions)
    probs = classifier.probabilities(images, [classifier.augmenter.center])[0]
    return list(zip(positions.tolist(), images, probs, strict=True))


def _draw_bars(axes: Any, probs: np.ndarray, names: list[str], right: int) -> None:
    """Draw the most probable classes downwards, their names over their bars."""
    order = np.argsort(-probs, kind="stable")[:NUM_BARS]
    colors = [RIGHT if k == right else WRONG for k in order]
    axes.barh(range(len(order)), probs[order], color=colors, height=0.85, alpha=0.55)
    axes.set_xlim(0, 1)
    axes.set_ylim(NUM_BARS - 0.5, -0.5)
    for i, k in enumerate(order):
        axes.text(0.02, i, fitted(names[k], WIDTH - 0.45, 7), va="center", fontsize=7)
        axes.text(0.98, i, f"{probs[k]:.0%}", va="center", ha="right", fontsize=6)
