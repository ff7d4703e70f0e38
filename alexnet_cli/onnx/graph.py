"""The network as one ONNX graph: uint8 images in, class probabilities out (sections 3 and 4).

Crops, mean image, weights and metadata are all inside, and the number of images is free.
Channels are column 0's, then column 1's, as in model/network.py.
N images, V views, C channels, H rows, W columns, K classes.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from alexnet_cli.model.architecture import (
    KEPT_EVERY,
    LOW_STRIDE,
    RGB,
    Layer,
    Shape,
    blur_window,
    layers_of,
    low_resolution_pads,
    overhang,
)
from alexnet_cli.recipes.recipe import Recipe

INPUT, OUTPUT, BATCH = "images", "probabilities", "batch"
# onnx 1.12, of 2022: everything here exists in it, and opset 18 is where the reductions change, so
# runtimes and converters old and new read the file.
OPSET, IR_VERSION = 17, 8


class Graph:
    """Nodes and constants in the order they are added; a node and its output share one name.

    Attributes:
        with_values: whether float constants hold their values, or only their names and shapes.
        values_of: functions that return the values of float constants, by name.
    """

    def __init__(self, *, with_values: bool = True) -> None:
        self.with_values = with_values
        self.values_of: dict[str, Callable[[], Any]] = {}
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[TensorProto] = []

    def constant(self, name: str, shape: Shape, values: Callable[[], Any]) -> str:
        """Add a float32 constant; `values` is called only where values are wanted."""
        tensor = TensorProto(name=name, dims=shape, data_type=TensorProto.FLOAT)
        if self.with_values:
            tensor.raw_data = np.broadcast_to(values(), shape).astype("<f4").tobytes()
        self.values_of[name] = values
        self.constants.append(tensor)
        return name

    def integers(self, name: str, values: Sequence[int]) -> str:
        """Add an int64 constant: a shape or bounds."""
        self.constants.append(numpy_helper.from_array(np.array(values, np.int64), name))
        return name

    def add(self, operator: str, name: str, *inputs: str, **attributes: Any) -> str:
        """Add a node of one output."""
        self.nodes.append(helper.make_node(operator, inputs, [name], name, **attributes))
        return name

    def split(self, name: str, source: str, axis: int, num_parts: int) -> list[str]:
        """Add a node that cuts `source` into equal parts, and return their names."""
        names = [f"{name}{part}" for part in range(num_parts)]
        self.nodes.append(helper.make_node("Split", [source], names, name, axis=axis))
        return names

    def model(self, source: onnx.ValueInfoProto, result: onnx.ValueInfoProto) -> onnx.ModelProto:
        """Return everything added so far as a model."""
        graph = helper.make_graph(self.nodes, "alexnet", [source], [result], self.constants)
        opset = helper.make_opsetid("", OPSET)
        return helper.make_model(
            graph, producer_name="alexnet", opset_imports=[opset], ir_version=IR_VERSION
        )


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
        weights: `conv1.weight`, `conv1.bias` and so on to fc8, float32, in torch's shapes.
        mean_image: float32 RGB, HWC, 0..255, square; images have its size.
        views: 1 for the center crop, 9 or 10 to average over those of section 4.1.
        metadata: text stored in the file.
    """
    values = weights | {"mean": mean_image}
    num_classes = len(weights["fc8.bias"])
    model = NetworkGraph(recipe, num_classes, len(mean_image), views, values).build()
    helper.set_model_props(model, metadata)
    return model


def constants_of(
    recipe: Recipe, weights: dict[str, np.ndarray], mean_image: np.ndarray
) -> dict[str, np.ndarray]:
    """Return the float32 constants of `build_graph` by name, the same for any number of views."""
    graph = NetworkGraph(recipe, len(weights["fc8.bias"]), len(mean_image), 1, None)
    model, found = graph.build(), {}
    graph.values = weights | {"mean": mean_image}
    for constant in model.graph.initializer:
        if constant.data_type == TensorProto.FLOAT:
            values = np.broadcast_to(graph.values_of[constant.name](), constant.dims)
            found[constant.name] = np.ascontiguousarray(values, "<f4").reshape(constant.dims)
    return found


def expected_graph(
    recipe: Recipe, num_classes: int, image_size: int, views: int
) -> onnx.ModelProto:
    """Return the model of `build_graph` without metadata and without values of float constants."""
    return NetworkGraph(recipe, num_classes, image_size, views, None).build()


class NetworkGraph(Graph):
    """The graph of a network.

    Attributes:
        values: the parameters and the mean image, `mean`; None for names and shapes only.
        kept: share of the units that dropout keeps, by which the next layer's weights are scaled
            (section 4.2).
    """

    def __init__(
        self,
        recipe: Recipe,
        num_classes: int,
        image_size: int,
        views: int,
        values: dict[str, np.ndarray] | None,
    ):
        super().__init__(with_values=values is not None)
        self.recipe, self.num_classes = recipe, num_classes
        self.image_size, self.views = image_size, views
        self.values = values or {}
        self.kept = 1.0

    def build(self) -> onnx.ModelProto:
        x = image = self._crops()  # (V N, 3, H, W)
        for layer in layers_of(self.recipe, self.num_classes):
            x = self.add_layer(layer, x, image)
        self._probabilities(x)
        sides: list[str | int | None] = [BATCH, self.image_size, self.image_size, RGB]
        return self.model(
            helper.make_tensor_value_info(INPUT, TensorProto.UINT8, sides),
            helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [BATCH, self.num_classes]),
        )

    def _crops(self) -> str:
        """Cut the views, view by view, and subtract the mean image's center crop from each."""
        size = self.recipe.crop_size
        end = self.image_size - size
        middle = end // 2
        crops = self._cut("crop", middle, middle) if self.views == 1 else self._many_crops(end)
        chw = self.add("Transpose", "chw", crops, perm=[0, 3, 1, 2])
        pixels = self.add("Cast", "pixels", chw, to=TensorProto.FLOAT)

        def center() -> np.ndarray:
            rows = columns = slice(middle, middle + size)
            return self.values["mean"][rows, columns].transpose(2, 0, 1)

        mean = self.constant("mean", (1, RGB, size, size), center)
        centered = self.add("Sub", "centered", pixels, mean)
        if self.recipe.pixel_scale == 1.0:
            return centered
        scale = self.constant("scale", (), lambda: np.float32(self.recipe.pixel_scale))
        return self.add("Div", "scaled", centered, scale)

    def _many_crops(self, end: int) -> str:
        """Cut nine crops; or five, and mirror them (2012: convdata_cifar.py:82, _jpeg.py:225)."""
        offsets = [(0, 0), (0, end), (end // 2, end // 2), (end, 0), (end, end)]
        if self.views == 9:
            offsets = [(top, left) for top in (0, end // 2, end) for left in (0, end // 2, end)]
        cuts = [self._cut(f"crop{i}", *offset) for i, offset in enumerate(offsets)]
        plain = self.add("Concat", "crops", *cuts, axis=0)
        if self.views == 9:
            return plain
        bounds = {"starts": [-1], "ends": [np.iinfo(np.int64).min], "axes": [2], "steps": [-1]}
        constants = [self.integers(f"mirrored/{name}", value) for name, value in bounds.items()]
        mirrored = self.add("Slice", "mirrored", plain, *constants)
        return self.add("Concat", "views", plain, mirrored, axis=0)

    def _cut(self, name: str, top: int, left: int) -> str:
        size = self.recipe.crop_size
        bounds = {"starts": [top, left], "ends": [top + size, left + size], "axes": [1, 2]}
        constants = [self.integers(f"{name}/{key}", value) for key, value in bounds.items()]
        return self.add("Slice", name, INPUT, *constants)

    def add_layer(self, layer: Layer, x: str, image: str) -> str:
        """Add a layer that reads `x`; `image` is the network's input."""
        match layer.kind:
            case "conv":
                return self._conv(layer, x, image)
            case "local-conv":
                return self._local_conv(layer, x)
            case "activation":
                return self.add(self.recipe.activation.title(), layer.name, x)
            case "norm":
                return self._norm(layer, x)
            case "spatial-norm" | "contrast-norm":
                return self._spatial_norm(layer, x)
            case "max-pool":
                return self._pool("MaxPool", layer, x)
            case "average-pool":
                return self._pool("AveragePool", layer, x)
            case "flatten":
                return self.add("Flatten", layer.name, x)
            case "dropout":
                self.kept = 1.0 - layer.dropout
                return x
        return self._dense(layer, x)

    def _parameters(self, layer: Layer) -> list[str]:
        """Add a layer's weight, scaled by what dropout kept before it, and its bias."""
        weight, factor = f"{layer.name}.weight", np.float32(self.kept)
        bias = f"{layer.name}.bias"
        self.kept = 1.0
        return [
            self.constant(
                weight,
                layer.parameters["weight"],
                lambda: self.values[weight] * factor if factor != 1 else self.values[weight],
            ),
            self.constant(bias, layer.parameters["bias"], lambda: self.values[bias]),
        ]

    def _conv(self, layer: Layer, x: str, image: str) -> str:
        """Add a convolution; windows that reach beyond right and bottom read zeros there."""
        conv = layer.options
        far = conv.pad
        if not conv.round_down:
            far += overhang(layer.input[-1], conv.size, conv.stride, conv.pad)
        y = self.add(
            "Conv",
            layer.name,
            x,
            *self._parameters(layer),
            kernel_shape=[conv.size] * 2,
            strides=[conv.stride] * 2,
            pads=[conv.pad, conv.pad, far, far],
            group=layer.groups,
        )
        if "low_weight" in layer.parameters:
            return self._with_low_resolution(layer.parameters["low_weight"], y, image)
        return y

    def _with_low_resolution(self, shape: Shape, x: str, image: str) -> str:
        """Add conv2's output for the small blurred image to its output for conv1."""
        near, far, end = low_resolution_pads(self.recipe.crop_size)
        blur = blur_window()
        window = self.constant("low/window", (RGB, 1, *blur.shape), lambda: blur)
        strides, pads = [KEPT_EVERY] * 2, [near, near, far, far]
        small = self.add("Conv", "low/blur", image, window, strides=strides, pads=pads, group=RGB)
        weight = "conv2.low_weight"
        constant = self.constant(weight, shape, lambda: self.values[weight])
        strides, pads = [LOW_STRIDE] * 2, [0, 0, end, end]
        low = self.add("Conv", "low", small, constant, strides=strides, pads=pads)
        return self.add("Add", "conv2/both", x, low)

    def _local_conv(self, layer: Layer, x: str) -> str:
        """Add a convolution with its own weights at every position.

        A convolution with the identity collects each position's inputs as channels; one product of
        matrices for each position follows.
        """
        name, conv = layer.name, layer.options
        filters, inputs, positions = layer.parameters["weight"]
        window = (inputs, layer.input[0], conv.size, conv.size)
        collect = self.constant(
            f"{name}/collect", window, lambda: np.eye(inputs, dtype=np.float32).reshape(window)
        )
        windows = self.add("Conv", f"{name}/windows", x, collect, pads=[conv.pad] * 4)
        flat = self.integers(f"{name}/flat_shape", [0, inputs, positions])
        flat = self.add("Reshape", f"{name}/flat", windows, flat)
        by_position = self.add("Transpose", f"{name}/by_position", flat, perm=[2, 0, 1])
        weight, bias = f"{name}.weight", f"{name}.bias"
        factors = self.constant(
            weight, (positions, inputs, filters), lambda: self.values[weight].transpose(2, 1, 0)
        )
        product = self.add("MatMul", f"{name}/product", by_position, factors)  # (P, N, F)
        terms = self.constant(bias, (positions, 1, filters), lambda: self.values[bias].T[:, None])
        total = self.add("Add", f"{name}/total", product, terms)
        maps = self.add("Transpose", f"{name}/maps", total, perm=[1, 2, 0])
        return self.add("Reshape", name, maps, self.integers(f"{name}/shape", [0, *layer.output]))

    def _pool(self, operator: str, layer: Layer, x: str) -> str:
        size, stride = [self.recipe.pool_size] * 2, [self.recipe.pool_stride] * 2
        return self.add(operator, layer.name, x, kernel_shape=size, strides=stride, ceil_mode=1)

    def _norm(self, layer: Layer, x: str) -> str:
        """Add y = x * (k + alpha * sum of x^2 over neighboring channels)^-beta (section 3.3).

        k + alpha * sum is one 1x1 convolution of the squares, by a banded matrix for each column:
        the fastest form of those in tools/bench/lrn_onnx.py, well ahead of ONNX's own LRN node.
        """
        recipe, name, channels = self.recipe, layer.name, layer.output[0]
        per_column = channels // layer.groups

        def window() -> np.ndarray:
            band = recipe.lrn_alpha_per_square() * _band(per_column, recipe.lrn_size)
            return np.tile(band, (layer.groups, 1))[:, :, None, None]

        bands = self.constant(f"{name}/window", (channels, per_column, 1, 1), window)
        k = self.constant(f"{name}/k", (channels,), lambda: np.float32(recipe.lrn_k))
        square = self.add("Mul", f"{name}/square", x, x)
        scale = self.add("Conv", f"{name}/scale", square, bands, k, group=layer.groups)
        return self._divide_by_power(name, x, scale, recipe.lrn_beta)

    def _spatial_norm(self, layer: Layer, x: str) -> str:
        """Add y = x * (k + alpha * sum of d^2 around it in the same map)^-beta.

        d is x, or x minus the mean around it.
        """
        recipe, name, d = self.recipe, layer.name, x
        if layer.kind == "contrast-norm":
            mean = self._average_around(f"{name}/mean", x, count_pad=False)
            d = self.add("Sub", f"{name}/distance", x, mean)
        square = self.add("Mul", f"{name}/square", d, d)
        average = self._average_around(f"{name}/average", square, count_pad=True)
        alpha = recipe.spatial_alpha_per_square() * recipe.spatial_size**2
        alphas = self.constant(f"{name}/alpha", (), lambda: np.float32(alpha))
        k = self.constant(f"{name}/k", (), lambda: np.float32(recipe.spatial_k))
        total = self.add("Mul", f"{name}/sum", average, alphas)
        scale = self.add("Add", f"{name}/scale", total, k)
        return self._divide_by_power(name, x, scale, recipe.spatial_beta)

    def _average_around(self, name: str, x: str, *, count_pad: bool) -> str:
        size = self.recipe.spatial_size
        before, after = size // 2, (size - 1) // 2
        return self.add(
            "AveragePool",
            name,
            x,
            kernel_shape=[size] * 2,
            pads=[before, before, after, after],
            count_include_pad=int(count_pad),
        )

    def _divide_by_power(self, name: str, x: str, scale: str, beta: float) -> str:
        """Add x * scale^-beta."""
        if beta != 0.75:
            exponent = self.constant(f"{name}/beta", (), lambda: np.float32(-beta))
            return self.add("Mul", name, x, self.add("Pow", f"{name}/power", scale, exponent))
        # scale^(3/4) by square roots: far cheaper than Pow.
        root = self.add("Sqrt", f"{name}/root", scale)
        fourth_root = self.add("Sqrt", f"{name}/fourth_root", root)
        half = self.add("Div", f"{name}/over_root", x, root)
        return self.add("Div", name, half, fourth_root)

    def _dense(self, layer: Layer, x: str) -> str:
        """Add a fully connected layer, or one for each column that reads its own inputs."""
        inputs = [x, *self._parameters(layer)]
        if layer.groups == 1:
            return self.add("Gemm", layer.name, *inputs, transB=1)
        parts = [
            self.split(f"{layer.name}/{what}", source, axis, layer.groups)
            for what, source, axis in zip(("x", "weight", "bias"), inputs, (1, 0, 0), strict=True)
        ]
        products = [
            self.add("Gemm", f"{layer.name}/{column}", *part, transB=1)
            for column, part in enumerate(zip(*parts, strict=True))
        ]
        return self.add("Concat", layer.name, *products, axis=1)

    def _probabilities(self, logits: str) -> None:
        """Add the softmax and its mean over the views (section 4.1)."""
        if self.views == 1:
            self.add("Softmax", OUTPUT, logits, axis=1)
            return
        softmax = self.add("Softmax", "softmax", logits, axis=1)
        shape = self.integers("by_view/shape", [self.views, -1, self.num_classes])
        by_view = self.add("Reshape", "by_view", softmax, shape)
        self.add("ReduceMean", OUTPUT, by_view, axes=[0], keepdims=0)


def _band(channels: int, window: int) -> np.ndarray:
    """Return 0/1 (C, C): which channels count for which; even windows reach one further back."""
    channel = np.arange(channels)
    distance = channel[None] - channel[:, None] + window // 2
    return (distance >= 0) & (distance < window)
