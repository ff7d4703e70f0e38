"""What the kernels of a layer answer to an image, the maps of each column apart."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from alexnet_cli.errors import UsageError, did_you_mean
from alexnet_cli.figures.style import (
    FigureFile,
    Theme,
    check_path,
    save,
    sheets_figure,
    styled,
)
from alexnet_cli.inference.features import features_of
from alexnet_cli.inference.on_cpu import load_on_cpu, read_image
from alexnet_cli.model.architecture import layers_of


@dataclass(frozen=True, slots=True)
class ActivationsRequest:
    """What to draw.

    Attributes:
        layer: the name of a layer that has maps, as `alexnet info` lists them; None for the first
            activation.
    """

    model: Path
    image: Path
    out: Path
    layer: str | None = None
    theme: Theme = "light"


def draw_activations(request: ActivationsRequest) -> FigureFile:
    """Draw the maps of a layer for the center crop of an image, each on a gray scale of its own.

    Raises:
        CheckpointError, ImageError: if the model or the image cannot be read.
        UsageError: if there is no such layer, or the figure cannot be written under this name.
    """
    check_path(request.out)
    classifier, checkpoint = load_on_cpu(request.model)
    layers = layers_of(checkpoint.recipe, len(checkpoint.classes))
    names = [layer.name for layer in layers if len(layer.output) == 3]
    layer = request.layer or next(entry.name for entry in layers if entry.kind == "activation")
    if layer not in names:
        usual = f"Layers with maps: {', '.join(names)}."
        near = did_you_mean(layer, names, usual)
        raise UsageError(f"no layer {layer!r} that has maps.", hint=near)
    image = read_image(request.image, classifier, checkpoint)
    maps = features_of(classifier, torch.from_numpy(image), layer)[0].numpy()
    parts = np.split(maps, checkpoint.recipe.columns)
    limit = np.abs(maps).max(axis=(1, 2), keepdims=True)
    scaled = (maps / np.where(limit > 0, limit, 1))[..., None]
    silent = [int((~part.any(axis=(1, 2))).sum()) for part in parts]
    names = [layer]
    if len(parts) > 1:
        names = [f"{layer}, column {column}" for column in range(len(parts))]
    titles = [
        f"{name}: {len(part)} maps, {num} silent"
        for name, part, num in zip(names, parts, silent, strict=True)
    ]
    with styled(request.theme):
        # Positive and negative values, such as a tangent's, are red and blue.
        is_signed = bool((maps < 0).any())
        colors = {"cmap": "RdBu_r" if is_signed else "inferno", "vmin": -1 if is_signed else 0}
        figure = sheets_figure(np.split(scaled, len(parts)), titles, np.nan, **colors, vmax=1)
        save(figure, request.out)
    numbers = {"layer": layer, "maps": [len(part) for part in parts], "silent": silent}
    return FigureFile("activations", str(request.out), numbers)
