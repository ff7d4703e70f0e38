"""ONNX files that are damaged, hostile or of other tools: refused before onnxruntime opens them."""

import json
import zlib
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
from google.protobuf.message import DecodeError
from onnx import AttributeProto, TensorProto, helper
from onnx.numpy_helper import from_array

from alexnet_cli.errors import CheckpointError, RecipeError
from alexnet_cli.model.architecture import layers_of, parameter_shapes
from alexnet_cli.onnx import model_file, runtime
from alexnet_cli.onnx.graph import build_graph
from alexnet_cli.onnx.model_file import ModelInfo, add_checksum, open_onnx_file, skeleton_of
from alexnet_cli.onnx.runtime import load_onnx
from alexnet_cli.recipes.catalog import RECIPES, find_recipe
from alexnet_cli.recipes.overrides import widen, with_settings

RECIPE = widen(find_recipe("cifar-relu"), 1 / 4)
SIZE = 36
ABOUT = {
    "classes": [[f"n{i}", "x"] for i in range(10)],
    "image_size": SIZE,
    "views": 1,
    "origin": {"recipe": "cifar-relu"},
    "recipe": json.loads(RECIPE.to_json()),
}


def draw_weights() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = parameter_shapes(RECIPE, 10)
    return {name: 0.1 * rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def exported(about: object = ABOUT, **changed: np.ndarray) -> onnx.ModelProto:
    """Return a model as export writes it, with other metadata or parameters."""
    mean = np.full((SIZE, SIZE, 3), 120, np.float32)
    metadata = {"alexnet": json.dumps(about)}
    return build_graph(RECIPE, draw_weights() | changed, mean, views=1, metadata=metadata)


def write(path: Path, model: onnx.ModelProto | bytes) -> Path:
    content = model if isinstance(model, bytes) else model.SerializeToString()
    path.write_bytes(content)
    return path


def refused(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_onnx(path, "cpu")
    assert caught.value.exit_code == 3
    assert str(path) in caught.value.problem
    assert "\n" not in caught.value.problem
    return caught.value.problem


@pytest.fixture
def never_opened(monkeypatch):
    """A model that onnxruntime were to open would fail the test."""
    monkeypatch.setattr(runtime.onnxruntime, "InferenceSession", None)


def test_exported_model_is_read(tmp_path):
    """The models below are refused for what is changed in them."""
    classifier = load_onnx(write(tmp_path / "a.onnx", exported()), "cpu")

    found = classifier.probabilities(np.full((2, SIZE, SIZE, 3), 7, np.uint8))

    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)
    assert classifier.info.recipe == RECIPE
    assert classifier.info.origin == ABOUT["origin"]


# --- the graph


def node(op: str, inputs: str, output: str, **attributes) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), [output], **attributes)


def changed(change) -> onnx.ModelProto:
    """Return an exported model with one change."""
    model = exported()
    change(model)
    return model


def with_extra(nodes: list, **constants: np.ndarray) -> onnx.ModelProto:
    """Return the model with nodes that onnxruntime would run, and constants they read."""

    def change(model: onnx.ModelProto) -> None:
        model.graph.node.extend(nodes)
        model.graph.initializer.extend(from_array(a, name) for name, a in constants.items())

    return changed(change)


def with_constant(constant: TensorProto) -> onnx.ModelProto:
    return changed(lambda model: model.graph.initializer.append(constant))


def loop() -> onnx.NodeProto:
    infos = [("i", TensorProto.INT64), ("go", TensorProto.BOOL), ("a", TensorProto.FLOAT)]
    inputs = [helper.make_tensor_value_info(n, kind, [] if n != "a" else None) for n, kind in infos]
    outputs = [
        helper.make_tensor_value_info("go2", TensorProto.BOOL, []),
        helper.make_tensor_value_info("a2", TensorProto.FLOAT, None),
    ]
    nodes = [node("Identity", "go", "go2"), node("Concat", "a a", "a2", axis=0)]
    body = helper.make_graph(nodes, "body", inputs, outputs)
    return helper.make_node("Loop", ["n", "", "v0"], ["y"], body=body)


def add_function(model: onnx.ModelProto, domain: str) -> None:
    opsets = [helper.make_opsetid("", 17)]
    body = [node("ConstantOfShape", "s", "y")]
    model.functions.append(helper.make_function(domain, "Relu", ["s"], ["y"], body, opsets))


def add_sparse(model: onnx.ModelProto) -> None:
    values = from_array(np.ones(1, np.float32), "sparse")
    indices = from_array(np.array([0]), "indices")
    sparse = helper.make_sparse_tensor(values, indices, [30000, 30000])  # and no node needs it
    model.graph.sparse_initializer.append(sparse)


def add_sequence(model: onnx.ModelProto) -> None:
    info = helper.make_tensor_sequence_value_info("other", TensorProto.FLOAT, None)
    model.graph.input.append(info)


def without_values(model: onnx.ModelProto) -> None:
    """Leave a file that declares its constants and holds a few bytes."""
    for constant in model.graph.initializer:
        if constant.data_type == TensorProto.FLOAT:
            constant.raw_data = b""


def set_values(model: onnx.ModelProto, name: str, times: float) -> None:
    """Give a constant more or fewer values than its shape says."""
    tensor = next(c for c in model.graph.initializer if c.name == name)
    tensor.raw_data = bytes(int(times * len(tensor.raw_data)))


def set_dims(name: str, *dims: int):
    def change(model: onnx.ModelProto) -> None:
        tensor = next(c for c in model.graph.initializer if c.name == name)
        del tensor.dims[:]
        tensor.dims.extend(dims)

    return changed(change)


def set_bounds(model: onnx.ModelProto) -> None:
    """Crop other pixels, as many as before."""
    constant = next(c for c in model.graph.initializer if c.name == "crop/starts")
    constant.CopyFrom(from_array(np.array([0, 1]), "crop/starts"))


def as_input(kind: int, *sides: int) -> onnx.ModelProto:
    value = helper.make_tensor_value_info("images", kind, ["batch", *sides])
    return changed(lambda model: model.graph.input[0].CopyFrom(value))


def with_recipe(*settings: str) -> onnx.ModelProto:
    """Return a model whose metadata has other settings of the recipe."""
    recipe = json.loads(RECIPE.to_json())
    for setting in settings:
        path, _, value = setting.partition("=")
        *outer, name = path.split(".")
        inner = recipe[outer[0]] if outer else recipe
        inner[name] = json.loads(value)
    return exported(ABOUT | {"recipe": recipe})


V = {"v0": np.ones(1000, np.float32)}
DOUBLED = [node("Concat", f"v{i} v{i}", f"v{i + 1}", axis=0) for i in range(20)]
HOSTILE = {
    "operator of a huge output": with_extra(
        [node("ConstantOfShape", "s", "y")], s=np.array([800_000_000])
    ),
    "operator of ours with a huge output": with_extra(
        [node("Conv", "a a", "y", pads=[14000] * 4)], a=np.ones((1, 1, 1, 1), np.float32)
    ),
    "Concat of itself, again and again": with_extra(DOUBLED, **V),
    "Loop": with_extra([loop()], n=np.array(20), **V),
    "subgraph in an attribute of ours": changed(
        lambda model: model.graph.node[4].attribute.extend(loop().attribute)
    ),
    "larger attribute of ours": changed(
        lambda model: model.graph.node[4].attribute[0].ints.append(2**62)
    ),
    "two outputs": changed(lambda model: model.graph.node[4].output.append("i")),
    "operator of others": changed(
        lambda model: setattr(model.graph.node[4], "domain", "com.microsoft")
    ),
    "field that onnx does not know": changed(
        lambda model: model.graph.node[4].MergeFromString(b"\xa0\x06\x05")
    ),
    "function": changed(partial(add_function, domain="own")),
    "function by the name of an operator": changed(partial(add_function, domain="")),
    "sparse constant": changed(add_sparse),
    "constant of no values": with_constant(TensorProto(name="v", data_type=1, dims=[30000, 30000])),
    "constant larger than any memory": set_dims("fc8.weight", 2**40, 2**40),
    "constant of a negative size": set_dims("fc8.weight", -4),
    "constant of words": with_constant(TensorProto(name="v", data_type=TensorProto.STRING)),
    "shape of more values than it says": with_constant(
        TensorProto(name="s", data_type=7, dims=[1], raw_data=bytes(2000))
    ),
    "same name twice": with_constant(TensorProto(name="fc8.bias", data_type=1, dims=[10])),
    "constant within a node": with_extra(
        [node("Constant", "", "y", value=from_array(np.ones(3, np.float32)))]
    ),
    "sequence as input": changed(add_sequence),
    "many nodes": with_extra([node("Relu", "v0", f"r{i}") for i in range(2001)], **V),
    "a node less": changed(lambda model: model.graph.node.pop()),
    "no nodes": changed(lambda model: model.graph.ClearField("node")),
    "other bounds": changed(set_bounds),
    "no values": changed(without_values),
    "large values twice": changed(partial(set_values, name="fc8.weight", times=2)),
    "large values elsewhere": changed(partial(set_values, name="fc8.bias", times=100)),
    "half of the values": changed(partial(set_values, name="fc8.weight", times=0.5)),
    "small values twice": changed(partial(set_values, name="fc8.bias", times=2)),
    "channels first": as_input(TensorProto.UINT8, 3, SIZE, SIZE),
    "other size": as_input(TensorProto.UINT8, SIZE + 1, SIZE + 1, 3),
    "other type": as_input(TensorProto.FLOAT, SIZE, SIZE, 3),
    "other classes": exported(ABOUT | {"classes": ABOUT["classes"][:9]}),
    "images of a huge size": exported(ABOUT | {"image_size": 1 << 20}),
    "images smaller than a crop": exported(ABOUT | {"image_size": 8}),
    "views of others": exported(ABOUT | {"views": 0}),
    "size that is no number": exported(ABOUT | {"image_size": 16.5}),
    "names that are no text": exported(ABOUT | {"classes": [[1, 2]] * 10}),
    "metadata of another kind": exported([]),
    "no recipe": exported({name: ABOUT[name] for name in ABOUT if name != "recipe"}),
    "recipe of another network": with_recipe("conv1.filters=16"),
    "recipe of many activations": with_recipe("conv1.filters=65536"),
    "recipe of a large kernel": with_recipe("conv1.pad=99", "conv2.size=99", "conv2.pad=99"),
    "recipe whose crops vanish": with_recipe("crop_size=8", "conv1.size=99"),
    "recipe out of bounds": with_recipe("conv1.filters=100000"),
}


@pytest.mark.parametrize("model", HOSTILE.values(), ids=HOSTILE)
def test_hostile_model_is_refused_before_it_is_opened(tmp_path, never_opened, model):
    assert "not one of alexnet export" in refused(write(tmp_path / "a.onnx", model))


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("operator of others", "operator com.microsoft."),
        ("recipe of many activations", "more memory than is allowed"),
        ("recipe of a large kernel", "more time than is allowed"),
        ("no values", "as many values as its shape says"),
        ("views of others", "0 views"),
    ],
)
def test_reason_is_named(tmp_path, model: str, reason: str):
    assert reason in refused(write(tmp_path / "a.onnx", HOSTILE[model]))


@pytest.fixture
def folder(tmp_path) -> Path:
    """A model's folder beside a file that is not for it, and a link in it that leads there."""
    (tmp_path / "secret.bin").write_bytes(bytes(4000))
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "link.bin").symlink_to(tmp_path / "secret.bin")
    return tmp_path / "models"


@pytest.mark.parametrize("place", ["../secret.bin", "{}/secret.bin", "link.bin", "none.bin"])
def test_weights_in_another_file_are_not_read(folder, never_opened, place):
    model = exported()
    tensor = next(c for c in model.graph.initializer if c.name == "fc8.bias")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": place.format(folder.parent), "length": "40"}.items():
        tensor.external_data.add(key=key, value=value)

    assert "not one of alexnet export" in refused(write(folder / "a.onnx", model))


def test_name_that_is_no_text_is_refused_without_a_word_on_stdout(tmp_path, capfd):
    """onnxruntime prints this error, and JSON output promises one object and nothing else."""
    model = exported()
    model.graph.node[-1].attribute.add(name="other", type=AttributeProto.INT, i=1)
    content = model.SerializeToString().replace(b"other", b"\xfether")

    refused(write(tmp_path / "a.onnx", content))

    assert capfd.readouterr() == ("", "")


def test_damaged_model_is_refused_in_words_or_read():
    """Protobuf returns a name that is no UTF-8 as bytes."""
    whole = exported().SerializeToString()
    few = skeleton_of(memoryview(whole))[0]
    rng, refusals = np.random.default_rng(0), 0
    for _ in range(1500):
        damaged = np.frombuffer(few, np.uint8).copy()
        damaged[rng.integers(0, len(few), 2)] = rng.integers(0, 256, 2)
        try:
            skeleton = skeleton_of(memoryview(damaged.tobytes()))[0]
            model_file._check_skeleton(skeleton)
        except (ValueError, RecipeError):
            refusals += 1
    assert 0 < refusals < 1500


def test_damaged_file_without_a_checksum_is_refused_in_words_or_has_constants_of_its_shapes(
    tmp_path,
):
    whole = exported().SerializeToString()
    shapes = {t.name: (*t.dims,) for t in exported().graph.initializer if t.data_type == 1}
    _, places = skeleton_of(memoryview(whole))
    ends = [start + length for start, length in places]
    rng, path, refusals = np.random.default_rng(1), tmp_path / "a.onnx", 0
    for _ in range(300):
        damaged = np.frombuffer(whole, np.uint8).copy()
        # Near the ends of constants, where lengths and names are, or anywhere.
        near = rng.choice(ends) + rng.integers(-20, 60) if rng.random() < 0.7 else len(whole)
        place = near if near < len(whole) else rng.integers(len(whole))
        damaged[place] = rng.integers(256)
        cut = rng.integers(len(whole)) if rng.random() < 0.1 else len(whole)
        path.write_bytes(damaged.tobytes()[:cut])
        try:
            constants = open_onnx_file(path).constants
        except CheckpointError:
            refusals += 1
            continue
        assert {name: array.shape for name, array in constants.items()} == shapes
    assert 50 < refusals < 300


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_model_whose_output_is_no_probabilities_is_refused(tmp_path, value: float):
    bias = np.full(10, value, np.float32)
    model = exported(**{"fc8.bias": bias})
    classifier = load_onnx(write(tmp_path / "a.onnx", model), "cpu")

    with pytest.raises(CheckpointError, match=r"a\.onnx: its output is not probabilities"):
        classifier.probabilities(np.zeros((2, SIZE, SIZE, 3), np.uint8))


@pytest.mark.parametrize("views", [1, 9, 10])
@pytest.mark.parametrize("name", RECIPES)
def test_networks_of_recipes_are_allowed(name: str, views: int):
    recipe = find_recipe(name)
    size = 32 if name.startswith("cifar") else 256
    num_classes = 21_843 if name == "pretrain-2011" else 1000
    info = ModelInfo(recipe, [("", "")] * num_classes, size, views, {})

    model_file._check_cost(info, layers_of(recipe, num_classes))


@pytest.mark.parametrize(("width", "is_allowed"), [(2, True), (3, True), (8, False)])
def test_width_is_bounded(width: int, is_allowed: bool):
    recipe = with_settings(find_recipe("paper"), [f"width={width}"])

    try:
        model_file._check_cost(ModelInfo(recipe, [], 256, 1, {}), layers_of(recipe, 1000))
        assert is_allowed
    except ValueError:
        assert not is_allowed


@pytest.mark.parametrize(
    "changes",
    [
        {"conv3": {"local": True, "filters": 8, "size": 9, "pad": 4}, "columns": 1},
        {
            "conv1": {"stride": 1, "filters": 128},
            **{name: {"filters": 8, "then": ()} for name in ("conv2", "conv3", "conv4", "conv5")},
            "pool_size": 99,
            "pool_stride": 1,
        },
        {"conv1": {"then": ("norm",), "filters": 16384, "size": 1, "stride": 11}},
        {"conv1": {"then": ("contrast-norm",), "filters": 320}, "spatial_size": 99},
    ],
    ids=["local", "pool", "norm", "contrast"],
)
def test_steps_that_take_long_are_refused(changes: dict):
    recipe = find_recipe("paper")
    recipe = replace(
        recipe,
        **{
            name: replace(getattr(recipe, name), **value) if isinstance(value, dict) else value
            for name, value in changes.items()
        },
    )

    with pytest.raises(ValueError, match="than is allowed"):
        model_file._check_cost(ModelInfo(recipe, [], 256, 1, {}), layers_of(recipe, 10))


# --- the checksum


def test_checksum_is_an_entry_of_the_metadata_that_changes_nothing_else():
    plain = exported()
    content = plain.SerializeToString()
    protected = onnx.load_from_string(add_checksum(content))

    entry = protected.metadata_props.pop()

    assert (entry.key, entry.value) == ("alexnet.crc32", f"{zlib.crc32(content):08x}")
    assert protected == plain


def test_flipped_bit_of_a_protected_model_is_found_wherever_it_is(tmp_path):
    content = add_checksum(exported().SerializeToString())
    path = write(tmp_path / "a.onnx", content)
    load_onnx(path, "cpu")
    for position in range(0, len(content) - len(add_checksum(b"")), 67):
        damaged = bytearray(content)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        assert "its checksum does not match" in refused(path)


def test_damage_to_the_checksum_itself_changes_no_prediction(tmp_path):
    content = add_checksum(exported().SerializeToString())
    images = np.full((1, SIZE, SIZE, 3), 7, np.uint8)
    path = write(tmp_path / "a.onnx", content)
    expected = load_onnx(path, "cpu").probabilities(images)
    for position in range(len(content) - len(add_checksum(b"")), len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 1
        path.write_bytes(damaged)
        try:
            found = load_onnx(path, "cpu").probabilities(images)
        except CheckpointError:
            continue
        np.testing.assert_array_equal(found, expected)


# --- the skeleton: the model without the values of its large constants


def model_of(*constants: TensorProto) -> onnx.ModelProto:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 3]) for name in "xy"]
    nodes = [helper.make_node("Relu", ["x"], ["y"], doc_string="d" * 3000)]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], constants)
    model = helper.make_model(graph)
    helper.set_model_props(model, {"key": "v" * 3000})
    return model


def test_only_long_values_are_left_out_and_their_places_returned():
    short, rng = from_array(np.arange(100), "short"), np.random.default_rng(0)
    long = [rng.normal(size=(500, n)).astype(np.float32) for n in (3, 4)]
    model = model_of(from_array(long[0], "long"), short, from_array(long[1], "longer"))
    content = model.SerializeToString()

    skeleton, places = skeleton_of(memoryview(content))

    assert [content[start : start + length] for start, length in places] == [
        array.tobytes() for array in long
    ]
    for number in (0, 2):
        model.graph.initializer[number].raw_data = b""
    assert onnx.ModelProto.FromString(skeleton) == model


def test_messages_in_parts_are_merged_as_protobuf_merges_them():
    """A later part could otherwise hide what onnxruntime reads."""
    parts = [model_of(from_array(np.full(n, 7.0), f"w{n}")) for n in (5, 900)]
    content = b"".join(part.SerializeToString() for part in parts)

    found = onnx.ModelProto.FromString(skeleton_of(memoryview(content))[0])

    expected = onnx.ModelProto.FromString(content)
    expected.graph.initializer[1].raw_data = b""
    assert found == expected
    assert len(found.graph.node) == 2


def test_values_that_are_left_out_still_replace_those_before():
    tensor = from_array(np.arange(4), "w").SerializeToString()
    tensor += TensorProto(raw_data=bytes(5000)).SerializeToString()
    content = b"\x2a" + model_file._varint(len(tensor)) + tensor
    content = b"\x3a" + model_file._varint(len(content)) + content

    found = onnx.ModelProto.FromString(skeleton_of(memoryview(content))[0])

    assert found.graph.initializer[0].raw_data == b""
    assert found.graph.initializer[0].HasField("raw_data")


def test_number_under_the_number_of_a_message_is_copied():
    """Protobuf skips a graph that is no message."""
    content = model_of().SerializeToString() + bytes([7 << 3, 0x3A])

    assert skeleton_of(memoryview(content)) == (content, [])


def test_much_besides_constants_is_refused(monkeypatch):
    monkeypatch.setattr(model_file, "SKELETON_BYTES", 4000)

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
            found = onnx.ModelProto.FromString(skeleton_of(memoryview(content))[0])
        except (DecodeError, ValueError):
            refusals += 1
            continue
        assert expected is not None
        for constant in [*found.graph.initializer, *expected.graph.initializer]:
            if len(constant.raw_data) > 1024:
                constant.raw_data = b""
        assert found.SerializeToString() == expected.SerializeToString()
    assert 0 < refusals < 3000
