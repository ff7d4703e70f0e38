"""Every recipe trains, reloads, exports, and runs split over two devices."""

import dataclasses
from pathlib import Path

import pytest
import torch
from helpers import train

from alexnet_cli.data.shards.dataset import open_dataset
from alexnet_cli.distributed.device_plan import Runtime
from alexnet_cli.inference.classifier import build_classifier
from alexnet_cli.inference.export import export
from alexnet_cli.inference.metrics import score
from alexnet_cli.inference.predict_split import predict_split
from alexnet_cli.model.architecture import layers_of
from alexnet_cli.model.checkpoint import Checkpoint, load_checkpoint
from alexnet_cli.model.network import AlexNet, initialize
from alexnet_cli.model.split import SplitAlexNet, load_whole_state, whole_state
from alexnet_cli.recipes.catalog import NAMED_RECIPES, RECIPES, find_recipe
from alexnet_cli.recipes.named_recipe import PublishedResult
from alexnet_cli.recipes.overrides import widen
from alexnet_cli.recipes.recipe import PAPER, Recipe
from alexnet_cli.recipes.small import DEMO, SMALL

# The networks for large images; those of CIFAR-10 have no hidden layers.
HIDDEN = [name for name, recipe in RECIPES.items() if recipe.fc6.units]


@pytest.mark.parametrize("name", HIDDEN)
def test_recipe_leaves_6_by_6_maps_to_the_hidden_layers(name):
    layers = {layer.name: layer for layer in layers_of(RECIPES[name], 10)}
    pools = [layer.output for kind, layer in layers.items() if kind.startswith("pool")]
    assert pools[-1][1:] == (6, 6)


@pytest.mark.parametrize("name", RECIPES)
def test_no_two_layers_of_a_recipe_share_a_name(name):
    names = [layer.name for layer in layers_of(RECIPES[name], 10)]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", [n for n, entry in NAMED_RECIPES.items() if entry.parent])
def test_recipe_differs_from_its_parent_in_more_than_its_name(name):
    entry = NAMED_RECIPES[name]
    renamed = dataclasses.replace(entry.recipe, name=entry.parent)
    assert renamed != RECIPES[entry.parent]


@pytest.mark.parametrize("name", RECIPES)
def test_targets_are_percentages_with_a_source(name):
    for target in NAMED_RECIPES[name].published:
        assert 0 < target.top1_error < 100
        assert target.top5_error is None or 0 < target.top5_error < target.top1_error
        assert target.source.startswith(("paper", "log", "torchvision", "Caffe"))


def test_target_as_fractions_is_exact():
    target = PublishedResult("ilsvrc-2012", 40.664, 18.21, "ten views", "log").as_fractions()
    assert (target.top1_error, target.top5_error) == (0.40664, 0.1821)


@pytest.mark.parametrize(("recipe", "width"), [(SMALL, 3 / 8), (DEMO, 1 / 4)])
def test_small_recipe_has_a_part_of_every_layer(recipe, width):
    layers, whole = {**recipe.convs(), **recipe.denses()}, {**PAPER.convs(), **PAPER.denses()}
    sizes = {name: getattr(layer, "filters", None) or layer.units for name, layer in layers.items()}
    full = {name: getattr(layer, "filters", None) or layer.units for name, layer in whole.items()}

    for name, size in full.items():
        assert sizes[name] == pytest.approx(size * width, abs=4)  # multiples of 8
        assert sizes[name] % 8 == 0


@pytest.mark.parametrize("recipe", [SMALL, DEMO])
def test_small_recipe_ends_by_itself(recipe):
    assert recipe.schedule == "linear"
    assert recipe.epochs <= 16


# --- every recipe, shrunken, from training to ONNX


def shrink(name: str) -> Recipe:
    """Return a recipe with few kernels on small crops, for a few short epochs from fresh weights.

    Networks for small images keep their crops, and a quarter of their kernels: with fewer,
    next to nothing of the image comes through their first weights.
    """
    recipe = find_recipe(name)
    large = name in HIDDEN
    return dataclasses.replace(
        widen(recipe, 1 / 16 if large else 1 / 4),
        crop_size=72 if large else recipe.crop_size,
        batch_size=16,
        epochs=3,
        until_train_error=0.0,
        schedule="linear",
        warmup_epochs=0.0,
        learning_rate=0.002,
        init_layers=(),
    )


def train_loss(checkpoint: Checkpoint, dataset: Path) -> float:
    """Return the log loss on the center of the training images, without dropout."""
    classifier = build_classifier(checkpoint, Runtime((torch.device("cpu"),)), Path("a checkpoint"))
    found = predict_split(classifier, open_dataset(dataset), "train", num_views=1)
    return score(found.probs, found.labels).log_loss


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_trains_reloads_and_exports(name, dataset, tmp_path, monkeypatch):
    monkeypatch.setattr("alexnet_cli.inference.export.CHECKED_VIEWS", 36)
    train(dataset, tmp_path / "run", shrink(name))
    trained = load_checkpoint(tmp_path / "run" / "last.safetensors")
    fresh = AlexNet(shrink(name), 10)
    initialize(fresh, shrink(name).seed)
    weights = {key: tensor.numpy() for key, tensor in whole_state(fresh).items()}
    untrained = dataclasses.replace(trained, weights=weights)
    num_views = 1 if name in HIDDEN else 9
    last, onnx_path = tmp_path / "run" / "last.safetensors", tmp_path / "model.onnx"
    result = export(last, onnx_path, num_views=num_views)

    assert train_loss(trained, dataset) < train_loss(untrained, dataset)
    assert result.max_abs_difference <= 1e-5


@pytest.mark.parametrize("name", [n for n, recipe in RECIPES.items() if recipe.columns == 2])
def test_split_computes_what_the_whole_network_computes(name):
    recipe = shrink(name)
    whole = AlexNet(recipe, 10).eval()
    initialize(whole, 0)
    split = SplitAlexNet(recipe, 10, (torch.device("cpu"),) * 2).eval()
    load_whole_state(split, whole_state(whole))
    images = 50 * torch.randn(2, 3, recipe.crop_size, recipe.crop_size)

    torch.testing.assert_close(split(images), whole(images), rtol=0, atol=1e-5)
