"""From an exported file back to the network's parameters and a checkpoint."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from alexnet_cli.distributed.device_plan import Runtime
from alexnet_cli.errors import CheckpointError
from alexnet_cli.inference.classifier import load_classifier
from alexnet_cli.inference.export import export
from alexnet_cli.inference.network import load_network, open_for_onnxruntime
from alexnet_cli.inference.onnx_model import OnnxModel
from alexnet_cli.inference.torch_model import TorchModel
from alexnet_cli.model.architecture import parameter_shapes
from alexnet_cli.model.checkpoint import Checkpoint, TrainState, load_checkpoint, save_checkpoint
from alexnet_cli.onnx.graph import build_graph
from alexnet_cli.onnx.model_file import METADATA_KEY, open_onnx_file
from alexnet_cli.onnx.parameters import as_onnx_file, checkpoint_of
from alexnet_cli.onnx.runtime import load_onnx
from alexnet_cli.recipes.overrides import widen
from alexnet_cli.recipes.recipe import PAPER, Recipe

SMALL = replace(widen(PAPER, 0.125), crop_size=72)
LOCAL = {name: replace(getattr(SMALL, name), local=True) for name in ("conv3", "conv4")}
RECIPES = {
    "paper": SMALL,
    "other dropout": replace(SMALL, fc6=replace(SMALL.fc6, dropout=0.3)),
    "local layers": replace(SMALL, columns=1, **LOCAL),
    "low resolution": replace(SMALL, low_resolution=True),
    "bottleneck": replace(SMALL, bottleneck=replace(SMALL.bottleneck, units=10, dropout=0.2)),
}


@pytest.fixture(scope="module")
def exported(checkpoint, tmp_path_factory) -> Path:
    """The checkpoint exported with one view. Read only."""
    path = tmp_path_factory.mktemp("onnx") / "one.onnx"
    export(checkpoint, path)
    return path


def write(path: Path, recipe: Recipe, weights: dict[str, np.ndarray]) -> Path:
    rng = np.random.default_rng(1)
    about = {
        "classes": [[f"n{i}", f"name {i}"] for i in range(7)],
        "image_size": 96,
        "views": 1,
        "origin": {},
        "recipe": json.loads(recipe.to_json()),
    }
    mean = rng.uniform(0, 255, (96, 96, 3)).astype(np.float32)
    metadata = {METADATA_KEY: json.dumps(about)}
    model = build_graph(recipe, weights, mean, views=1, metadata=metadata)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("name", RECIPES)
def test_parameters_are_those_that_were_exported(tmp_path, name: str):
    recipe, rng = RECIPES[name], np.random.default_rng(0)
    weights = {
        name: rng.normal(size=shape).astype(np.float32)
        for name, shape in parameter_shapes(recipe, 7).items()
    }
    path = write(tmp_path / "a.onnx", recipe, weights)

    found = checkpoint_of(open_onnx_file(path)).weights

    assert found.keys() == weights.keys()
    for key, array in weights.items():
        np.testing.assert_allclose(found[key], array, rtol=2e-7)


@pytest.mark.parametrize("name", RECIPES)
def test_outputs_of_every_layer_of_a_checkpoint_are_those_on_torch(tmp_path, name: str):
    rng = np.random.default_rng(2)
    weights = {
        key: (rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)
        for key, shape in parameter_shapes(RECIPES[name], 7).items()
    }
    mean = rng.uniform(0, 255, (96, 96, 3)).astype(np.float32)
    checkpoint = Checkpoint(
        recipe=RECIPES[name],
        weights=weights,
        pixels={"mean_image": mean, "eigenvalues": np.zeros(3), "eigenvectors": np.eye(3)},
        classes=[(f"n{i}", f"name {i}") for i in range(7)],
        fingerprint="unknown",
        train_state=TrainState(),
    )
    path = tmp_path / "net.safetensors"
    save_checkpoint(path, checkpoint)
    expected = TorchModel(path, 10, "cpu")
    found = OnnxModel(open_for_onnxruntime(path), 10, "cpu")
    images = rng.integers(0, 256, (2, 96, 96, 3), dtype=np.uint8)

    for layer in expected.layers:
        values = expected.outputs_of(layer, images)
        error = np.abs(found.outputs_of(layer, images) - values).max()
        assert error <= 1e-5 * np.abs(values).max(), layer
    np.testing.assert_allclose(
        found.probabilities(images), expected.probabilities(images), atol=1e-5
    )


def test_checkpoint_in_place_of_a_file_shares_its_weights(checkpoint):
    network = load_network(checkpoint)
    found = as_onnx_file(checkpoint, network).constants
    for name in ("conv1.weight", "conv5.weight", "fc6.weight", "fc8.bias"):
        assert np.shares_memory(found[name], network.weights[name])


def test_checkpoint_of_an_exported_file_is_the_one_that_was_exported(checkpoint, exported):
    """Of the mean image only the center crop is exported, and no color components."""
    found, expected = load_network(exported), load_checkpoint(checkpoint)

    assert found.weights.keys() == expected.weights.keys()
    for name, array in expected.weights.items():  # dropout is 0.5: the same bits
        np.testing.assert_array_equal(found.weights[name], array)
    assert found.weights_hash() == expected.weights_hash()
    assert found.origin() == expected.origin()
    same = ("recipe", "classes", "fingerprint", "rules", "tool")
    for name in same:
        assert getattr(found, name) == getattr(expected, name)
    size, crop = len(expected.pixels["mean_image"]), expected.recipe.crop_size
    middle = slice((size - crop) // 2, (size - crop) // 2 + crop)
    mean, other = (each.pixels["mean_image"] for each in (found, expected))
    assert mean.shape == other.shape
    np.testing.assert_array_equal(mean[middle, middle], other[middle, middle])


@pytest.mark.parametrize("num_views", [1, 9, 10])
def test_torch_has_the_probabilities_of_onnxruntime(exported, num_views: int):
    classifier, _ = load_classifier(exported, Runtime((torch.device("cpu"),)))
    size = classifier.augmenter.image_size
    images = np.random.default_rng(0).integers(0, 256, (3, size, size, 3), dtype=np.uint8)

    found = classifier.probabilities(images, classifier.views(num_views)).mean(axis=0)

    expected = load_onnx(exported, "cpu", num_views).probabilities(images)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_checkpoint_of_an_exported_file_can_be_written_and_read(exported, tmp_path):
    found = load_network(exported)
    save_checkpoint(tmp_path / "a.safetensors", found)
    assert load_checkpoint(tmp_path / "a.safetensors").weights_hash() == found.weights_hash()


def test_values_that_are_not_finite_are_refused(tmp_path):
    shapes = parameter_shapes(SMALL, 7)
    weights = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    weights["fc7.bias"][3] = np.nan
    path = write(tmp_path / "a.onnx", SMALL, weights)

    with pytest.raises(CheckpointError, match=r"a\.onnx: fc7\.bias has values that are not"):
        load_network(path)
