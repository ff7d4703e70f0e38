"""Figure 3: the kernels of the first layer, those of each column apart.

Column 0's kernels became gray and column 1's colored in the paper's network, whatever the initial
weights (section 6.1). The color index puts this into a number.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from alexnet_cli.errors import counted
from alexnet_cli.figures.style import (
    FigureFile,
    Theme,
    check_path,
    save,
    sheets_figure,
    styled,
)
from alexnet_cli.inference.network import load_network
from alexnet_cli.model.checkpoint import Checkpoint

GRAY = 0.5


@dataclass(frozen=True, slots=True)
class FiltersRequest:
    """What to draw.

    Attributes:
        normalize_each: whether each kernel has a gray scale of its own, so that weak ones can be
            seen; by default all share one (2012: shownet.py:110).
    """

    model: Path
    out: Path
    normalize_each: bool = False
    theme: Theme = "light"


def color_index(kernels: np.ndarray) -> np.ndarray:
    """Return the share of each kernel's energy that differs between red, green and blue.

    Args:
        kernels: (F, 3, H, W).

    Returns:
        (F,), from 0 for a gray kernel to 1; of random kernels 2/3.
    """
    gray = kernels.mean(axis=1, keepdims=True)
    energy = np.square(kernels, dtype=np.float64).sum(axis=(1, 2, 3))
    color = np.square(kernels - gray, dtype=np.float64).sum(axis=(1, 2, 3))
    return np.divide(color, energy, out=np.zeros_like(energy), where=energy > 0)


def to_pixels(kernels: np.ndarray, *, each: bool) -> np.ndarray:
    """Return kernels (F, 3, H, W) as images (F, H, W, 3) from 0 to 1, weight 0 in the middle."""
    axes = (1, 2, 3) if each else None
    limit = np.abs(kernels).max(axis=axes, keepdims=True)
    scaled = kernels / np.where(limit > 0, limit, 1)
    return (GRAY + scaled / 2).transpose(0, 2, 3, 1)


def draw_filters(request: FiltersRequest) -> FigureFile:
    """Draw the first layer's kernels of a trained network.

    Raises:
        CheckpointError: if it cannot be read.
        UsageError: if the figure cannot be written under this name.
    """
    check_path(request.out)
    checkpoint = load_network(request.model)
    with styled(request.theme):
        figure, numbers = filters_figure(checkpoint, normalize_each=request.normalize_each)
        save(figure, request.out)
    return FigureFile("filters", str(request.out), numbers)


def filters_figure(
    checkpoint: Checkpoint, *, normalize_each: bool = False
) -> tuple[Figure, dict[str, list]]:
    """Return the figure, and the number of kernels and mean color index of each column."""
    kernels = checkpoint.weights["conv1.weight"]
    parts = np.split(kernels, checkpoint.recipe.columns)
    pixels = to_pixels(kernels, each=normalize_each)
    opaque = np.pad(pixels, [(0, 0)] * 3 + [(0, 1)], constant_values=1)
    images = np.split(opaque, len(parts))
    indexes = [color_index(part) for part in parts]
    names = [f"column {column}" for column in range(len(parts))] if len(parts) > 1 else ["conv1"]
    titles = [
        f"{name}: {counted(len(part), 'kernel')}, color index {index.mean():.2f}"
        for name, part, index in zip(names, parts, indexes, strict=True)
    ]
    figure = sheets_figure(images, titles, 0.0)  # transparent between them
    means = [round(float(index.mean()), 4) for index in indexes]
    return figure, {"kernels": [len(part) for part in parts], "color_index": means}
