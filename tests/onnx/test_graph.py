"""The ONNX graph against the paper's formulas in plain numpy, or torch's network, in float64.

N images, C channels, H rows, W columns, K classes.
"""

import math
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from alexnet_cli.model.network import AlexNet
from alexnet_cli.onnx.graph import IR_VERSION, OPSET, Graph, build_graph, expected_graph
from alexnet_cli.recipes.overrides import widen
from alexnet_cli.recipes.recipe import PAPER, Recipe

CLASSES, IMAGE_SIZE = 7, 96
# 72 -> 17 (3 zeros right and bottom) -> 8 -> 4 -> 2: two of the pools hang over too.
SMALL = replace(widen(PAPER, 0.125), crop_size=72)
RECIPES = {
    "paper": SMALL,
    "one column": replace(SMALL, columns=1),
    "other norm": replace(SMALL, lrn_k=1.5, lrn_size=4, lrn_alpha=3e-4, lrn_beta=0.6),
    "other dropout": replace(SMALL, fc6=replace(SMALL.fc6, dropout=0.3)),
}


def draw_weights(recipe: Recipe) -> dict[str, np.ndarray]:
    """Draw weights that keep the signal's size, so that norm and softmax have work to do."""
    rng, weights, channels = np.random.default_rng(0), {}, 3

    def draw(name: str, shape: tuple[int, ...], gain: float = 1.4) -> None:
        std = gain / math.sqrt(math.prod(shape[1:]))
        weights[f"{name}.weight"] = rng.normal(0, std, shape).astype(np.float32)
        weights[f"{name}.bias"] = rng.normal(0, 1, shape[0]).astype(np.float32)

    for name, conv in recipe.convs().items():
        groups = 1 if name in ("conv1", *recipe.reads_both) else recipe.columns
        draw(name, (conv.filters, channels // groups, conv.size, conv.size))
        channels = conv.filters
    inputs = channels * 2 * 2
    for name, dense in recipe.denses().items():
        draw(name, (dense.units, inputs))
        inputs = dense.units
    draw("fc8", (CLASSES, inputs), gain=0.3)
    return weights


def draw_mean() -> np.ndarray:
    return np.random.default_rng(1).uniform(90, 140, (IMAGE_SIZE, IMAGE_SIZE, 3)).astype(np.float32)


def draw_images(num: int) -> np.ndarray:
    shape = (num, IMAGE_SIZE, IMAGE_SIZE, 3)
    return np.random.default_rng(2).integers(0, 256, shape, dtype=np.uint8)


def build(recipe: Recipe, views: int) -> onnx.ModelProto:
    return build_graph(
        recipe, draw_weights(recipe), draw_mean(), views=views, metadata={"origin": "a test"}
    )


def run(model: onnx.ModelProto, x: np.ndarray, name: str = "images") -> np.ndarray:
    content = model.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return session.run(None, {name: x})[0]


def expect_conv(x, weight, bias, stride, pad, groups):
    num, _, size, _ = x.shape
    window = weight.shape[2]
    out = 1 + math.ceil((2 * pad + size - window) / stride)
    padded = np.zeros((num, x.shape[1], *[(out - 1) * stride + window] * 2))
    padded[:, :, pad : pad + size, pad : pad + size] = x[:, :, : padded.shape[2] - pad]
    y = np.empty((num, len(weight), out, out))
    inputs, outputs = weight.shape[1], len(weight) // groups
    for row, column, group in np.ndindex(out, out, groups):
        crop = padded[
            :,
            group * inputs : (group + 1) * inputs,
            row * stride : row * stride + window,
            column * stride : column * stride + window,
        ]
        kernels = slice(group * outputs, (group + 1) * outputs)
        y[:, kernels, row, column] = np.tensordot(crop, weight[kernels], ([1, 2, 3], [1, 2, 3]))
    return y + bias[:, None, None]


def expect_norm(x, recipe):
    y = np.empty_like(x)
    channels = x.shape[1] // recipe.columns
    for channel in range(x.shape[1]):
        first_of_column = channel // channels * channels
        start = channel - recipe.lrn_size // 2
        window = range(max(start, first_of_column), start + recipe.lrn_size)
        total = sum(x[:, j] ** 2 for j in window if j < first_of_column + channels)
        scale = recipe.lrn_k + recipe.lrn_alpha * total
        y[:, channel] = x[:, channel] / scale**recipe.lrn_beta
    return y


def expect_pool(x, size, stride):
    out = 1 + math.ceil((x.shape[2] - size) / stride)
    y = np.empty((*x.shape[:2], out, out))
    for row, column in np.ndindex(out, out):
        top, left = row * stride, column * stride
        y[:, :, row, column] = x[:, :, top : top + size, left : left + size].max(axis=(2, 3))
    return y


def expect_one_view(recipe, weights, x):
    for name, conv in recipe.convs().items():
        groups = 1 if name in ("conv1", "conv3") else recipe.columns
        weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
        x = np.maximum(expect_conv(x, weight, bias, conv.stride, conv.pad, groups), 0)
        if "norm" in conv.then:
            x = expect_norm(x, recipe)
        if "max-pool" in conv.then:
            x = expect_pool(x, recipe.pool_size, recipe.pool_stride)
    x = x.reshape(len(x), -1)
    for name, dense in recipe.denses().items():
        x = np.maximum(x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"], 0)
        x = x * (1 - dense.dropout)
    logits = x @ weights["fc8.weight"].T + weights["fc8.bias"]
    power = np.exp(logits - logits.max(axis=1, keepdims=True))
    return power / power.sum(axis=1, keepdims=True)


def cut_views(images: np.ndarray, size: int, views: int) -> list[np.ndarray]:
    """Cut the center; or three by three crops; or corners and center, and those mirrored."""
    far = IMAGE_SIZE - size
    middle = far // 2
    lines = (0, far) if views == 10 else (0, middle, far)
    offsets = [(top, left) for left in lines for top in lines] if views > 1 else []
    if views != 9:
        offsets.append((middle, middle))
    cuts = [images[:, top : top + size, left : left + size] for top, left in offsets]
    return cuts + [cut[:, :, ::-1] for cut in cuts] if views == 10 else cuts


def centered_views(images: np.ndarray, size: int, views: int) -> list[np.ndarray]:
    """Subtract the mean image's center from every view: float64 (N, C, H, W)."""
    mean = cut_views(draw_mean()[None].astype(np.float64), size, 1)[0]
    return [(cut - mean).transpose(0, 3, 1, 2) for cut in cut_views(images, size, views)]


def expect(recipe: Recipe, images: np.ndarray, views: int) -> np.ndarray:
    weights = {name: value.astype(np.float64) for name, value in draw_weights(recipe).items()}
    inputs = centered_views(images, recipe.crop_size, views)
    return np.mean([expect_one_view(recipe, weights, x) for x in inputs], axis=0)


@pytest.mark.parametrize("num_images", [1, 3])
@pytest.mark.parametrize("views", [1, 9, 10])
def test_probabilities_are_those_of_the_formulas(views: int, num_images: int):
    images = draw_images(num_images)

    found = run(build(SMALL, views), images)

    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expect(SMALL, images, views), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", RECIPES)
def test_every_setting_of_the_network_reaches_the_graph(name: str):
    images = draw_images(2)

    found = run(build(RECIPES[name], 1), images)

    np.testing.assert_allclose(found, expect(RECIPES[name], images, 1), rtol=1e-4, atol=1e-6)


def test_formulas_above_differ_between_the_settings():
    images = draw_images(2)
    paper = expect(SMALL, images, 1)
    assert paper.max() > 2 / CLASSES  # the softmax is not flat
    others = [replace(SMALL, lrn_alpha=1e-9), RECIPES["other norm"], RECIPES["other dropout"]]
    for other in others:
        assert np.abs(expect(other, images, 1) - paper).max() > 1e-3
    nine, ten = (expect(SMALL, images, views) for views in (9, 10))
    assert min(np.abs(a - b).max() for a, b in [(nine, paper), (ten, paper), (nine, ten)]) > 1e-3


@pytest.mark.parametrize("views", [1, 9, 10])
def test_graph_is_valid_plain_and_free_in_its_batch_size(views: int):
    model = build(SMALL, views)

    onnx.checker.check_model(model, full_check=True)
    shaping = {"Shape", "Size", "Gather", "ConstantOfShape", "Constant", "Range", "If", "Unsqueeze"}
    assert not shaping & {node.op_type for node in model.graph.node}
    assert all(node.output[0] == node.name for node in model.graph.node)
    (images,), (probabilities,) = model.graph.input, model.graph.output
    dims = [dim.dim_param or dim.dim_value for dim in images.type.tensor_type.shape.dim]
    assert dims == ["batch", IMAGE_SIZE, IMAGE_SIZE, 3]
    assert images.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    dims = [dim.dim_param or dim.dim_value for dim in probabilities.type.tensor_type.shape.dim]
    assert dims == ["batch", CLASSES]


def test_metadata_travels_with_the_model():
    model = onnx.load_from_string(build(SMALL, 1).SerializeToString())

    assert {entry.key: entry.value for entry in model.metadata_props} == {"origin": "a test"}


def test_weights_stay_as_they_were():
    weights = draw_weights(SMALL)
    before = {name: value.copy() for name, value in weights.items()}

    build_graph(SMALL, weights, draw_mean(), views=1, metadata={})

    assert all((weights[name] == before[name]).all() for name in weights)


# --- networks of other layers, against torch's


def left_out(*names: str) -> dict:
    """Return what leaves hidden layers out."""
    return {name: replace(getattr(SMALL, name), units=0) for name in names}


def then(name: str, *steps: str) -> dict:
    """Return a convolution with other steps behind it."""
    return {name: replace(getattr(SMALL, name), then=steps)}


def local(*names: str, **changes) -> dict:
    """Return convolutions with weights of their own at every position."""
    return {name: replace(getattr(SMALL, name), local=True, **changes) for name in names}


BOTTLENECK = replace(SMALL.bottleneck, units=10)
OPTIONS = {
    "divided alpha": replace(SMALL, lrn_divided=True, lrn_alpha=0.5),
    "pooling, ReLU, norm": replace(SMALL, **then("conv1", "max-pool", "activation", "norm")),
    "nothing after conv3": replace(SMALL, **then("conv3")),
    "averages and maxima": replace(
        SMALL,
        **then("conv1", "average-pool", "norm", "activation"),
        **then("conv5", "activation", "average-pool"),
    ),
    "pooling without overlap": replace(SMALL, pool_size=2),
    "tanh": replace(SMALL, activation="tanh"),
    "sigmoid": replace(SMALL, activation="sigmoid"),
    "columns apart": replace(SMALL, reads_both=("fc8",)),
    "spatial norm": replace(
        SMALL, **then("conv2", "activation", "norm", "spatial-norm", "max-pool"), spatial_alpha=3.0
    ),
    "spatial norm with k and plain alpha": replace(
        SMALL,
        **then("conv1", "activation", "spatial-norm", "max-pool"),
        **then("conv2", "spatial-norm", "activation", "max-pool"),
        spatial_k=2.5,
        spatial_size=4,
        spatial_alpha=0.3,
        spatial_beta=0.6,
        spatial_divided=False,
    ),
    "contrast norm": replace(
        SMALL, **then("conv2", "activation", "norm", "contrast-norm", "max-pool"), spatial_alpha=3.0
    ),
    "contrast norm of even size": replace(
        SMALL,
        **then("conv2", "contrast-norm", "max-pool", "activation"),
        spatial_size=4,
        spatial_alpha=0.3,
        spatial_divided=False,
    ),
    "local layers": replace(SMALL, columns=1, **local("conv3", "conv4")),
    "local layers of other sizes": replace(
        SMALL, columns=1, **local("conv2", pad=1), **local("conv5", size=2, pad=0)
    ),
    "local layer behind averages": replace(
        SMALL,
        **local("conv3"),
        **then("conv2", "activation", "average-pool"),
        columns=1,
    ),
    "low resolution": replace(SMALL, low_resolution=True),
    "low resolution, nothing hangs over": replace(SMALL, low_resolution=True, crop_size=67),
    "low resolution in one column": replace(SMALL, low_resolution=True, columns=1),
    "without fc7": replace(SMALL, **left_out("fc7")),
    "without hidden layers": replace(SMALL, **left_out("fc6", "fc7")),
    "bottleneck": replace(SMALL, bottleneck=BOTTLENECK),
    "bottleneck that reads both": replace(
        SMALL, bottleneck=BOTTLENECK, reads_both=("bottleneck", *SMALL.reads_both)
    ),
    "bottleneck with dropout": replace(SMALL, bottleneck=replace(BOTTLENECK, dropout=0.2)),
    "bottleneck alone": replace(SMALL, **left_out("fc6", "fc7"), bottleneck=BOTTLENECK),
    "classes split": replace(SMALL, split_classes=True),
    "six convolutions": replace(
        SMALL,
        conv6=replace(SMALL.conv6, filters=16),
        reads_both=("conv3", "conv6", "fc6", "fc7", "fc8"),
    ),
}


def draw_net(recipe: Recipe) -> AlexNet:
    """Return torch's network in float64 with float32 weights that keep the signal's size."""
    net, generator = AlexNet(recipe, CLASSES).double().eval(), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            values = torch.randn(parameter.shape, generator=generator)
            if not name.endswith("bias"):
                # A local layer has its positions last.
                inputs = parameter.shape[1] if parameter.dim() == 3 else parameter[0].numel()
                values *= (0.3 if name == "fc8.weight" else 1.4) / math.sqrt(inputs)
            parameter.copy_(values)
    return net


def build_of(net: AlexNet, views: int) -> onnx.ModelProto:
    """Return the graph with the weights of torch's network."""
    weights = {
        name: np.ascontiguousarray(parameter.detach().numpy().astype(np.float32))
        for name, parameter in net.named_parameters()
    }
    return build_graph(net.recipe, weights, draw_mean(), views=views, metadata={})


def compare(recipe: Recipe, views: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the probabilities of the graph and of torch's network with the same weights."""
    net, images = draw_net(recipe), draw_images(2)
    model = build_of(net, views)
    onnx.checker.check_model(model, full_check=True)
    inputs = [torch.from_numpy(x.copy()) for x in centered_views(images, recipe.crop_size, views)]
    with torch.no_grad():
        expected = torch.stack([net(x).softmax(dim=1) for x in inputs]).mean(dim=0)
    return run(model, images), expected.numpy()


@pytest.mark.parametrize("name", OPTIONS)
def test_graph_computes_the_probabilities_of_torch_s_network(name: str):
    found, expected = compare(OPTIONS[name], views=1)

    assert expected.max() > 1.5 / CLASSES  # the softmax is not flat
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-6)


@pytest.mark.parametrize("views", [9, 10])
@pytest.mark.parametrize("name", ["local layers", "low resolution", "bottleneck", "contrast norm"])
def test_graph_averages_the_views_of_other_networks_too(name: str, views: int):
    found, expected = compare(OPTIONS[name], views)

    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-6)


@pytest.mark.parametrize("name", ["local layers", "low resolution", "bottleneck"])
def test_graph_of_other_networks_is_free_in_its_batch_size(name: str):
    model, images = build_of(draw_net(OPTIONS[name]), views=9), draw_images(3)

    together, alone = run(model, images), [run(model, image[None]) for image in images]

    np.testing.assert_allclose(together, np.concatenate(alone), rtol=1e-4, atol=1e-6)


# --- node by node


def ends(columns: int) -> list[onnx.ValueInfoProto]:
    """Return the input x (N, columns) and the output y."""
    return [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", columns]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", None]),
    ]


def halves_swapped() -> onnx.ModelProto:
    """Return a model that swaps the halves of four columns and adds 10, 20, 30, 40."""
    graph = Graph()
    first, second = graph.split("half", "x", 1, 2)
    swapped = graph.add("Concat", "swapped", second, first, axis=1)
    tens = graph.constant("tens", (4,), lambda: np.array([10, 20, 30, 40]))
    graph.add("Add", "y", swapped, tens)
    return graph.model(*ends(4))


@pytest.mark.parametrize("num", [1, 3])
def test_model_computes_what_its_nodes_say(num: int):
    x = np.arange(4 * num, dtype=np.float32).reshape(num, 4)

    found = run(halves_swapped(), x, "x")

    expected = [[row[2] + 10, row[3] + 20, row[0] + 30, row[1] + 40] for row in x]
    assert found.tolist() == expected


def test_model_is_valid_and_declares_its_versions():
    model = halves_swapped()

    onnx.checker.check_model(model, full_check=True)
    assert (model.ir_version, [opset.version for opset in model.opset_import]) == (8, [17])
    assert (IR_VERSION, OPSET) == (8, 17)
    assert [opset.domain for opset in model.opset_import] == [""]
    assert (model.producer_name, model.graph.name) == ("alexnet", "alexnet")


def test_nodes_and_constants_stay_in_the_order_they_were_added():
    model = halves_swapped()

    assert [node.name for node in model.graph.node] == ["half", "swapped", "y"]
    assert [tensor.name for tensor in model.graph.initializer] == ["tens"]
    assert [value.name for value in (*model.graph.input, *model.graph.output)] == ["x", "y"]


def test_node_and_its_output_share_the_name_that_comes_back():
    graph = Graph()

    name = graph.add("Concat", "both", "a", "b", axis=1)

    (node,) = graph.nodes
    assert (name, node.name, node.op_type) == ("both", "both", "Concat")
    assert (list(node.input), list(node.output)) == (["a", "b"], ["both"])
    assert {a.name: helper.get_attribute_value(a) for a in node.attribute} == {"axis": 1}


@pytest.mark.parametrize("num_parts", [2, 3])
def test_split_names_its_parts_by_their_number_and_makes_them_equal(num_parts: int):
    graph = Graph()

    parts = graph.split("part", "x", 1, num_parts)

    assert parts == [f"part{number}" for number in range(num_parts)]
    assert (graph.nodes[0].name, list(graph.nodes[0].output)) == ("part", parts)
    graph.add("Sub", "y", parts[-1], parts[0])
    x = np.arange(12, dtype=np.float32).reshape(2, 6)
    each = 6 // num_parts
    assert (run(graph.model(*ends(6)), x, "x") == x[:, -each:] - x[:, :each]).all()


def test_constant_is_float32_of_its_shape():
    graph, values = Graph(), np.arange(6).reshape(2, 3)

    name = graph.constant("six", (2, 3), lambda: values)

    (tensor,) = graph.constants
    found = numpy_helper.to_array(tensor)
    assert (name, tensor.name, found.dtype) == ("six", "six", np.float32)
    assert found.tolist() == values.tolist()


def test_graph_without_values_never_computes_them():
    graph = Graph(with_values=False)

    graph.constant("large", (1 << 40, 1 << 20), lambda: pytest.fail("computed"))

    (tensor,) = graph.constants
    assert (tensor.name, list(tensor.dims), tensor.data_type) == ("large", [1 << 40, 1 << 20], 1)
    assert tensor.raw_data == b""


@pytest.mark.parametrize("views", [1, 9, 10])
def test_expected_graph_is_the_exported_one_without_values(views: int):
    model = build(SMALL, views)
    del model.metadata_props[:]
    for constant in model.graph.initializer:
        if constant.data_type == TensorProto.FLOAT:
            constant.ClearField("raw_data")

    assert expected_graph(SMALL, CLASSES, IMAGE_SIZE, views) == model


@pytest.mark.parametrize("values", [[3], [-1, 2], [np.iinfo(np.int64).min]])
def test_integers_have_64_bits(values: list[int]):
    graph = Graph()

    name = graph.integers("shape", values)

    found = numpy_helper.to_array(graph.constants[0])
    assert (name, found.dtype, found.tolist()) == ("shape", np.int64, values)


def test_graphs_do_not_share_what_is_added():
    first, second = Graph(), Graph()

    first.add("Relu", "y", first.integers("one", [1]))

    assert (second.nodes, second.constants) == ([], [])
