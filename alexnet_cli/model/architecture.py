"""The layers of a recipe's network, computed without torch: names, sizes, parameters, arithmetic.

conv1 -> ReLU -> LRN -> pool -> conv2 -> ReLU -> LRN -> pool | conv3 -> conv4 -> conv5 -> pool |
fc6 | fc7 | fc8, where | marks the layers that read both columns (section 3.5). Everything that
needs the network's shape walks this list: the torch network, the ONNX graph, checkpoint checks,
`alexnet info` and cost estimates. Windows are counted as in the 2012 code.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from alexnet_cli.errors import RecipeError
from alexnet_cli.recipes.recipe import Conv, Dense, Recipe

RGB = 3
# Runs 120 to 141: a Gaussian of standard deviation 4 cut to 9 taps, every fourth pixel from the
# third, windows of 5 x 5 every 2 of those (2012: layers-137.cfg, layer.py:420).
BLUR_TAPS, BLUR_STD, KEPT_FIRST, KEPT_EVERY = 9, 4.0, 2, 4
LOW_WINDOW, LOW_STRIDE = 5, 2

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of the whole network.

    Attributes:
        kind: conv, local-conv, dense, classifier, dropout, flatten, or a step of `Conv.then`.
        input, output: (C, H, W) or (units,).
        options: the recipe's `Conv` or `Dense`; None for other layers.
        parameters: shapes by name within the layer, in torch's order.
        groups: into how many groups, the columns, the layer's inputs are divided.
        products: multiplications for one image.
        dropout: the share of units that a dropout layer drops.
    """

    name: str
    kind: str
    input: Shape
    output: Shape
    options: Any = None
    parameters: dict[str, Shape] = field(default_factory=dict)
    groups: int = 1
    products: int = 0
    dropout: float = 0.0

    @property
    def num_parameters(self) -> int:
        """Number of weights and biases."""
        return sum(math.prod(shape) for shape in self.parameters.values())


def last_hidden_layer(recipe: Recipe, num_classes: int) -> str:
    """Return the last layer before fc8 that is no dropout: the activation of fc7."""
    layers = [layer for layer in layers_of(recipe, num_classes) if layer.kind != "dropout"]
    return layers[-2].name


def layers_of(recipe: Recipe, num_classes: int) -> list[Layer]:
    """Return the layers in the order in which they run.

    Raises:
        RecipeError: if crops of the recipe's size do not fit its convolutions.
    """
    layers: list[Layer] = []
    shape: Shape = (RGB, recipe.crop_size, recipe.crop_size)
    for name, conv in recipe.convs().items():
        layers.append(_conv_layer(recipe, name, conv, shape))
        layers.extend(_layers_after(recipe, _suffix(name), conv, layers[-1].output))
        shape = layers[-1].output
        if shape[-1] < 1:
            raise RecipeError(
                f"crop_size={recipe.crop_size}: the output of {name} has no pixels.",
                hint="Choose a larger crop_size.",
            )
    flat = (math.prod(shape),)
    layers.append(Layer("flatten", "flatten", shape, flat))
    if recipe.conv_dropout:
        layers.append(Layer("drop_maps", "dropout", flat, flat, dropout=recipe.conv_dropout))
    for name, dense in recipe.denses().items():
        layers.extend(_dense_layers(recipe, name, dense, layers[-1].output[0]))
    (inputs,) = layers[-1].output
    shapes: dict[str, Shape] = {"weight": (num_classes, inputs), "bias": (num_classes,)}
    products = inputs * num_classes
    output = (num_classes,)
    layers.append(Layer("fc8", "classifier", (inputs,), output, None, shapes, products=products))
    return layers


def parameter_shapes(recipe: Recipe, num_classes: int) -> dict[str, Shape]:
    """Return every parameter's name and shape, in torch's order."""
    return {
        f"{layer.name}.{kind}": shape
        for layer in layers_of(recipe, num_classes)
        for kind, shape in layer.parameters.items()
    }


def _conv_layer(recipe: Recipe, name: str, conv: Conv, shape: Shape) -> Layer:
    """Layers that read their own column are grouped; the others see every channel."""
    channels, size, _ = shape
    side = conv_output_size(size, conv.size, conv.stride, conv.pad, round_down=conv.round_down)
    groups = recipe.columns if recipe.reads_own_column(name) else 1
    groups = max(groups, conv.groups)
    window = channels // groups * conv.size**2
    products = conv.filters * window * side**2
    output = (conv.filters, side, side)
    parameters: dict[str, Shape]
    if conv.local:
        positions = side**2
        parameters = {
            "weight": (conv.filters, window, positions),
            "bias": (conv.filters, positions),
        }
        return Layer(name, "local-conv", shape, output, conv, parameters, groups, products)
    parameters = {
        "weight": (conv.filters, channels // groups, conv.size, conv.size),
        "bias": (conv.filters,),
    }
    if name == "conv2" and recipe.low_resolution:
        small = low_resolution_size(recipe.crop_size)
        low_side = conv_output_size(small, LOW_WINDOW, LOW_STRIDE, 0)
        if low_side != side:
            raise RecipeError(
                f"crop_size={recipe.crop_size}: low_resolution has {low_side} x {low_side} "
                f"positions for conv2, the maps of conv1 {side} x {side}.",
                hint="Choose a crop_size at which both are equal, such as 224.",
            )
        parameters["low_weight"] = (conv.filters, RGB, LOW_WINDOW, LOW_WINDOW)
        products += RGB * (small * BLUR_TAPS) ** 2 + conv.filters * RGB * (LOW_WINDOW * side) ** 2
    return Layer(name, "conv", shape, output, conv, parameters, groups, products)


def _layers_after(recipe: Recipe, suffix: str, conv: Conv, shape: Shape) -> Iterator[Layer]:
    """Yield the steps that follow a convolution."""
    for step in conv.then:
        if step == "activation":
            yield Layer(f"{recipe.activation}{suffix}", step, shape, shape)
        elif step.endswith("-pool"):
            side = pool_output_size(shape[-1], recipe.pool_size, recipe.pool_stride)
            output = (shape[0], side, side)
            yield Layer(f"pool{suffix}", step, shape, output)
            shape = output
        else:
            groups = recipe.columns if step == "norm" else 1
            name = f"{step.removesuffix('-norm')}{suffix}"
            yield Layer(name, step, shape, shape, groups=groups)


def _dense_layers(recipe: Recipe, name: str, dense: Dense, inputs: int) -> Iterator[Layer]:
    """Yield a hidden fully connected layer, its activation and its dropout."""
    groups = recipe.columns if recipe.reads_own_column(name) else 1
    output = (dense.units,)
    parameters: dict[str, Shape] = {"weight": (dense.units, inputs // groups), "bias": output}
    products = dense.units * inputs // groups
    yield Layer(name, "dense", (inputs,), output, dense, parameters, groups, products)
    if not dense.linear:
        yield Layer(f"{recipe.activation}{_suffix(name)}", "activation", output, output)
    if dense.dropout:
        yield Layer(f"drop{_suffix(name)}", "dropout", output, output, dropout=dense.dropout)


def _suffix(name: str) -> str:
    """Return what follows the name of a step after `conv2` or `fc6`: relu2, drop6, relu_conv6."""
    return "_conv6" if name == "conv6" else name.removeprefix("conv").removeprefix("fc")


def conv_output_size(
    size: int, window: int, stride: int, pad: int, *, round_down: bool = False
) -> int:
    """Return the side of a convolution's output, rounded up by default (2012: layer.py:1004)."""
    steps = (2 * pad + size - window) / stride
    return 1 + (math.floor(steps) if round_down else math.ceil(steps))


def overhang(size: int, window: int, stride: int, pad: int) -> int:
    """Return the zeros a convolution needs right and bottom beyond `pad`.

    The last window may reach beyond the image, and reads zeros there: 224 -> 55 in conv1 with 3.
    """
    last = (conv_output_size(size, window, stride, pad) - 1) * stride
    return last + window - (size + 2 * pad)


def pool_output_size(size: int, window: int, stride: int) -> int:
    """Return the side of a pooling layer's output; windows may reach beyond right and bottom."""
    return 1 + math.ceil((size - window) / stride)


def blur_pads(size: int) -> tuple[int, int]:
    """Return the zeros before and after an image that turn blur and subsampling into one layer."""
    near = BLUR_TAPS // 2 - KEPT_FIRST
    last = (low_resolution_size(size) - 1) * KEPT_EVERY
    return near, last + BLUR_TAPS - near - size


def low_resolution_pads(size: int) -> tuple[int, int, int]:
    """Return `blur_pads`, and the zeros right and bottom that the small image's windows read."""
    return *blur_pads(size), overhang(low_resolution_size(size), LOW_WINDOW, LOW_STRIDE, 0)


def low_resolution_size(size: int) -> int:
    """Return the side of the small blurred image: 224 -> 56."""
    return math.ceil((size - KEPT_FIRST) / KEPT_EVERY)


def blur_window() -> np.ndarray:
    """Return the Gaussian, normalized: float32 (taps, taps)."""
    line = np.exp(-0.5 * ((np.arange(BLUR_TAPS) - BLUR_TAPS // 2) / BLUR_STD) ** 2)
    line /= line.sum()
    return np.outer(line, line).astype(np.float32)
