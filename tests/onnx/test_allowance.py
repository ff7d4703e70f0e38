"""Models that ask for what no export of ours does: refused before onnxruntime sees them."""

import json
import math
from functools import partial
from itertools import chain

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.numpy_helper import from_array

from alexnet_cli.errors import CheckpointError
from alexnet_cli.model.network import parameter_shapes
from alexnet_cli.onnx import allowance, graph
from alexnet_cli.onnx import runtime as session
from alexnet_cli.onnx.nodes import Graph
from alexnet_cli.onnx.runtime import load_onnx
from alexnet_cli.onnx.skeleton import skeleton_of
from alexnet_cli.recipes.catalog import find_recipe

ABOUT = {"classes": [[f"n{i}", "x"] for i in range(10)], "image_size": 16, "views": 1}
IMAGES = ("N", 16, 16, 3)


def mean_model(size=IMAGES, about=ABOUT) -> onnx.ModelProto:
    """Return a model of our ends: every class gets the mean brightness, plus `extra`."""
    body = Graph()
    pixels = body.add("Cast", "pixels", "images", to=TensorProto.FLOAT)
    mean = body.add("ReduceMean", "mean", pixels, axes=[1, 2, 3], keepdims=0)
    column = body.add("Reshape", "column", mean, body.integers("column/shape", [-1, 1]))
    same = body.add("MatMul", "same", column, body.constant("ones", ones(1, 10)))
    body.add("Add", "probabilities", same, body.constant("extra", np.zeros((), np.float32)))
    model = body.model(
        helper.make_tensor_value_info("images", TensorProto.UINT8, size),
        helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ("N", 10)),
    )
    helper.set_model_props(model, {"alexnet": json.dumps(about)})
    return model


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


def with_extra(nodes: list, constants: dict, last: str, *, changed=lambda model: None):
    """Return the model with `extra` computed: the mean of `last`."""
    model = mean_model()
    inner = model.graph
    del inner.initializer[-1]
    arrays = {name: array for name, array in constants.items() if not hasattr(array, "dims")}
    inner.initializer.extend(from_array(np.array(a), n) for n, a in arrays.items())
    inner.initializer.extend(a for n, a in constants.items() if n not in arrays)
    reduced = helper.make_node("ReduceMean", [last], ["extra"], keepdims=0)
    body = [*nodes, reduced, *inner.node]
    del inner.node[:]
    inner.node.extend(body)
    changed(model)
    return model


def node(op: str, inputs: str, output: str, **attributes) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), [output], **attributes)


def big(name: str, *dims: int, kind=TensorProto.FLOAT) -> TensorProto:
    """Return a constant that says a size and holds nothing."""
    return TensorProto(name=name, data_type=kind, dims=dims)


def doubled(times: int) -> list[onnx.NodeProto]:
    return [node("Concat", f"v{i} v{i}", f"v{i + 1}", axis=0) for i in range(times)]


def pairs(num: int) -> list[list[onnx.NodeProto]]:
    """Return values of 66 MB, each of which is needed no longer when the next one comes."""
    return [
        [node("Relu", "v14", f"r{i}"), node("ReduceMean", f"r{i}", f"m{i}", keepdims=0)]
        for i in range(num)
    ]


def loop_body() -> onnx.GraphProto:
    infos = [("i", TensorProto.INT64), ("go", TensorProto.BOOL), ("a", TensorProto.FLOAT)]
    inputs = [helper.make_tensor_value_info(n, kind, [] if n != "a" else None) for n, kind in infos]
    outputs = [
        helper.make_tensor_value_info("go2", TensorProto.BOOL, []),
        helper.make_tensor_value_info("a2", TensorProto.FLOAT, None),
    ]
    nodes = [node("Identity", "go", "go2"), node("Concat", "a a", "a2", axis=0)]
    return helper.make_graph(nodes, "body", inputs, outputs)


def add_function(model: onnx.ModelProto, domain: str = "own") -> None:
    opsets = [helper.make_opsetid("", 17)]
    body = [node("ConstantOfShape", "s", "y")]
    model.functions.append(helper.make_function(domain, "Relu", ["s"], ["y"], body, opsets))
    model.opset_import.append(helper.make_opsetid("own", 1))


def add_sparse(model: onnx.ModelProto) -> None:
    values = from_array(ones(1), "sparse")
    indices = from_array(np.array([0]), "indices")
    sparse = helper.make_sparse_tensor(values, indices, [30000, 30000])  # and no node needs it
    model.graph.sparse_initializer.append(sparse)


def add_sequence(model: onnx.ModelProto) -> None:
    info = helper.make_tensor_sequence_value_info("other", TensorProto.FLOAT, None)
    model.graph.input.append(info)


SHAPE = {"s": np.array([800_000_000])}
V = {"v0": ones(1000)}
SQUARE = {"a": ones(1, 1, 1, 1), "w": ones(1, 1, 1, 1)}
HOSTILE = {
    "ConstantOfShape": with_extra([node("ConstantOfShape", "s", "y")], SHAPE, "y"),
    "Expand": with_extra([node("Expand", "v s", "y")], {**SHAPE, "v": ones(1)}, "y"),
    "Tile": with_extra([node("Tile", "v s", "y")], {**SHAPE, "v": ones(1)}, "y"),
    "Range": with_extra(
        [node("Range", "z e o", "y")],
        {"z": np.float32(0), "e": np.float32(8e8), "o": np.float32(1)},
        "y",
    ),
    "Resize": with_extra(
        [helper.make_node("Resize", ["a", "", "", "s"], ["y"])],
        {"a": ones(1, 1, 1, 1), "s": np.array([1, 1, 28000, 28000])},
        "y",
    ),
    "Pad": with_extra(
        [node("Pad", "v p", "y")], {"v": ones(1), "p": np.array([0, 8 * 10**8])}, "y"
    ),
    "MatMul of a column and a row": with_extra(
        [node("MatMul", "a b", "y")], {"a": ones(28000, 1), "b": ones(1, 28000)}, "y"
    ),
    "Add of a column and a row": with_extra(
        [node("Add", "a b", "y")], {"a": ones(28000, 1), "b": ones(1, 28000)}, "y"
    ),
    "Add to every image": with_extra(
        [
            node("Cast", "images", "f", to=TensorProto.FLOAT),
            node("Add", "f a", "y"),
        ],
        {"a": ones(40000, 1, 1, 1, 1)},
        "y",
    ),
    "Concat of itself, again and again": with_extra(doubled(20), V, "v20"),
    "Concat, nothing kept": with_extra(
        [*doubled(17), *(node("Relu", "v17", f"r{i}") for i in range(1500))], V, "r1499"
    ),
    "constants that are computed and kept": with_extra(
        [*doubled(14), *chain.from_iterable(pairs(30))],
        V,
        "m29",
    ),
    "many steps over many values": with_extra(
        [
            node("Cast", "images", "f", to=TensorProto.FLOAT),
            helper.make_node("Concat", ["f"] * 1000, ["r0"], axis=0),
            *(node("Relu", f"r{i}", f"r{i + 1}") for i in range(1500)),
        ],
        {},
        "r1500",
    ),
    "Conv of large pads": with_extra([node("Conv", "a w", "y", pads=[14000] * 4)], SQUARE, "y"),
    "Conv of very large pads": with_extra(
        [node("Conv", "a w", "y", pads=[2**62] * 4)], SQUARE, "y"
    ),
    "Conv of a large kernel": with_extra(
        [node("Conv", "a w", "y", pads=[500] * 4)],
        {"a": ones(1, 1, 1000, 1000), "w": ones(1, 1, 1000, 1000)},
        "y",
    ),
    "MaxPool of a large window": with_extra(
        [node("MaxPool", "a", "y", kernel_shape=[999, 999], pads=[900] * 4)],
        {"a": ones(1, 1, 1000, 1000)},
        "y",
    ),
    "MaxPool with indices": with_extra(
        [helper.make_node("MaxPool", ["a"], ["y", "i"], kernel_shape=[1, 1])],
        {"a": ones(1, 1, 4, 4)},
        "y",
    ),
    "Loop": with_extra(
        [helper.make_node("Loop", ["n", "", "v0"], ["y"], body=loop_body())],
        {"n": np.array(20), **V},
        "y",
    ),
    "function": with_extra(
        [node("Relu", "s", "y", domain="own")], SHAPE, "y", changed=add_function
    ),
    "function by the name of an operator": with_extra(
        [node("Relu", "v0", "y")], V, "y", changed=partial(add_function, domain="")
    ),
    "operator of others": with_extra([node("Relu", "v0", "y", domain="com.microsoft")], V, "y"),
    "sparse constant": with_extra([node("Relu", "v0", "y")], V, "y", changed=add_sparse),
    "constant of no values": with_extra([], {"v": big("v", 30000, 30000)}, "v"),
    "constant larger than any memory": with_extra(
        [node("Relu", "v", "y")], {"v": big("v", 2**40, 2**40)}, "y"
    ),
    "constant of a negative size": with_extra([node("Relu", "v", "y")], {"v": big("v", -4)}, "y"),
    "constant of words": with_extra(
        [node("Relu", "v", "y")], {"v": big("v", 2, kind=TensorProto.STRING)}, "y"
    ),
    "shape of no values": with_extra(
        [node("Reshape", "v0 s", "y")], {**V, "s": big("s", 2, kind=TensorProto.INT64)}, "y"
    ),
    "shape of more values than it says": with_extra(
        [node("Reshape", "v0 s", "y")],
        {**V, "s": TensorProto(name="s", data_type=7, dims=[1], raw_data=bytes(2000))},
        "y",
    ),
    "shape that is computed": with_extra(
        [node("Concat", "one one", "s", axis=0), node("Reshape", "v0 s", "y")],
        {**V, "one": np.array([-1])},
        "y",
    ),
    "value of no origin": with_extra([node("Relu", "nowhere", "y")], {}, "y"),
    "same name twice": with_extra([node("Relu", "v0", "y"), node("Tanh", "v0", "y")], V, "y"),
    "constant within a node": with_extra(
        [node("Constant", "", "y", value=from_array(ones(3)))], {}, "y"
    ),
    "subgraph in an attribute of ours": with_extra(
        [node("Relu", "v0", "y", b=loop_body())], V, "y"
    ),
    "sequence as input": with_extra([node("Relu", "v0", "y")], V, "y", changed=add_sequence),
    "cast to words": with_extra([node("Cast", "v0", "y", to=TensorProto.STRING)], V, "y"),
    "operator without inputs": with_extra([node("Conv", "", "y")], {}, "y"),
    "many nodes": with_extra([node("Relu", "v0", f"r{i}") for i in range(2001)], V, "r0"),
    "images of a huge size": mean_model(("N", 1 << 20, 1 << 20, 3)),
    "views of others": mean_model(about={**ABOUT, "views": 0}),
    "size that is no number": mean_model(about={**ABOUT, "image_size": 16.5}),
    "names that are no text": mean_model(about={**ABOUT, "classes": [[1, 2]] * 10}),
    "nothing said of itself": mean_model(about=[]),
}


@pytest.fixture
def never_opened(monkeypatch):
    """A model that onnxruntime were to open would fail the test."""
    monkeypatch.setattr(session.onnxruntime, "InferenceSession", None)


@pytest.mark.parametrize("model", HOSTILE.values(), ids=HOSTILE)
def test_hostile_model_is_refused_before_it_is_opened(tmp_path, never_opened, model):
    path = tmp_path / "a.onnx"
    path.write_bytes(model.SerializeToString())

    with pytest.raises(CheckpointError, match="not one of alexnet export") as caught:
        load_onnx(path, "cpu")

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("model", "name"),
    [("ConstantOfShape", "operator ConstantOfShape is"), ("operator of others", "microsoft.Relu")],
)
def test_operator_that_is_not_ours_is_named(tmp_path, model: str, name: str):
    (tmp_path / "a.onnx").write_bytes(HOSTILE[model].SerializeToString())

    with pytest.raises(CheckpointError, match=name):
        load_onnx(tmp_path / "a.onnx", "cpu")


def test_model_of_what_is_left_is_read(tmp_path):
    """So that those above are refused for what is wrong with them."""
    model = with_extra([node("Concat", "v0 v0", "y", axis=0)], V, "y")
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())

    found = load_onnx(tmp_path / "a.onnx", "cpu").probabilities(
        np.full((2, 16, 16, 3), 7, np.uint8)
    )

    np.testing.assert_array_equal(found, np.full((2, 10), 8, np.float32))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_model_that_gives_no_probabilities_is_refused(tmp_path, value: float):
    model = with_extra([node("Relu", "v", "y")], {"v": np.full(3, value, np.float32)}, "y")
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    classifier = load_onnx(tmp_path / "a.onnx", "cpu")

    with pytest.raises(CheckpointError, match=r"a\.onnx: what it gives"):
        classifier.probabilities(np.zeros((2, 16, 16, 3), np.uint8))


def test_model_that_fails_on_some_number_of_images_is_refused(tmp_path):
    """It fits a full batch and no other."""
    nodes = [
        node("Cast", "images", "f", to=TensorProto.FLOAT),
        node("Reshape", "f s", "y"),
    ]
    model = with_extra(nodes, {"s": np.array([32, 16 * 16 * 3])}, "y")
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    classifier = load_onnx(tmp_path / "a.onnx", "cpu")
    classifier.probabilities(np.zeros((32, 16, 16, 3), np.uint8))

    with pytest.raises(CheckpointError, match=r"a\.onnx: the model failed"):
        classifier.probabilities(np.zeros((2, 16, 16, 3), np.uint8))


def test_damaged_model_is_refused_in_words_or_read():
    """protobuf gives a name that is no UTF-8 as bytes."""
    whole = mean_model().SerializeToString()
    rng, refusals = np.random.default_rng(0), 0
    for _ in range(3000):
        damaged = np.frombuffer(whole, np.uint8).copy()
        damaged[rng.integers(0, len(whole), 2)] = rng.integers(0, 256, 2)
        try:
            model = allowance.read_skeleton(skeleton_of(memoryview(damaged.tobytes())))
            allowance.check_allowed(model, len(whole), 32)
        except ValueError:
            refusals += 1
    assert 0 < refusals < 3000


def test_growth_with_the_number_of_images_is_seen():
    """An outer product of the images with themselves is one value for one image."""
    nodes = [
        node("Cast", "images", "f", to=TensorProto.FLOAT),
        node("ReduceMean", "f", "m", axes=[1, 2, 3], keepdims=0),
        *(
            item
            for i in range(1, 7)
            for item in (
                node("Reshape", f"{'m' if i == 1 else f'y{i - 1}'} s", f"c{i}"),
                node("Mul", f"c{i} m", f"y{i}"),
            )
        ),
    ]
    model = with_extra(nodes, {"s": np.array([-1, 1])}, "y6")
    one = onnx.ModelProto.FromString(model.SerializeToString())

    allowance.check_allowed(one, 10_000, 1)
    with pytest.raises(ValueError, match="memory"):
        allowance.check_allowed(model, 10_000, 32)


@pytest.mark.parametrize("name", ["paper", "five-cnns-120", "cifar-11pct", "pretrain-2011"])
@pytest.mark.parametrize("views", [1, 9, 10])
def test_networks_of_recipes_are_allowed(monkeypatch, name: str, views: int):
    """At full size, without the values of their weights: these are not looked at."""
    monkeypatch.setattr(graph.Graph, "constant", constant_without_long_values)
    recipe = find_recipe(name)
    shapes = parameter_shapes(recipe, 1000)
    weights = {name: np.broadcast_to(np.float32(0), shape) for name, shape in shapes.items()}
    mean = np.zeros((32 if name.startswith("cifar") else 256,) * 2 + (3,), np.float32)
    model = graph.build_graph(recipe, weights, mean, views=views, metadata={})

    file_bytes = 4 * sum(math.prod(constant.dims) for constant in model.graph.initializer)
    allowance.check_allowed(model, 2 * file_bytes, 32 // views)


def constant_without_long_values(self, name: str, values: np.ndarray) -> str:
    is_long = values.size > 128
    self.constants.append(big(name, *values.shape) if is_long else from_array(values, name))
    return name
