"""A model without the values of its large constants is otherwise the same."""

import numpy as np
import onnx
import pytest
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper
from onnx.numpy_helper import from_array

from alexnet_cli.onnx import skeleton
from alexnet_cli.onnx.skeleton import skeleton_of


def model_of(*constants: TensorProto) -> onnx.ModelProto:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 3]) for name in "xy"]
    nodes = [helper.make_node("Relu", ["x"], ["y"], doc_string="d" * 3000)]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], constants)
    model = helper.make_model(graph)
    helper.set_model_props(model, {"key": "v" * 3000})
    return model


def test_only_long_values_are_left_out():
    short = from_array(np.arange(100), "short")
    model = model_of(from_array(np.ones((500, 3), np.float32), "long"), short)

    found = onnx.ModelProto.FromString(skeleton_of(memoryview(model.SerializeToString())))

    model.graph.initializer[0].raw_data = b""
    assert found == model


@pytest.mark.parametrize("field", ["float_data", "int32_data", "int64_data", "double_data"])
def test_values_of_every_kind_are_left_out(field: str):
    tensor = TensorProto(name="w", dims=[2000])
    getattr(tensor, field).extend([1] * 2000)
    model = model_of(tensor)

    found = onnx.ModelProto.FromString(skeleton_of(memoryview(model.SerializeToString())))

    model.graph.initializer[0].ClearField(field)
    assert found == model


def test_messages_in_parts_are_merged_as_protobuf_merges_them():
    """A later part could otherwise hide from us what onnxruntime reads."""
    parts = [model_of(from_array(np.full(n, 7.0), f"w{n}")) for n in (5, 900)]
    content = b"".join(part.SerializeToString() for part in parts)

    found = onnx.ModelProto.FromString(skeleton_of(memoryview(content)))

    expected = onnx.ModelProto.FromString(content)
    expected.graph.initializer[1].raw_data = b""
    assert found == expected
    assert len(found.graph.node) == 2


def test_values_that_are_left_out_still_replace_those_before():
    tensor = from_array(np.arange(4), "w").SerializeToString()
    tensor += TensorProto(raw_data=bytes(5000)).SerializeToString()
    content = b"\x2a" + skeleton._varint(len(tensor)) + tensor
    content = b"\x3a" + skeleton._varint(len(content)) + content

    found = onnx.ModelProto.FromString(skeleton_of(memoryview(content)))

    assert found.graph.initializer[0].raw_data == b""
    assert found.graph.initializer[0].HasField("raw_data")


def test_number_under_the_number_of_a_message_is_copied():
    """A graph that is no message is unknown to protobuf, which passes over it."""
    whole = model_of().SerializeToString()
    content = whole + bytes([7 << 3, 0x3A])

    assert skeleton_of(memoryview(content)) == content


def test_much_besides_constants_is_refused(monkeypatch):
    monkeypatch.setattr(skeleton, "SKELETON_BYTES", 4000)

    with pytest.raises(ValueError, match="too much"):
        skeleton_of(memoryview(model_of().SerializeToString()))


def test_any_bytes_give_what_protobuf_gives_or_are_refused():
    rng = np.random.default_rng(0)
    whole = model_of(from_array(np.ones(400), "w"), from_array(np.ones(3), "v")).SerializeToString()
    refusals = 0
    for _ in range(3000):
        damaged = np.frombuffer(whole, np.uint8).copy()
        places = rng.integers(0, len(whole), 3) % rng.integers(1, len(whole))
        damaged[places] = rng.integers(0, 256, 3)
        content = damaged.tobytes()
        try:
            expected = onnx.ModelProto.FromString(content)
        except DecodeError:
            expected = None
        try:
            found = onnx.ModelProto.FromString(skeleton_of(memoryview(content)))
        except (DecodeError, ValueError):
            refusals += 1
            continue
        assert expected is not None
        for constant in [*found.graph.initializer, *expected.graph.initializer]:
            if len(constant.raw_data) > 1024:
                constant.raw_data = b""
        assert found.SerializeToString() == expected.SerializeToString()
    assert 0 < refusals < 3000
