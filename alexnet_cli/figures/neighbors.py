"""Figure 4, right: images, and the training images nearest to them in feature space.

Near are images whose last hidden layers answer alike, not images whose pixels are alike
(section 6.1).
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from alexnet_cli.data.dataset_ref import DatasetRef
from alexnet_cli.data.imagenet_classes import shown_name
from alexnet_cli.distributed.device_plan import Runtime, choose_devices
from alexnet_cli.distributed.runtime_config import RuntimeConfig
from alexnet_cli.figures.style import (
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
from alexnet_cli.inference.classifier import load_classifier
from alexnet_cli.inference.features import features_of, features_of_split, nearest
from alexnet_cli.inference.predict_split import check_fit
from alexnet_cli.io.progress import SILENT, Progress

WIDTH = 0.95  # inches of an image


@dataclass(frozen=True, slots=True)
class NeighborsRequest:
    """What to draw.

    Attributes:
        queries, split: the split of the images in the first column, and of their neighbors.
        num_queries, num_neighbors: rows and columns; the paper's figure has five and six.
        seed: draws the queries at random.
    """

    model: Path
    dataset: DatasetRef
    out: Path
    queries: str = "val"
    split: str = "train"
    num_queries: int = 5
    num_neighbors: int = 6
    seed: int = 0
    theme: Theme = "light"
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)


def draw_neighbors(request: NeighborsRequest, progress: Progress = SILENT) -> FigureFile:
    """Draw random images of one split beside their nearest ones of another.

    Raises:
        AlexNetError: if model and dataset cannot be read, or do not fit each other.
        UsageError: if the figure cannot be written under this name.
    """
    check_path(request.out)
    runtime = Runtime(choose_devices(request.runtime))
    classifier, checkpoint = load_classifier(request.model, runtime)
    dataset = request.dataset.open((request.queries, request.split))
    check_fit(request.model, checkpoint, dataset)
    asked, searched = dataset.split(request.queries), dataset.split(request.split)
    order = np.random.default_rng(request.seed).permutation(len(asked))[: request.num_queries]
    features = features_of_split(classifier, searched, progress)
    images = asked.pixels(order)
    queries = features_of(classifier, torch.from_numpy(images).to(runtime.device)).cpu().numpy()
    # An image is no neighbor of its own, if both splits are the same.
    same = request.queries == request.split
    found = nearest(queries, features, request.num_neighbors + same)
    found = np.array([
        [n for n in row if not (same and n == own)][: request.num_neighbors]
        for row, own in zip(found.tolist(), order.tolist(), strict=True)
    ])  # fmt: skip
    names = [short_name(shown_name(*entry)) for entry in checkpoint.classes]
    with styled(request.theme):
        figure = new_figure(WIDTH * (1 + found.shape[1]) + 0.2, 1.15 * len(order))
        grid = figure.subplots(len(order), 1 + found.shape[1], squeeze=False)
        for row, image, own, near in zip(grid, images, order, found, strict=True):
            shown = [image, *searched.pixels(near)]
            labels = [asked.labels[own], *searched.labels[near]]
            for axes, tile, label in zip(row, shown, labels, strict=True):
                show_image(axes, tile)
                right = bool(label == labels[0])
                name = fitted(names[label], WIDTH - 0.1, 6, bold=right)
                axes.set_title(name, fontsize=6, fontweight="bold" if right else "normal")
        save(figure, request.out)
    right = searched.labels[found] == asked.labels[order][:, None]
    numbers = {
        "queries": [asked.keys()[i] for i in order],
        "neighbors": [[searched.keys()[i] for i in row] for row in found],
        "of_the_same_class": round(float(right.mean()), 4),
    }
    return FigureFile("neighbors", str(request.out), numbers)
