"""First weights of some layers from another checkpoint (2012 code, initw.py).

The other layers keep their random initialization; momentum buffers start at zero.
"""

from collections.abc import Mapping

import numpy as np
import torch

from alexnet_cli.errors import CheckpointError
from alexnet_cli.model.network import AlexNet


@torch.no_grad()
def copy_layers(
    net: AlexNet, weights: Mapping[str, np.ndarray], *, same_classes: bool
) -> list[str]:
    """Copy layers of another network into a whole network, and return their names.

    The layers are those of the recipe's `init_layers`, and its frozen ones. Without `init_layers`,
    they are all layers that have the same shapes in both networks; the classifier only if the
    classes are the same, because its shape may be the same by chance.

    Raises:
        CheckpointError: if a layer that the recipe names or freezes is missing or has another
            shape, or no layer can be copied.
    """
    named, frozen = net.recipe.init_layers, net.recipe.frozen
    copied = []
    for layer in net.recipe.layer_names():
        own = dict(net.get_submodule(layer).named_parameters())
        other = {
            name.removeprefix(f"{layer}."): array
            for name, array in weights.items()
            if name.startswith(f"{layer}.")
        }
        difference = _difference(layer, own, other)
        if layer == "fc8" and not same_classes and not difference and layer in frozen:
            difference = "it has other classes"
        if layer in (*named, *frozen) and difference:
            does = "initializes" if layer in named else "freezes"
            end = " from the checkpoint" if layer in named else " of the checkpoint"
            raise CheckpointError(
                f"recipe {net.recipe.name} {does} {layer}{end}, but {difference}."
            )
        if layer in (*named, *frozen) or (
            not named and not difference and (layer != "fc8" or same_classes)
        ):
            for kind, parameter in own.items():
                parameter.copy_(torch.from_numpy(other[kind]))
            copied.append(layer)
    if not copied:
        raise CheckpointError(f"no layer of recipe {net.recipe.name} has the same shape there.")
    return copied


def _difference(
    layer: str, own: Mapping[str, torch.Tensor], other: Mapping[str, np.ndarray]
) -> str:
    """Return why a layer cannot be copied, or an empty text if it can."""
    for kind, parameter in own.items():
        name = f"{layer}.{kind}"
        if kind not in other:
            return f"there is no {name}"
        if other[kind].shape != tuple(parameter.shape):
            return f"{name} is {other[kind].shape} there and {tuple(parameter.shape)} here"
    if more := sorted(other.keys() - own.keys()):
        return f"it also has {layer}.{more[0]}"
    return ""
