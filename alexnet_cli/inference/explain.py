"""Why a network decides for a class: maps of the crop that show what its score depends on.

Each map can be restricted to one column of the network: what one GPU of the paper saw. N crops, C
channels, H rows, W columns of the network's input, 3 x S x S.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from alexnet_cli.model.architecture import Layer, layers_of
from alexnet_cli.model.network import AlexNet

Method = Literal["gradcam", "occlusion", "saliency"]
BATCH_SIZE = 32  # occluded crops
# Windows of an eighth of the crop, moved by half of their size: 28 and 14 pixels of 224.
WINDOW_SHARE = 8


def explain(
    net: AlexNet, crop: Tensor, label: int, method: Method, column: int | None = None
) -> Tensor:
    """Return what a class's score depends on.

    Args:
        crop: the network's input, float32 (1, 3, S, S).
        column: only what this column of the network adds; None for the whole network.

    Returns:
        float32 (S, S). Grad-CAM: positive where conv5's maps speak for the class. Occlusion: how
        much the score falls if the place is covered. Saliency: how fast it changes with the pixel.
    """
    net.eval()
    return {"gradcam": grad_cam, "occlusion": occlusion, "saliency": saliency}[method](
        net, crop, label, column
    )


def grad_cam(net: AlexNet, crop: Tensor, label: int, column: int | None = None) -> Tensor:
    """Return the map of Grad-CAM (Selvaraju et al. 2017) of the last convolution, enlarged.

    Before negative values are cut off, the maps of the columns add up to that of the network.
    """
    signed = signed_grad_cam(net, crop, label, column)
    size = crop.shape[-2:]
    return F.interpolate(signed.relu()[None, None], size, mode="bilinear", align_corners=False)[
        0, 0
    ]


def signed_grad_cam(net: AlexNet, crop: Tensor, label: int, column: int | None = None) -> Tensor:
    """Return the sum of conv5's maps, each times the mean gradient of the score with respect to it.

    Returns:
        float32 (13, 13) for the paper's network.
    """
    layer = last_map(net)
    seen: list[Tensor] = []
    with _hooked(net, layer.name, lambda maps: seen.append(maps)), torch.enable_grad():
        score = net(crop.detach().requires_grad_())[0, label]
        (gradient,) = torch.autograd.grad(score, seen[0])
    maps = seen[0].detach() * gradient.mean(dim=(2, 3), keepdim=True)
    return maps[0, _channels(net, maps.shape[1], column)].sum(dim=0)


def saliency(net: AlexNet, crop: Tensor, label: int, column: int | None = None) -> Tensor:
    """Return the largest absolute gradient among a pixel's three colors (Simonyan et al. 2013)."""
    return input_gradient(net, crop, label, column).abs().amax(dim=0)


def input_gradient(net: AlexNet, crop: Tensor, label: int, column: int | None = None) -> Tensor:
    """Return the gradient of a class's score with respect to the crop, float32 (3, S, S).

    That of one column goes back through this column's kernels of conv1 only; the gradients of the
    columns add up to that of the network.
    """
    pixels = crop.detach().clone().requires_grad_()

    def keep_column(maps: Tensor) -> None:
        if column is not None:
            kept = torch.zeros(1, maps.shape[1], 1, 1, device=maps.device)
            kept[:, _channels(net, maps.shape[1], column)] = 1
            maps.register_hook(lambda gradient: gradient * kept)

    with _hooked(net, "conv1", keep_column), torch.enable_grad():
        (gradient,) = torch.autograd.grad(net(pixels)[0, label], pixels)
    return gradient[0]


@torch.no_grad()
def occlusion(net: AlexNet, crop: Tensor, label: int, column: int | None = None) -> Tensor:
    """Return how much the score falls on average when a window over a place is covered.

    Zeiler and Fergus (2013). Windows are filled with the mean color, which is 0 here. With a
    column, only this column's kernels of conv1 see the covered crop.
    """
    size = crop.shape[-1]
    window = max(1, size // WINDOW_SHARE)
    places = [(top, left) for top in _starts(size, window) for left in _starts(size, window)]
    clean: list[Tensor] = []
    with _hooked(net, "conv1", lambda maps: clean.append(maps)):
        score = net(crop)[0, label]

    def keep_column(maps: Tensor) -> Tensor:
        mixed = clean[0].expand_as(maps).clone()
        own = _channels(net, maps.shape[1], column)
        mixed[:, own] = maps[:, own]
        return mixed

    falls, covers = (torch.zeros(size, size, device=crop.device) for _ in range(2))
    with _hooked(net, "conv1", keep_column):
        for start in range(0, len(places), BATCH_SIZE):
            part = places[start : start + BATCH_SIZE]
            covered = crop.repeat(len(part), 1, 1, 1)
            for image, (top, left) in zip(covered, part, strict=True):
                image[:, top : top + window, left : left + window] = 0
            scores = net(covered.contiguous(memory_format=torch.channels_last))[:, label]
            for (top, left), fall in zip(part, score - scores, strict=True):
                falls[top : top + window, left : left + window] += fall
                covers[top : top + window, left : left + window] += 1
    return falls / covers


def _starts(size: int, window: int) -> range | list[int]:
    """Return where windows begin, half a window apart, the last one at the border."""
    stride = max(1, window // 2)
    last = size - window
    return [*range(0, last, stride), last]


def last_map(net: AlexNet) -> Layer:
    """Return the activation of the last convolution, the last layer that keeps all its places."""
    layers = layers_of(net.recipe, net.num_classes)
    maps = [layer for layer in layers if layer.kind == "activation" and len(layer.output) == 3]
    return maps[-1]


def _channels(net: AlexNet, num: int, column: int | None) -> slice:
    if column is None:
        return slice(None)
    share = num // net.recipe.columns
    return slice(column * share, (column + 1) * share)


@contextmanager
def _hooked(net: nn.Module, name: str, hook: Callable[[Tensor], Tensor | None]) -> Iterator[None]:
    """Call `hook` with the output of a layer; what it returns, unless None, replaces it."""
    handle = net.get_submodule(name).register_forward_hook(lambda _module, _input, y: hook(y))
    try:
        yield
    finally:
        handle.remove()
