"""The network of section 3, whole or one column of it, from a recipe.

conv1 -> ReLU -> LRN -> pool -> conv2 -> ReLU -> LRN -> pool | conv3 -> conv4 -> conv5 -> pool |
fc6 | fc7 | fc8, where | marks the places at which the columns exchange what they computed.

Not torchvision's `alexnet`, which is the one-column network of a later paper, without LRN.
N images, C channels, H rows, W columns, K classes.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from alexnet_cli.errors import RecipeError
from alexnet_cli.model.geometry import (
    conv_output_size,
    low_resolution_output_size,
    pool_output_size,
)
from alexnet_cli.model.layers import (
    CeilConv2d,
    ColumnLinear,
    LocalConv2d,
    LocalResponseNorm,
    SpatialResponseNorm,
    TwoScaleConv2d,
    UnscaledDropout,
)
from alexnet_cli.recipes.recipe import Conv, Dense, Recipe

RGB = 3
ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}
POOLINGS = {
    "max-pool": nn.MaxPool2d,
    # Windows that hang over are averaged over what they cover.
    "average-pool": partial(nn.AvgPool2d, count_include_pad=False),
}


class AlexNet(nn.Module):
    """The 2012 network, or the part of it that some columns make up.

    In the whole network channels are column 0's, then column 1's; layers that read their own column
    only are grouped convolutions. `AlexNet(recipe, K, columns=(1,))` holds column 1: half of the
    kernels of each layer, and its half of fc8's inputs.

    Attributes:
        stages: names of layers in order, cut where a layer reads both columns.
    """

    def __init__(self, recipe: Recipe, num_classes: int, columns: tuple[int, ...] | None = None):
        super().__init__()
        self.recipe, self.num_classes = recipe, num_classes
        self.columns = tuple(range(recipe.columns)) if columns is None else columns
        self.stages: list[list[str]] = [[]]
        self._add_convs()
        self._add_denses()
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        """Map float (N, 3, H, W), 0..255 minus the mean, to logits (N, K)."""
        for stage in range(len(self.stages)):
            x = self.run_stage(stage, x)
        return x

    def run_stage(self, stage: int, x: Tensor) -> Tensor:
        """Run the layers between two exchanges.

        Args:
            x: the whole network's activations if the stage begins with a layer of
                `recipe.reads_both` (for fc8, this part's own), the image for the first stage.
        """
        image = x
        for name in self.stages[stage]:
            x = self.run_layer(name, x, image)
        return x

    def run_layer(self, name: str, x: Tensor, image: Tensor) -> Tensor:
        """Run one layer; `image` is what its stage began with."""
        layer = self.get_submodule(name)
        return layer(x, image) if isinstance(layer, TwoScaleConv2d) else layer(x)

    def _add_convs(self) -> None:
        channels, self._size = RGB, self.recipe.crop_size
        for name, conv in self.recipe.convs().items():
            self._add_conv(name, conv, channels)
            self._size = conv_output_size(self._size, conv.size, conv.stride, conv.pad)
            self._add_after(self.recipe.number_of(name), conv)
            if self._size < 1:
                raise RecipeError(
                    f"crop_size={self.recipe.crop_size}: nothing is left of it after {name}."
                )
            channels = conv.filters
        self._add("flatten", nn.Flatten())  # channel, row, column of each network column in turn
        self._inputs = channels * self._size**2

    def _add_after(self, number: str, conv: Conv) -> None:
        """Add the steps that follow a convolution."""
        for step in conv.then:
            if step == "activation":
                self._add_activation(number)
            elif step == "norm":
                self._add(f"norm{number}", self._norm())
            elif step in ("spatial-norm", "contrast-norm"):
                kind = step.removesuffix("-norm")
                self._add(f"{kind}{number}", self._spatial_norm(contrast=kind == "contrast"))
            else:
                self._add(f"pool{number}", self._pool(POOLINGS[step]))

    def _add_activation(self, number: str) -> None:
        activation = self.recipe.activation
        self._add(f"{activation}{number}", ACTIVATIONS[activation]())

    def _add_conv(self, name: str, conv: Conv, channels: int) -> None:
        """Own-column layers are grouped; conv1 and layers that read both see every channel."""
        groups, filters = 1, self._share(conv.filters)
        if self.recipe.reads_own_column(name):
            groups, channels = len(self.columns), self._share(channels)
        if conv.local:
            layer = LocalConv2d(channels, filters, conv.size, conv.pad, self._size)
        else:
            kind = self._conv_kind(name, conv)
            layer = kind(channels, filters, conv.size, conv.stride, conv.pad, groups=groups)
        self._add(name, layer)

    def _conv_kind(self, name: str, conv: Conv) -> type[CeilConv2d]:
        if name != "conv2" or not self.recipe.low_resolution:
            return CeilConv2d
        crop_size = self.recipe.crop_size
        side = low_resolution_output_size(crop_size)
        if side != conv_output_size(self._size, conv.size, conv.stride, conv.pad):
            raise RecipeError(
                f"crop_size={crop_size}: low_resolution gives conv2 {side} positions."
            )
        return TwoScaleConv2d

    def _add_denses(self) -> None:
        inputs = self._inputs
        for name, dense in self.recipe.denses().items():
            self._add_dense(name, inputs, self._share(dense.units))
            number = self.recipe.number_of(name)
            if not dense.linear:
                self._add_activation(number)
            if dense.dropout:
                self._add(f"drop{number}", UnscaledDropout(dense.dropout))
            inputs = dense.units
        self._add("fc8", self._classifier(inputs))

    def _classifier(self, inputs: int) -> nn.Linear:
        """Return fc8: scores of this part's classes, or this part's share of all scores."""
        if self.recipe.split_classes:
            sizes = share_out(self.num_classes, self.recipe.columns)
            return nn.Linear(inputs, sum(sizes[column] for column in self.columns))
        # A sum over the columns: each part multiplies its own units, one adds the bias.
        return nn.Linear(self._share(inputs), self.num_classes, bias=0 in self.columns)

    def _add_dense(self, name: str, inputs: int, units: int) -> None:
        if self.recipe.reads_own_column(name):
            inputs //= self.recipe.columns
            self._add(name, ColumnLinear(inputs, units, len(self.columns)))
        else:
            self._add(name, nn.Linear(inputs, units))

    def _add(self, name: str, layer: nn.Module) -> None:
        if name in self.recipe.reads_both:
            self.stages.append([])
        self.stages[-1].append(name)
        self.add_module(name, layer)

    def _share(self, count: int) -> int:
        """Return how many of a layer's kernels or units this part holds."""
        return count // self.recipe.columns * len(self.columns)

    def _norm(self) -> LocalResponseNorm:
        r = self.recipe
        alpha = r.lrn_alpha_per_square()
        return LocalResponseNorm(r.lrn_size, alpha, r.lrn_beta, r.lrn_k, len(self.columns))

    def _spatial_norm(self, *, contrast: bool) -> SpatialResponseNorm:
        r = self.recipe
        alpha = r.spatial_alpha_per_square()
        return SpatialResponseNorm(
            r.spatial_size, alpha, r.spatial_beta, r.spatial_k, contrast=contrast
        )

    def _pool(self, kind: Callable[..., nn.Module]) -> nn.Module:
        size, stride = self.recipe.pool_size, self.recipe.pool_stride
        self._size = pool_output_size(self._size, size, stride)
        return kind(size, stride, ceil_mode=True)


def share_out(count: int, columns: int) -> list[int]:
    """Return how many of `count` each column holds; of 21,843 classes 10,921 and 10,922."""
    return [count * (i + 1) // columns - count * i // columns for i in range(columns)]


def initialize(net: AlexNet, seed: int) -> None:
    """Draw the weights of a whole network (section 5): N(0, std), constant biases.

    | layer | std (paper recipe) | bias |
    | conv1, conv2 | 0.01 | 0, 1 |
    | conv3, conv4, conv5 | 0.03 | 0, 1, 1 |
    | fc6, fc7 | 0.01 | 1 |
    | fc8 | 0.01 | 0 |
    """
    generator = torch.Generator().manual_seed(seed)
    layers: dict[str, Conv | Dense] = {**net.recipe.convs(), **net.recipe.denses()}
    for name in net.recipe.layer_names():
        layer = net.get_submodule(name)
        std, bias = net.recipe.fc8_init_std, 0.0
        if name in layers:
            std, bias = layers[name].init_std, layers[name].init_bias
        for kind, parameter in layer.named_parameters():
            with torch.no_grad():
                if kind == "bias":
                    parameter.fill_(bias)
                else:
                    spread = net.recipe.low_init_std if kind == "low_weight" else std
                    drawn = torch.empty(parameter.shape).normal_(0.0, spread, generator=generator)
                    parameter.copy_(drawn)


@dataclass(frozen=True, slots=True)
class LayerInfo:
    """One line of the network's table: output as (C, H, W) or (units,)."""

    name: str
    output: tuple[int, ...]
    parameters: int


def parameter_shapes(recipe: Recipe, num_classes: int) -> dict[str, tuple[int, ...]]:
    """Return every parameter's name and shape, without allocating weights."""
    with torch.device("meta"):
        net = AlexNet(recipe, num_classes)
    return {name: tuple(parameter.shape) for name, parameter in net.named_parameters()}


def describe_layers(recipe: Recipe, num_classes: int) -> list[LayerInfo]:
    """Return every layer's name, output and number of parameters, without allocating weights."""
    with torch.device("meta"):
        net = AlexNet(recipe, num_classes)
        x = torch.empty(1, RGB, recipe.crop_size, recipe.crop_size)
    return list(_trace(net.eval(), x))


def _trace(net: AlexNet, x: Tensor) -> Iterator[LayerInfo]:
    image = x
    for stage in net.stages:
        for name in stage:
            layer, x = net.get_submodule(name), net.run_layer(name, x, image)
            yield LayerInfo(name, tuple(x.shape[1:]), sum(p.numel() for p in layer.parameters()))
