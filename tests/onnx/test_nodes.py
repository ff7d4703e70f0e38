"""A small ONNX graph built node by node, checked and run; under a second."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from alexnet_cli.onnx.nodes import IR_VERSION, OPSET, Graph


def ends(columns: int) -> list[onnx.ValueInfoProto]:
    """Return what goes in, x (N, columns), and what comes out, y."""
    return [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", columns]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", None]),
    ]


def halves_swapped() -> onnx.ModelProto:
    """Return a model that swaps the halves of four columns and adds 10, 20, 30, 40."""
    graph = Graph()
    first, second = graph.split("half", "x", 1, 2)
    swapped = graph.add("Concat", "swapped", second, first, axis=1)
    graph.add("Add", "y", swapped, graph.constant("tens", np.array([10, 20, 30, 40], np.float32)))
    return graph.model(*ends(4))


def run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    content = model.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


@pytest.mark.parametrize("num", [1, 3])
def test_model_computes_what_its_nodes_say(num: int):
    x = np.arange(4 * num, dtype=np.float32).reshape(num, 4)

    found = run(halves_swapped(), x)

    expected = [[row[2] + 10, row[3] + 20, row[0] + 30, row[1] + 40] for row in x]
    assert found.tolist() == expected


def test_model_is_valid_and_says_which_versions_read_it():
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
    assert (run(graph.model(*ends(6)), x) == x[:, -each:] - x[:, :each]).all()


@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_constant_keeps_values_shape_and_type(dtype):
    graph, values = Graph(), np.arange(6, dtype=dtype).reshape(2, 3)

    name = graph.constant("six", values)

    (tensor,) = graph.constants
    found = numpy_helper.to_array(tensor)
    assert (name, tensor.name, found.dtype) == ("six", "six", dtype)
    assert found.tolist() == values.tolist()


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
