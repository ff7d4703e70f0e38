"""The network as one ONNX graph: uint8 images in, class probabilities out (sections 3 and 4).

Patches, mean image, weights and metadata are all inside, and the number of images is free.
Channels are column 0's, then column 1's, as in alexnet.py.
N images, V views, C channels, H rows, W columns, K classes.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper

from alexnet_cli.model.geometry import (
    KEPT_EVERY,
    LOW_STRIDE,
    blur_window,
    conv_output_size,
    low_resolution_pads,
    overhang,
    pool_output_size,
)
from alexnet_cli.onnx.nodes import Graph
from alexnet_cli.onnx.norms import add_norm, add_spatial_norm
from alexnet_cli.recipes.recipe import Conv, Recipe

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
        mean_image: float32 RGB, HWC, 0..255, square; images have its size.
        views: 1 for the center crop, 10 to average over the ten of section 4.1.
        metadata: text the file carries along.
    """
    graph = Graph()
    x = _crops(graph, recipe, mean_image, views)  # (V N, 3, H, W)
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


def _crops(graph: Graph, recipe: Recipe, mean_image: np.ndarray, views: int) -> str:
    """Cut the views, view by view, and subtract the mean image's center crop from each."""
    size = recipe.crop_size
    end = len(mean_image) - size
    middle = end // 2
    if views == 1:
        crops = _cut(graph, "crop", middle, middle, size)
    else:
        crops = _many_crops(graph, end, size, views)
    chw = graph.add("Transpose", "chw", crops, perm=[0, 3, 1, 2])
    pixels = graph.add("Cast", "pixels", chw, to=TensorProto.FLOAT)
    mean = mean_image[middle : middle + size, middle : middle + size].transpose(2, 0, 1)[None]
    return graph.add("Sub", "centerd", pixels, graph.constant("mean", mean.astype(np.float32)))


def _many_crops(graph: Graph, end: int, size: int, views: int) -> str:
    """Cut nine crops; or five, and mirror them (2012: convdata_cifar.py:82, _jpeg.py:225)."""
    offsets = [(0, 0), (0, end), (end // 2, end // 2), (end, 0), (end, end)]
    if views == 9:
        offsets = [(top, left) for top in (0, end // 2, end) for left in (0, end // 2, end)]
    cuts = [_cut(graph, f"crop{i}", *offset, size) for i, offset in enumerate(offsets)]
    plain = graph.add("Concat", "crops", *cuts, axis=0)
    if views == 9:
        return plain
    bounds = {"starts": [-1], "ends": [np.iinfo(np.int64).min], "axes": [2], "steps": [-1]}
    constants = [graph.integers(f"mirrored/{name}", value) for name, value in bounds.items()]
    mirrored = graph.add("Slice", "mirrored", plain, *constants)
    return graph.add("Concat", "views", plain, mirrored, axis=0)


def _cut(graph: Graph, name: str, top: int, left: int, size: int) -> str:
    bounds = {"starts": [top, left], "ends": [top + size, left + size], "axes": [1, 2]}
    constants = [graph.integers(f"{name}/{key}", value) for key, value in bounds.items()]
    return graph.add("Slice", name, INPUT, *constants)


def _add_convs(graph: Graph, recipe: Recipe, weights: dict[str, np.ndarray], x: str) -> str:
    size, image = recipe.crop_size, x
    for name, conv in recipe.convs().items():
        if conv.local:
            x = _add_local_conv(graph, name, conv, weights, x, size)
        else:
            groups = recipe.columns if recipe.reads_own_column(name) else 1
            x = _add_conv(graph, name, conv, _parameters(graph, weights, name, x), size, groups)
        if name == "conv2" and recipe.low_resolution:
            x = _add_low_resolution(graph, recipe, weights["conv2.low_weight"], x, image)
        size = conv_output_size(size, conv.size, conv.stride, conv.pad)
        x = _add_after(graph, recipe, recipe.number_of(name), conv, x)
        if POOLINGS.keys() & set(conv.then):
            size = pool_output_size(size, recipe.pool_size, recipe.pool_stride)
    return graph.add("Flatten", "flatten", x)


def _add_after(graph: Graph, recipe: Recipe, number: str, conv: Conv, x: str) -> str:
    """Add the steps that follow a convolution."""
    for step in conv.then:
        kind = step.removesuffix("-norm")
        if step == "activation":
            x = _add_activation(graph, recipe, number, x)
        elif step == "norm":
            x = add_norm(graph, recipe, f"norm{number}", x, conv.filters)
        elif step.endswith("-norm"):
            contrast = kind == "contrast"
            x = add_spatial_norm(graph, recipe, f"{kind}{number}", x, contrast=contrast)
        else:
            window, stride = [recipe.pool_size] * 2, [recipe.pool_stride] * 2
            sizes = {"kernel_shape": window, "strides": stride, "ceil_mode": 1}
            x = graph.add(POOLINGS[step], f"pool{number}", x, **sizes)
    return x


def _add_activation(graph: Graph, recipe: Recipe, number: str, x: str) -> str:
    return graph.add(recipe.activation.title(), f"{recipe.activation}{number}", x)


def _add_conv(
    graph: Graph, name: str, conv: Conv, inputs: list[str], size: int, groups: int
) -> str:
    """Add a convolution; windows that hang over right and bottom read zeros there."""
    far = conv.pad + overhang(size, conv.size, conv.stride, conv.pad)
    return graph.add(
        "Conv",
        name,
        *inputs,
        kernel_shape=[conv.size] * 2,
        strides=[conv.stride] * 2,
        pads=[conv.pad, conv.pad, far, far],
        group=groups,
    )


def _add_low_resolution(
    graph: Graph, recipe: Recipe, weight: np.ndarray, x: str, image: str
) -> str:
    """Add what conv2 makes of the small blurred image to what it made of conv1."""
    near, far, end = low_resolution_pads(recipe.crop_size)
    window = graph.constant("low/window", np.tile(blur_window(), (RGB, 1, 1, 1)))
    strides, pads = [KEPT_EVERY] * 2, [near, near, far, far]
    small = graph.add("Conv", "low/blur", image, window, strides=strides, pads=pads, group=RGB)
    constant = graph.constant("conv2.low_weight", weight)
    low = graph.add("Conv", "low", small, constant, strides=[LOW_STRIDE] * 2, pads=[0, 0, end, end])
    return graph.add("Add", "conv2/both", x, low)


def _add_local_conv(
    graph: Graph, name: str, conv: Conv, weights: dict[str, np.ndarray], x: str, size: int
) -> str:
    """Add a convolution with weights of its own at every position.

    A convolution with the identity collects each position's inputs as channels; one product of
    matrices for each position follows.
    """
    weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]  # (F, C k k, P), (F, P)
    filters, inputs, positions = weight.shape
    side = conv_output_size(size, conv.size, 1, conv.pad)
    identity = np.eye(inputs, dtype=np.float32).reshape(inputs, -1, conv.size, conv.size)
    collect = graph.constant(f"{name}/collect", identity)
    windows = graph.add("Conv", f"{name}/windows", x, collect, pads=[conv.pad] * 4)
    flat = graph.integers(f"{name}/flat_shape", [0, inputs, positions])
    flat = graph.add("Reshape", f"{name}/flat", windows, flat)
    by_position = graph.add("Transpose", f"{name}/by_position", flat, perm=[2, 0, 1])
    factors = graph.constant(f"{name}.weight", np.ascontiguousarray(weight.transpose(2, 1, 0)))
    product = graph.add("MatMul", f"{name}/product", by_position, factors)  # (P, N, F)
    terms = graph.constant(f"{name}.bias", np.ascontiguousarray(bias.T[:, None]))
    total = graph.add("Add", f"{name}/total", product, terms)
    maps = graph.add("Transpose", f"{name}/maps", total, perm=[1, 2, 0])
    shape = graph.integers(f"{name}/shape", [0, filters, side, side])
    return graph.add("Reshape", name, maps, shape)


def _add_denses(graph: Graph, recipe: Recipe, weights: dict[str, np.ndarray], x: str) -> str:
    kept = 1.0  # share of the units below that dropout keeps, see section 4.2
    for name, dense in recipe.denses().items():
        columns = recipe.columns if recipe.reads_own_column(name) else 1
        x = _add_dense(graph, name, _parameters(graph, weights, name, x, kept), columns)
        if not dense.linear:
            x = _add_activation(graph, recipe, recipe.number_of(name), x)
        kept = 1.0 - dense.dropout
    return graph.add("Gemm", "fc8", *_parameters(graph, weights, "fc8", x, kept), transB=1)


def _add_dense(graph: Graph, name: str, inputs: list[str], columns: int) -> str:
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
    graph: Graph, weights: dict[str, np.ndarray], name: str, x: str, factor: float = 1.0
) -> list[str]:
    """Return a layer's inputs: x, its weight times `factor`, its bias."""
    weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
    if factor != 1.0:
        weight = weight * np.float32(factor)
    return [x, graph.constant(f"{name}.weight", weight), graph.constant(f"{name}.bias", bias)]


def _add_probabilities(graph: Graph, logits: str, views: int, num_classes: int) -> None:
    """Add the softmax and its mean over the views (section 4.1)."""
    if views == 1:
        graph.add("Softmax", OUTPUT, logits, axis=1)
        return
    softmax = graph.add("Softmax", "softmax", logits, axis=1)
    shape = graph.integers("by_view/shape", [views, -1, num_classes])
    by_view = graph.add("Reshape", "by_view", softmax, shape)
    graph.add("ReduceMean", OUTPUT, by_view, axes=[0], keepdims=0)
