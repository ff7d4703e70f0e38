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
    new_figure,
    save,
    show_image,
    styled,
    tile,
)
from alexnet_cli.inference.on_cpu import load_on_cpu, read_image
from alexnet_cli.model.architecture import layers_of

PER_ROW = 16


@dataclass(frozen=True, slots=True)
class ActivationsRequest:
    """What to draw.

    Attributes:
        layer: the name of a layer that has maps, as `alexnet info` lists them.
    """

    model: Path
    image: Path
    out: Path
    layer: str = "relu1"
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
    if request.layer not in names:
        usual = f"Layers with maps: {', '.join(names)}."
        near = did_you_mean(request.layer, names, usual)
        raise UsageError(f"no layer {request.layer!r} that has maps.", hint=near)
    image = read_image(request.image, classifier, checkpoint)
    crop = classifier.augmenter.view(torch.from_numpy(image), classifier.augmenter.center)
    maps = _output_of(classifier.net, request.layer, crop)
    parts = np.split(maps, checkpoint.recipe.columns)
    silent = [int((part.max(axis=(1, 2)) <= 0).sum()) for part in parts]
    with styled(request.theme):
        per_row = min(PER_ROW, len(parts[0]))
        rows = sum(-(-len(part) // per_row) for part in parts)
        figure = new_figure(max(0.4 * per_row, 2.6), 0.42 * rows + 0.35 * len(parts))
        for column, axes in enumerate(np.ravel(figure.subplots(len(parts), 1))):
            part = parts[column]
            limit = np.abs(part).max(axis=(1, 2), keepdims=True)
            scaled = (part / np.where(limit > 0, limit, 1))[..., None]
            show_image(axes, tile(scaled, per_row, np.nan)[..., 0], cmap="inferno")
            name = f"{request.layer}, column {column}" if len(parts) > 1 else request.layer
            axes.set_title(f"{name}: {len(part)} maps, {silent[column]} silent", loc="left")
        save(figure, request.out)
    numbers = {"layer": request.layer, "maps": [len(part) for part in parts], "silent": silent}
    return FigureFile("activations", str(request.out), numbers)


@torch.inference_mode()
def _output_of(net: torch.nn.Module, name: str, crop: torch.Tensor) -> np.ndarray:
    net.eval()
    seen: list[torch.Tensor] = []
    handle = net.get_submodule(name).register_forward_hook(lambda _m, _i, y: seen.append(y))
    net(crop)
    handle.remove()
    return seen[0][0].numpy()
