"""ONNX models that are hostile or have other ends: refused, with no look outside their folder."""

import json
import zlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from alexnet_cli.errors import CheckpointError
from alexnet_cli.onnx.runtime import load_onnx, seal

ABOUT = {"classes": [[f"n{i}", "x"] for i in range(10)], "image_size": 16, "views": 1}
IMAGES = ("N", 16, 16, 3)


def write(path: Path, *, constant=None, images=(TensorProto.UINT8, IMAGES), num=10, op="MatMul"):
    """Write a model that gives every class the mean brightness, plus a constant if there is one."""
    nodes = [
        helper.make_node("Cast", ["images"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["f"], ["mean"], keepdims=0, axes=[1, 2, 3]),
        helper.make_node("Reshape", ["mean", "shape"], ["column"]),
        helper.make_node(op, ["column", "one"], ["same"], domain="" if op == "MatMul" else "x"),
        helper.make_node("Add", ["same", "w"], ["probs"]),
    ]
    zero, one = (numpy_helper.from_array(np.full((1, num), v, np.float32)) for v in (0, 1))
    zero.name, one.name = "w", "one"
    constants = [one, numpy_helper.from_array(np.array([-1, 1]), "shape")]
    graph = helper.make_graph(
        nodes,
        "model",
        [helper.make_tensor_value_info("images", *images)],
        [helper.make_tensor_value_info("probs", TensorProto.FLOAT, ("N", num))],
        [*constants, zero if constant is None else constant],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("x", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    helper.set_model_props(model, {"alexnet": json.dumps(ABOUT)})
    path.write_bytes(model.SerializeToString())
    return path


def refused(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_onnx(path, "cpu")
    assert caught.value.exit_code == 3
    assert str(path) in str(caught.value)
    assert str(caught.value).count("\n") < 3
    return str(caught.value)


def test_model_of_these_ends_is_read(tmp_path):
    """So that those below are refused for what is wrong with them."""
    classifier = load_onnx(write(tmp_path / "a.onnx"), "cpu")

    found = classifier.probabilities(np.full((2, 16, 16, 3), 7, np.uint8))

    np.testing.assert_array_equal(found, np.full((2, 10), 7, np.float32))


@pytest.mark.parametrize(
    "changes",
    [
        {"images": (TensorProto.UINT8, ("N", 3, 16, 16))},
        {"images": (TensorProto.UINT8, ("N", 17, 17, 3))},
        {"images": (TensorProto.FLOAT, IMAGES)},
        {"num": 9},
    ],
    ids=["channels first", "other size", "other type", "other classes"],
)
def test_model_of_other_ends_is_refused(tmp_path, changes):
    assert "not one of alexnet export" in refused(write(tmp_path / "a.onnx", **changes))


def test_operator_that_is_unknown_is_refused(tmp_path):
    assert "x.Evil" in refused(write(tmp_path / "a.onnx", op="Evil"))


@pytest.fixture
def folder(tmp_path) -> Path:
    """A model's folder beside a file that is not for it, and a link in it that leads there."""
    (tmp_path / "secret.bin").write_bytes(np.ones(10, np.float32).tobytes())
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "link.bin").symlink_to(tmp_path / "secret.bin")
    return tmp_path / "models"


@pytest.mark.parametrize("place", ["../secret.bin", "{}/secret.bin", "link.bin", "none.bin"])
def test_weights_outside_the_folder_are_not_read(folder, place):
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[10])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": place.format(folder.parent), "length": "40"}.items():
        tensor.external_data.add(key=key, value=value)

    assert "lies in another file" in refused(write(folder / "a.onnx", constant=tensor))


def test_file_is_one_of_onnx(tmp_path):
    onnx.checker.check_model(onnx.load(write(tmp_path / "a.onnx")))


def test_name_that_is_no_text_is_refused_without_a_word_on_stdout(tmp_path, capfd):
    """onnxruntime prints this fault, and --json promises one object and nothing else."""
    path = write(tmp_path / "a.onnx")
    model = onnx.load(path)
    model.graph.node[-1].attribute.add(name="other", type=AttributeProto.INT, i=1)
    path.write_bytes(model.SerializeToString().replace(b"other", b"\xfether"))

    refused(path)

    assert capfd.readouterr() == ("", "")


def test_seal_is_an_entry_of_the_metadata_that_changes_nothing_else(tmp_path):
    content = write(tmp_path / "a.onnx").read_bytes()
    plain, sealed = onnx.load_from_string(content), onnx.load_from_string(seal(content))

    entry = sealed.metadata_props.pop()

    assert (entry.key, entry.value) == ("alexnet.crc32", f"{zlib.crc32(content):08x}")
    assert sealed == plain


def test_flipped_bit_of_a_sealed_model_is_found_wherever_it_is(tmp_path):
    path = write(tmp_path / "a.onnx")
    content = seal(path.read_bytes())
    path.write_bytes(content)
    load_onnx(path, "cpu")
    for position in range(0, len(content) - len(seal(b"")), 3):
        damaged = bytearray(content)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        assert "its checksum does not match" in refused(path)


def test_damage_to_the_seal_itself_does_no_harm(tmp_path):
    path = write(tmp_path / "a.onnx")
    content = seal(path.read_bytes())
    expected = load_onnx(path, "cpu").probabilities(np.full((1, 16, 16, 3), 7, np.uint8))
    for position in range(len(content) - len(seal(b"")), len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 1
        path.write_bytes(damaged)
        try:
            found = load_onnx(path, "cpu").probabilities(np.full((1, 16, 16, 3), 7, np.uint8))
        except CheckpointError:
            continue
        np.testing.assert_array_equal(found, expected)
