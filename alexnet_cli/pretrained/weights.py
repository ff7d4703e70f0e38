"""Tensors as another program stores them -> the weights of one of our networks.

The differences are in the values only: the order of color channels, the scale of pixels, and
dropout. Other programs multiply the kept units in training; here all units are multiplied by the
kept share in tests, so the weights that read them are divided by it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from alexnet_cli.errors import RecipeError
from alexnet_cli.model.architecture import layers_of
from alexnet_cli.recipes.recipe import Recipe

MAX_FILE_BYTES = 1 << 30


class UnknownNetworkError(Exception):
    """The file holds another network; the text says how it differs."""


@dataclass(frozen=True, slots=True)
class Imported:
    """A network as read from a file.

    Attributes:
        weights: float32 by our names, as our network multiplies them.
        mean: float32 RGB (3,), 0..255, or (256, 256, 3): what is subtracted from pixels.
    """

    recipe: Recipe
    weights: dict[str, np.ndarray]
    mean: np.ndarray

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.weights["fc8.bias"])


def adapt(recipe: Recipe, stored: Mapping[str, Any], input_std: np.ndarray) -> tuple:
    """Return the recipe with the widths of stored tensors, and the weights of its network.

    Args:
        stored: tensors by our names, as the other program multiplies them; channels are RGB.
        input_std: (3,), by which the other program divides gray levels minus the mean.

    Raises:
        UnknownNetworkError: if the tensors are not those of the recipe's network.
    """
    try:
        recipe = _with_widths(recipe, stored)
        weights = _weights(recipe, stored)
    except (RecipeError, KeyError, ValueError, IndexError) as error:
        raise UnknownNetworkError(str(error)) from error
    for name, tensor in weights.items():
        if not np.isfinite(tensor).all():
            raise UnknownNetworkError(f"{name} has values that are not finite")
    factors = recipe.pixel_scale / np.asarray(input_std, np.float64)
    weights["conv1.weight"] = _times(weights["conv1.weight"], factors[:, None, None])
    kept = 1.0
    for layer in layers_of(recipe, len(weights["fc8.bias"])):
        if layer.kind == "dropout":
            kept = 1.0 - layer.dropout
        elif layer.parameters:
            weight = f"{layer.name}.weight"
            weights[weight], kept = _times(weights[weight], 1.0 / kept), 1.0
    return recipe, weights


def _with_widths(recipe: Recipe, stored: Mapping[str, Any]) -> Recipe:
    convs: dict[str, Any] = {
        name: replace(conv, filters=int(stored[f"{name}.weight"].shape[0]))
        for name, conv in recipe.convs().items()
    }
    denses: dict[str, Any] = {
        name: replace(dense, units=int(stored[f"{name}.weight"].shape[0]))
        for name, dense in recipe.denses().items()
    }
    return replace(recipe, **convs, **denses)


def _weights(recipe: Recipe, stored: Mapping[str, Any]) -> dict[str, np.ndarray]:
    weights = {}
    num_classes = int(stored["fc8.weight"].shape[0])
    for layer in layers_of(recipe, num_classes):
        for kind, shape in layer.parameters.items():
            name = f"{layer.name}.{kind}"
            found = np.asarray(stored[name], np.float32)
            if found.shape != shape:
                raise ValueError(f"{name} is {found.shape}, not {shape}")
            weights[name] = found
    return weights


def _times(weight: np.ndarray, factor: Any) -> np.ndarray:
    """Multiply so that the product is rounded once."""
    if np.all(np.float32(factor) == factor):
        return weight if np.all(factor == 1.0) else weight * np.float32(factor)
    return (weight * np.float64(factor)).astype(np.float32)


def constant_image(mean: np.ndarray, size: int) -> np.ndarray:
    """Return a mean image, float32 (size, size, 3), of a mean color or image."""
    return np.ascontiguousarray(np.broadcast_to(mean, (size, size, 3)), np.float32)
