"""Layers of one network begin as those of another: `--init-from` (2012 code, initw.py).

What is not imported is drawn as ever, and every velocity begins at zero.
"""

from collections.abc import Mapping

import numpy as np
import torch

from alexnet_cli.errors import CheckpointError
from alexnet_cli.model.network import AlexNet


def import_layers(
    net: AlexNet, weights: Mapping[str, np.ndarray], *, same_classes: bool
) -> list[str]:
    """Copy layers of another network into a whole network, and return their names.

    The layers are those that the recipe names in `imports`; where it names none, all that have the
    same shape there. The classifier's shape may be the same by chance, so it counts only with the
    same classes.

    Raises:
        CheckpointError: a layer that the recipe names is not there, or has another shape.
    """
    named = net.recipe.imports
    chosen = []
    for layer in net.recipe.layer_names():
        fault = _fault(net, weights, layer)
        if layer in named and fault:
            raise CheckpointError(f"recipe {net.recipe.name} imports {layer}, but {fault}.")
        if layer in named or (not named and not fault and (layer != "fc8" or same_classes)):
            _copy(net, weights, layer)
            chosen.append(layer)
    if not chosen:
        raise CheckpointError(f"no layer of recipe {net.recipe.name} has the same shape there.")
    return chosen


def _fault(net: AlexNet, weights: Mapping[str, np.ndarray], layer: str) -> str:
    """Return why a layer cannot be imported; nothing if it can."""
    for kind, parameter in net.get_submodule(layer).named_parameters():
        name = f"{layer}.{kind}"
        if name not in weights:
            return f"there is no {name}"
        if weights[name].shape != tuple(parameter.shape):
            return f"{name} is {weights[name].shape} there and {tuple(parameter.shape)} here"
    own = {f"{layer}.{kind}" for kind, _ in net.get_submodule(layer).named_parameters()}
    if more := sorted(n for n in weights if n.startswith(f"{layer}.") and n not in own):
        return f"there it has {more[0]} too"
    return ""


@torch.no_grad()
def _copy(net: AlexNet, weights: Mapping[str, np.ndarray], layer: str) -> None:
    for kind, parameter in net.get_submodule(layer).named_parameters():
        parameter.copy_(torch.from_numpy(weights[f"{layer}.{kind}"]))
