"""Commands that need a torch network build it from an exported model too."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from alexnet_cli.inference.network import load_network
from alexnet_cli.model.checkpoint import load_checkpoint, save_checkpoint
from alexnet_cli.onnx.model_file import open_onnx_file

ON_CPU = ("--device", "cpu")


@pytest.fixture
def photo(tmp_path) -> Path:
    pixels = np.random.default_rng(2).integers(0, 256, (90, 140, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.mark.parametrize(
    ("kind", "data", "options"),
    [
        ("filters", None, ()),
        ("activations", "photo", ("--layer", "conv2")),
        ("explain", "photo", ("--method", "gradcam")),
        ("predictions", "dataset", ("--count", 2)),
        ("neighbors", "dataset", ("--count", 2, *ON_CPU)),
    ],
)
def test_figures_of_an_exported_model_are_those_of_its_checkpoint(
    answer, checkpoint, onnx_model, dataset, photo, tmp_path, kind, data, options
):
    more = {None: (), "photo": (photo,), "dataset": (dataset,)}[data]
    found, expected = (
        answer("figure", kind, model, *more, *options, "-o", tmp_path / "f.png")
        for model in (onnx_model, checkpoint)
    )
    assert found["numbers"] == expected["numbers"]


def test_report_of_an_exported_model(answer, checkpoint, onnx_model, dataset, tmp_path):
    out = tmp_path / "r.html"
    found = answer("report", onnx_model, "--data", dataset, "-o", out)
    assert found["sections"] == ["run", "errors", "filters", "examples", "explained"]
    errors = answer("eval", checkpoint, dataset, *ON_CPU)
    text = out.read_text()
    assert f"{errors['top1_error']:.2%}" in text
    assert load_checkpoint(checkpoint).weights_hash() in text
    assert "--run" not in text  # it can be trained again, but not into a file


def test_exported_model_is_known_by_the_network_it_was_whatever_its_dropout(
    answer, checkpoint, dataset, tmp_path
):
    """Weights divided by what dropout keeps are not those before to the bit, unless it is half."""
    found = load_checkpoint(checkpoint)
    recipe = replace(found.recipe, fc6=replace(found.recipe.fc6, dropout=0.3))
    path, model, npz = (tmp_path / name for name in ("a.safetensors", "a.onnx", "a.npz"))
    save_checkpoint(path, replace(found, recipe=recipe))
    answer("export", path, "-o", model)
    expected = answer("eval", model, dataset, "-o", npz, "--views", 1, *ON_CPU)
    out = tmp_path / "r.html"
    answer("report", model, "--data", dataset, "--predictions", npz, "-o", out)
    assert f"{expected['top1_error']:.2%}" in out.read_text()
    assert load_network(model).weights_hash() == load_checkpoint(path).weights_hash()


def test_exported_model_is_exported_again_with_other_views(answer, onnx_model, tmp_path):
    path = tmp_path / "one.onnx"
    found = answer("export", onnx_model, "-o", path, "--views", 1)
    assert found["views"] == 1
    one, ten = open_onnx_file(path), open_onnx_file(onnx_model)
    assert (one.info.views, ten.info.views) == (1, 10)
    assert one.info.origin == ten.info.origin
    assert one.constants.keys() == ten.constants.keys()
    for name, array in ten.constants.items():
        np.testing.assert_array_equal(one.constants[name], array)


def test_training_begins_with_the_layers_of_an_exported_model(
    answer, checkpoint, onnx_model, dataset, tmp_path
):
    options = ("--recipe", "finetune", "--epochs", 1, "--batch-size", 32, *ON_CPU, "--init-from")
    runs = {model: tmp_path / model.stem for model in (checkpoint, onnx_model)}
    for model, run in runs.items():
        answer("train", dataset, "--run", run, *options, model)
    found, expected = (load_checkpoint(run / "last.safetensors") for run in runs.values())
    assert found.weights_hash() == expected.weights_hash()
    assert found.init_from == expected.init_from


def test_exported_model_is_imported_as_the_checkpoint_it_was(
    answer, fails, checkpoint, onnx_model, tmp_path
):
    path = tmp_path / "back.safetensors"
    found = answer("import", onnx_model, "-o", path)
    back, expected = load_checkpoint(path), load_checkpoint(checkpoint)
    assert back.weights_hash() == expected.weights_hash()
    assert back.classes == expected.classes
    assert found["recipe"] == expected.recipe.name
    assert found["sha256"] == hashlib.sha256(onnx_model.read_bytes()).hexdigest()
    (tmp_path / "names.txt").write_text("a\n")
    failure = fails(2, "import", onnx_model, "--classes", tmp_path / "names.txt", "--force")
    assert "its own mean image and classes" in failure.message


def test_damaged_exported_model_is_not_imported(fails, onnx_model, tmp_path):
    content = bytearray(onnx_model.read_bytes())
    content[len(content) // 2] ^= 16
    (tmp_path / "a.onnx").write_bytes(content)
    message = fails(3, "import", tmp_path / "a.onnx", "-o", tmp_path / "b.safetensors").message
    assert "its checksum does not match" in message
    assert not (tmp_path / "b.safetensors").exists()


def test_exported_model_that_is_not_finite_is_not_imported(fails, onnx_model, tmp_path):
    model = onnx.load(onnx_model)
    bias = next(entry for entry in model.graph.initializer if entry.name == "fc7.bias")
    bias.raw_data = np.full(bias.dims, np.nan, "<f4").tobytes()
    del model.metadata_props[1:]  # the checksum
    onnx.save(model, tmp_path / "a.onnx")
    message = fails(3, "import", tmp_path / "a.onnx", "-o", tmp_path / "b.safetensors").message
    assert "a.onnx: fc7.bias has values that are not finite" in message
    assert not (tmp_path / "b.safetensors").exists()
