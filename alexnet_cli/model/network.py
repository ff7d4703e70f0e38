"""The network of section 3 in torch, whole or one column of it, from the layers of its recipe.

Not torchvision's `alexnet`, which is the one-column network of a later paper, without LRN.
N images, C channels, H rows, W columns, K classes.
"""

import torch
from torch import Tensor, nn

from alexnet_cli.model.architecture import Layer, layers_of
from alexnet_cli.model.layers import (
    CeilConv2d,
    ColumnLinear,
    LocalConv2d,
    LocalResponseNorm,
    SpatialResponseNorm,
    TwoScaleConv2d,
    UnscaledDropout,
)
from alexnet_cli.recipes.recipe import Recipe

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}


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
        for layer in layers_of(recipe, num_classes):
            if layer.name in recipe.reads_both:
                self.stages.append([])
            self.stages[-1].append(layer.name)
            self.add_module(layer.name, self._module(layer))
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        """Map float (N, 3, H, W), 0..255 minus the mean, scaled, to logits (N, K)."""
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
        """Run one layer; `image` is the input of its stage."""
        layer = self.get_submodule(name)
        return layer(x, image) if isinstance(layer, TwoScaleConv2d) else layer(x)

    def _module(self, layer: Layer) -> nn.Module:
        """Return this part of a layer."""
        recipe = self.recipe
        match layer.kind:
            case "conv" | "local-conv":
                return self._conv(layer)
            case "activation":
                return ACTIVATIONS[recipe.activation]()
            case "norm":
                alpha, beta, k = recipe.lrn_alpha_per_square(), recipe.lrn_beta, recipe.lrn_k
                return LocalResponseNorm(recipe.lrn_size, alpha, beta, k, len(self.columns))
            case "spatial-norm" | "contrast-norm":
                return SpatialResponseNorm(
                    recipe.spatial_size,
                    recipe.spatial_alpha_per_square(),
                    recipe.spatial_beta,
                    recipe.spatial_k,
                    contrast=layer.kind == "contrast-norm",
                )
            case "max-pool":
                return nn.MaxPool2d(recipe.pool_size, recipe.pool_stride, ceil_mode=True)
            case "average-pool":  # windows that reach beyond the image average what they cover
                return nn.AvgPool2d(
                    recipe.pool_size, recipe.pool_stride, ceil_mode=True, count_include_pad=False
                )
            case "flatten":
                return nn.Flatten()  # channel, row, column of each network column in turn
            case "dropout":
                return UnscaledDropout(layer.dropout)
            case "dense":
                return self._dense(layer)
        return self._classifier(layer)

    def _conv(self, layer: Layer) -> nn.Module:
        conv, (channels, size, _) = layer.options, layer.input
        groups, filters = conv.groups, self._share(conv.filters)
        if self.recipe.columns > 1 and self.recipe.reads_own_column(layer.name):
            groups, channels = len(self.columns), self._share(channels)
        if conv.local:
            return LocalConv2d(channels, filters, conv.size, conv.pad, size)
        kind = TwoScaleConv2d if "low_weight" in layer.parameters else CeilConv2d
        module = kind(channels, filters, conv.size, conv.stride, conv.pad, groups=groups)
        module.round_down = conv.round_down
        return module

    def _dense(self, layer: Layer) -> nn.Linear:
        inputs, units = layer.input[0], self._share(layer.output[0])
        if self.recipe.reads_own_column(layer.name):
            return ColumnLinear(inputs // self.recipe.columns, units, len(self.columns))
        return nn.Linear(inputs, units)

    def _classifier(self, layer: Layer) -> nn.Linear:
        """Return fc8: scores of this part's classes, or this part's share of all scores."""
        (inputs,) = layer.input
        if self.recipe.split_classes:
            sizes = split_evenly(self.num_classes, self.recipe.columns)
            return nn.Linear(inputs, sum(sizes[column] for column in self.columns))
        # A sum over the columns: each part multiplies its own units, one adds the bias.
        return nn.Linear(self._share(inputs), self.num_classes, bias=0 in self.columns)

    def _share(self, count: int) -> int:
        """Return how many of a layer's kernels or units this part holds."""
        return count // self.recipe.columns * len(self.columns)


def split_evenly(count: int, columns: int) -> list[int]:
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
    for layer in layers_of(net.recipe, net.num_classes):
        std, bias = net.recipe.fc8_init_std, 0.0
        if layer.options:
            std, bias = layer.options.init_std, layer.options.init_bias
        for kind, parameter in net.get_submodule(layer.name).named_parameters():
            with torch.no_grad():
                if kind == "bias":
                    parameter.fill_(bias)
                else:
                    spread = net.recipe.low_init_std if kind == "low_weight" else std
                    drawn = torch.empty(parameter.shape).normal_(0.0, spread, generator=generator)
                    parameter.copy_(drawn)
