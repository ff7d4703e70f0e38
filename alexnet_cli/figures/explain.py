"""Where a network looks: a map over the image, for the whole network and for each column."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from alexnet_cli.data.imagenet_classes import find_class, shown_name
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
from alexnet_cli.inference.classifier import Classifier
from alexnet_cli.inference.explain import Method, explain
from alexnet_cli.inference.on_cpu import load_on_cpu, read_image
from alexnet_cli.model.network import AlexNet

TITLES = {"gradcam": "Grad-CAM", "occlusion": "occlusion", "saliency": "saliency"}
LEGENDS = {
    "gradcam": "bright: speaks for the class; one scale for all maps",
    "occlusion": "red: the score falls if this is covered; blue: it rises",
    "saliency": "bright: the score changes fastest with these pixels",
}
WIDTH = 1.9  # inches of an image


@dataclass(frozen=True, slots=True)
class ExplainRequest:
    """What to draw.

    Attributes:
        wanted: the class to explain, by wnid or name; None for the most probable one.
    """

    model: Path
    image: Path
    out: Path
    method: Method = "gradcam"
    wanted: str | None = None
    theme: Theme = "light"


def draw_explanation(request: ExplainRequest) -> FigureFile:
    """Draw what a class's score depends on in the center crop of an image.

    Raises:
        CheckpointError, ImageError: if the model or the image cannot be read.
        UsageError: if there is no such class, or the figure cannot be written under this name.
    """
    check_path(request.out)
    classifier, checkpoint = load_on_cpu(request.model)
    image = read_image(request.image, classifier, checkpoint)
    wanted = request.wanted
    label = None if wanted is None else find_class(checkpoint.classes, wanted)
    with styled(request.theme):
        figure, numbers = explanation_figure(
            classifier, checkpoint.classes, image, request.method, label
        )
        save(figure, request.out)
    return FigureFile("explain", str(request.out), numbers)


def explanation_figure(
    classifier: Classifier,
    classes: list[tuple[str, str]],
    image: np.ndarray,
    method: Method,
    label: int | None = None,
) -> tuple[Figure, dict[str, Any]]:
    """Return the figure of an image, uint8 RGB (1, H, W, 3), and what it shows.

    Args:
        label: of the class to explain; None for the most probable one of the center view.
    """
    center = classifier.augmenter.center
    probs = classifier.probabilities(image, [center])[0, 0]
    label = int(probs.argmax()) if label is None else label
    crop = classifier.augmenter.view(torch.from_numpy(image), center)
    net = cast(AlexNet, classifier.net)  # on one device
    columns = [None, *range(net.recipe.columns)] if net.recipe.columns > 1 else [None]
    maps = [explain(net, crop, label, method, column).numpy() for column in columns]
    size = classifier.augmenter.crop_size
    pixels = image[0, center.top : center.top + size, center.left : center.left + size]
    limit = float(np.quantile(np.abs(maps), 0.999)) or 1.0  # single pixels of saliency stick out
    name = shown_name(*classes[label])
    figure = new_figure(WIDTH * (1 + len(maps)), 2.35)
    axes = figure.subplots(1, 1 + len(maps))
    show_image(axes[0], pixels)
    axes[0].set_title(f"{fitted(short_name(name), WIDTH - 0.7, 9)} {probs[label]:.1%}")
    for column, heat, place in zip(columns, maps, axes[1:], strict=True):
        _draw_map(place, pixels, heat, limit, signed=method == "occlusion")
        place.set_title(TITLES[method] if column is None else f"column {column} only")
    figure.supxlabel(LEGENDS[method], fontsize=7)
    highest = np.unravel_index(int(maps[0].argmax()), maps[0].shape)
    return figure, {
        "method": method,
        "class": name,
        "label": label,
        "probability": round(float(probs[label]), 6),
        "highest_at": [int(highest[0]) + center.top, int(highest[1]) + center.left],
    }


def _draw_map(axes: Axes, pixels: np.ndarray, heat: np.ndarray, limit: float, signed: bool) -> None:
    """Lay a map over the image in gray, the more opaque the larger its values are."""
    gray = np.repeat(pixels.mean(axis=2, keepdims=True) / 255, 3, axis=2)
    show_image(axes, 0.35 + 0.4 * gray if signed else 0.6 * gray)
    axes.imshow(
        heat,
        cmap="RdBu_r" if signed else "inferno",
        vmin=-limit if signed else 0,
        vmax=limit,
        alpha=0.85 * np.minimum(np.abs(heat) / limit, 1),
    )
