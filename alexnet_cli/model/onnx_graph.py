"""The network as one ONNX graph: uint8 pictures in, class probabilities out (sections 3 and 4).

Patches, mean image, weights and metadata are all inside, and the number of pictures is free.
Channels are column 0's, then column 1's, as in alexnet.py.
N images, V views, C channels, H rows, W columns, K classes.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from alexnet_cli.recipe import Conv, Recipe

# onnx 1.12, of 2022: everything here exists in it, and opset 18 is where the reductions change, so
# runtimes and converters old and new read the file.
OPSET, IR_VERSION = 17, 8
INPUT, OUTPUT, BATCH = "images", "probabilities", "batch"
RGB = 3
POOLINGS = {"max-pool": "MaxPool", "average-pool": "AveragePool"}


def build_graph(
    recipe: Recipe,
    weights: dict[str, np.ndarray],
    mean_image: np.ndarray,
    *,
    views: int,
    metadata: dict[str, str],
) -> onnx.ModelProto:
    """Return a model from `images`, uint8 RGB (N, H, W, 3), to `probabilities`, float32 (N, K).

    Args:
        weights: `conv1.weight`, `conv1.bias` and so on to fc8, float32, as torch lays them out.
        mean_image: float32 RGB, HWC, 0..255, square; pictures have its size.
        views: 1 for the centre patch, 10 to average over the ten of section 4.1.
        metadata: text the file carries along.
    """
    graph = _Graph()
    x = _patches(graph, recipe, mean_image, views)  # (V N, 3, H, W)
    x = _add_convs(graph, recipe, weights, x)
    x = _add_denses(graph, recipe, weights, x)
    num_classes = len(weights["fc8.bias"])
    _add_probabilities(graph, x, views, num_classes)
    size = len(mean_image)
    model = graph.model(
        helper.make_tensor_value_info(INPUT, TensorProto.UINT8, [BATCH, size, size, RGB]),
        helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [BATCH, num_classes]),
    )
    helper.set_model_props(model, metadata)
    return model


class _Graph:
    """Nodes and constants in the order they are added; a node and its output share one name."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[TensorProto] = []

    def constant(self, name: str, values: np.ndarray) -> str:
        self.constants.append(numpy_helper.from_array(values, name))
        return name

    def integers(self, name: str, values: Sequence[int]) -> str:
        return self.constant(name, np.array(values, np.int64))

    def add(self, operator: str, name: str, *inputs: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [name], name, **attributes))
        return name

    def split(self, name: str, source: str, axis: int, num_parts: int) -> list[str]:
        names = [f"{name}{part}" for part in range(num_parts)]
        self.nodes.append(helper.make_node("Split", [source], names, name, axis=axis))
        return names

    def model(self, source: onnx.ValueInfoProto, result: onnx.ValueInfoProto) -> onnx.ModelProto:
        graph = helper.make_graph(self.nodes, "alexnet", [source], [result], self.constants)
        opset = helper.make_opsetid("", OPSET)
        return helper.make_model(
            graph, producer_name="alexnet", opset_imports=[opset], ir_version=IR_VERSION
        )


def _patches(graph: _Graph, recipe: Recipe, mean_image: np.ndarray, views: int) -> str:
    """Cut the views, view by view, and subtract the mean image's centre patch from each."""
    size = recipe.crop_size
    end = len(mean_image) - size
    middle = end // 2
    if views == 1:
        patches = _cut(graph, "crop", middle, middle, size)
    else:
        patches = _ten_patches(graph, end, size)
    chw = graph.add("Transpose", "chw", patches, perm=[0, 3, 1, 2])
    pixels = graph.add("Cast", "pixels", chw, to=TensorProto.FLOAT)
    mean = mean_image[middle : middle + size, middle : middle + size].transpose(2, 0, 1)[None]
    return graph.add("Sub", "centred", pixels, graph.constant("mean", mean.astype(np.float32)))


def _ten_patches(graph: _Graph, end: int, size: int) -> str:
    """Cut the corners and the centre, then mirror all five (2012 code, convdata_jpeg.py:225)."""
    offsets = [(0, 0), (0, end), (end // 2, end // 2), (end, 0), (end, end)]
    cuts = [_cut(graph, f"crop{i}", *offset, size) for i, offset in enumerate(offsets)]
    plain = graph.add("Concat", "crops", *cuts, axis=0)
    bounds = {"starts": [-1], "ends": [np.iinfo(np.int64).min], "axes": [2], "steps": [-1]}
    constants = [graph.integers(f"mirrored/{name}", value) for name, value in bounds.items()]
    mirrored = graph.add("Slice", "mirrored", plain, *constants)
    return graph.add("Concat", "views", plain, mirrored, axis=0)


def _cut(graph: _Graph, name: str, top: int, left: int, size: int) -> str:
    bounds = {"starts": [top, left], "ends": [top + size, left + size], "axes": [1, 2]}
    constants = [graph.integers(f"{name}/{key}", value) for key, value in bounds.items()]
    return graph.add("Slice", name, INPUT, *constants)


def _add_convs(graph: _Graph, recipe: Recipe, weights: dict[str, np.ndarray], x: str) -> str:
    size = recipe.crop_size
    for name, conv in recipe.convs().items():
        groups = recipe.columns if recipe.reads_own_column(name) else 1
        x, size = _add_conv(graph, name, conv, _parameters(graph, weights, name, x), size, groups)
        x = _add_after(graph, recipe, name.removeprefix("conv"), conv, x)
        if POOLINGS.keys() & set(conv.then):
            size = 1 + math.ceil((size - recipe.pool_size) / recipe.pool_stride)
    return graph.add("Flatten", "flatten", x)


def _add_after(graph: _Graph, recipe: Recipe, number: str, conv: Conv, x: str) -> str:
    """Add the steps that follow a convolution."""
    for step in conv.then:
        if step == "activation":
            x = _add_activation(graph, recipe, number, x)
        elif step == "norm":
            x = _add_norm(graph, recipe, f"norm{number}", x, conv.filters)
        elif step == "spatial-norm":
            x = _add_spatial_norm(graph, recipe, f"spatial{number}", x)
        else:
            window, stride = [recipe.pool_size] * 2, [recipe.pool_stride] * 2
            sizes = {"kernel_shape": window, "strides": stride, "ceil_mode": 1}
            x = graph.add(POOLINGS[step], f"pool{number}", x, **sizes)
    return x


def _add_activation(graph: _Graph, recipe: Recipe, number: str, x: str) -> str:
    return graph.add(recipe.activation.title(), f"{recipe.activation}{number}", x)


def _add_conv(
    graph: _Graph, name: str, conv: Conv, inputs: list[str], size: int, groups: int
) -> tuple[str, int]:
    """Add a convolution whose output size is rounded up; return it and that size.

    Windows that hang over right and bottom read zeros there (2012 code, layer.py:1004).
    """
    steps = math.ceil((2 * conv.pad + size - conv.size) / conv.stride)
    far = steps * conv.stride + conv.size - size - conv.pad
    output = graph.add(
        "Conv",
        name,
        *inputs,
        kernel_shape=[conv.size] * 2,
        strides=[conv.stride] * 2,
        pads=[conv.pad, conv.pad, far, far],
        group=groups,
    )
    return output, steps + 1


def _add_norm(graph: _Graph, recipe: Recipe, name: str, x: str, channels: int) -> str:
    """Add y = x * (k + alpha * sum of x^2 over neighbouring channels)^-beta (section 3.3).

    k + alpha * sum is one 1x1 convolution of the squares, by a banded matrix for each column: the
    fastest form of those in tools/bench/lrn_onnx.py, well ahead of ONNX's own LRN node.
    """
    band = recipe.lrn_alpha_per_square() * _band(channels // recipe.columns, recipe.lrn_size)
    blocks = np.tile(band, (recipe.columns, 1))[:, :, None, None].astype(np.float32)
    window = graph.constant(f"{name}/window", blocks)
    k = graph.constant(f"{name}/k", np.full(channels, recipe.lrn_k, np.float32))
    square = graph.add("Mul", f"{name}/square", x, x)
    scale = graph.add("Conv", f"{name}/scale", square, window, k, group=recipe.columns)
    return _divide_by_power(graph, name, x, scale, recipe.lrn_beta)


def _add_spatial_norm(graph: _Graph, recipe: Recipe, name: str, x: str) -> str:
    """Add y = x * (1 + alpha * mean of x^2 around it in the same map)^-beta."""
    size = recipe.spatial_size
    before, after = size // 2, (size - 1) // 2
    mean = graph.add(
        "AveragePool",
        f"{name}/mean",
        graph.add("Mul", f"{name}/square", x, x),
        kernel_shape=[size] * 2,
        pads=[before, before, after, after],
        count_include_pad=1,
    )
    alpha = graph.constant(f"{name}/alpha", np.array(recipe.spatial_alpha, np.float32))
    one = graph.constant(f"{name}/one", np.array(1, np.float32))
    scale = graph.add("Add", f"{name}/scale", graph.add("Mul", f"{name}/sum", mean, alpha), one)
    return _divide_by_power(graph, name, x, scale, recipe.spatial_beta)


def _divide_by_power(graph: _Graph, name: str, x: str, scale: str, beta: float) -> str:
    """Add x * scale^-beta."""
    if beta != 0.75:
        exponent = graph.constant(f"{name}/beta", np.array(-beta, np.float32))
        return graph.add("Mul", name, x, graph.add("Pow", f"{name}/power", scale, exponent))
    # scale^(3/4) by square roots: far cheaper than Pow.
    root = graph.add("Sqrt", f"{name}/root", scale)
    fourth_root = graph.add("Sqrt", f"{name}/fourth_root", root)
    half = graph.add("Div", f"{name}/over_root", x, root)
    return graph.add("Div", name, half, fourth_root)


def _band(channels: int, window: int) -> np.ndarray:
    """Return 0/1 (C, C): which channels count for which; even windows reach one further back."""
    channel = np.arange(channels)
    distance = channel[None] - channel[:, None] + window // 2
    return (distance >= 0) & (distance < window)


def _add_denses(graph: _Graph, recipe: Recipe, weights: dict[str, np.ndarray], x: str) -> str:
    kept = 1.0  # share of the units below that dropout keeps, see section 4.2
    for name, dense in recipe.denses().items():
        columns = recipe.columns if recipe.reads_own_column(name) else 1
        x = _add_dense(graph, name, _parameters(graph, weights, name, x, kept), columns)
        x = _add_activation(graph, recipe, name[2:], x)
        kept = 1.0 - dense.dropout
    return graph.add("Gemm", "fc8", *_parameters(graph, weights, "fc8", x, kept), transB=1)


def _add_dense(graph: _Graph, name: str, inputs: list[str], columns: int) -> str:
    """Add a fully connected layer, or one for each column that reads its own inputs."""
    if columns == 1:
        return graph.add("Gemm", name, *inputs, transB=1)
    parts = [
        graph.split(f"{name}/{what}", source, axis, columns)
        for what, source, axis in zip(("x", "weight", "bias"), inputs, (1, 0, 0), strict=True)
    ]
    products = [
        graph.add("Gemm", f"{name}/{column}", *part, transB=1)
        for column, part in enumerate(zip(*parts, strict=True))
    ]
    return graph.add("Concat", name, *products, axis=1)


def _parameters(
    graph: _Graph, weights: dict[str, np.ndarray], name: str, x: str, factor: float = 1.0
) -> list[str]:
    """Return a layer's inputs: x, its weight times `factor`, its bias."""
    weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
    if factor != 1.0:
        weight = weight * np.float32(factor)
    return [x, graph.constant(f"{name}.weight", weight), graph.constant(f"{name}.bias", bias)]


def _add_probabilities(graph: _Graph, logits: str, views: int, num_classes: int) -> None:
    """Add the softmax and its mean over the views (section 4.1)."""
    if views == 1:
        graph.add("Softmax", OUTPUT, logits, axis=1)
        return
    softmax = graph.add("Softmax", "softmax", logits, axis=1)
    shape = graph.integers("by_view/shape", [views, -1, num_classes])
    by_view = graph.add("Reshape", "by_view", softmax, shape)
    graph.add("ReduceMean", OUTPUT, by_view, axes=[0], keepdims=0)
