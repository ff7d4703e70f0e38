"""The named recipes: the parameter counts of the 2012 runs, and what each changes."""

import dataclasses
from pathlib import Path

import pytest
import torch

from alexnet_cli.commands.export import export
from alexnet_cli.commands.train import train
from alexnet_cli.data.dataset import open_dataset
from alexnet_cli.engine.classifier import build_classifier
from alexnet_cli.engine.inference import predict_split
from alexnet_cli.errors import RecipeError
from alexnet_cli.metrics import score
from alexnet_cli.model.alexnet import AlexNet, describe_layers, initialize
from alexnet_cli.model.checkpoint import Checkpoint, load_checkpoint
from alexnet_cli.model.parallel import SplitAlexNet, load_whole_state, whole_state
from alexnet_cli.recipe import PAPER, Recipe, widen
from alexnet_cli.recipes import ENTRIES, RECIPES, find_recipe

# By hand from the 2012 layer files: runs 145, 145-half, 147, 148, 149 and 150.
PARAMETERS = {
    "paper": 60_965_224,
    "original-2012": 60_965_224,
    "original-2010": 60_965_224,
    "one-gpu": 59_798_312,
    "no-overlap": 60_965_224,
    "no-lrn": 60_965_224,
    "lrn-conv5": 60_965_224,
    "no-communication": 60_714_408,
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_recipe_has_the_parameters_of_the_run_of_2012(name):
    layers = describe_layers(find_recipe(name), 1000)
    assert sum(layer.parameters for layer in layers) == PARAMETERS[name]


@pytest.mark.parametrize(("classes", "parameters"), [(1000, 61_555_304), (10_184, 99_182_152)])
def test_sixth_convolution_has_the_parameters_of_run_146(classes, parameters):
    recipe = dataclasses.replace(
        PAPER,
        conv6=dataclasses.replace(PAPER.conv6, filters=256),
        reads_both=(*PAPER.reads_both, "conv6"),
    )
    assert sum(layer.parameters for layer in describe_layers(recipe, classes)) == parameters


def test_pooling_without_overlap_has_the_sizes_of_run_147():
    layers = {layer.name: layer.output for layer in describe_layers(find_recipe("no-overlap"), 10)}
    sizes = [layers[name][1] for name in ("pool1", "conv2", "pool2", "conv5", "pool5")]
    assert sizes == [28, 26, 13, 11, 6]


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_leaves_6_by_6_maps_to_the_hidden_layers(name):
    layers = {layer.name: layer for layer in describe_layers(RECIPES[name], 10)}
    pools = [layer.output for kind, layer in layers.items() if kind.startswith("pool")]
    assert pools[-1][1:] == (6, 6)


@pytest.mark.parametrize("name", [n for n, entry in ENTRIES.items() if entry.parent])
def test_recipe_differs_from_its_parent_in_more_than_its_name(name):
    entry = ENTRIES[name]
    renamed = dataclasses.replace(entry.recipe, name=entry.parent)
    assert renamed != RECIPES[entry.parent]


@pytest.mark.parametrize("name", RECIPES)
def test_targets_are_percentages_with_a_source(name):
    for target in ENTRIES[name].targets:
        assert 0 < target.top5_error < target.top1_error < 100
        assert target.source.startswith(("paper", "log"))


# Epochs after which the notes of 2012 change something: (weights, conv1, noise, end).
LOGGED = {
    "original-2012": ([(25, 1e-3), (51, 1e-4), (79, 1e-5)], [(67, 1e-5), (72, 0)], 67, 91),
    "original-2010": ([(23, 1e-3), (51, 1e-4), (78, 1e-5)], [(68, 1e-5), (72, 0)], 68, 93),
    "one-gpu": ([(20, 1e-3), (48, 1e-4), (96, 1e-5)], [(66, 1e-5), (72, 0)], 66, 96),
    "no-overlap": ([(23, 1e-3), (51, 1e-4), (79, 1e-5)], [(79, 0)], 0, 90),
    "no-lrn": ([(22, 1e-3), (44, 1e-4), (86, 1e-5)], [(69, 1e-5), (73, 0)], 69, 97),
    "no-communication": ([(25, 1e-3), (49, 1e-4), (79, 1e-5)], [(66, 1e-5), (72, 0)], 66, 92),
}


@pytest.mark.parametrize("name", LOGGED)
def test_schedule_is_that_of_the_notes_of_2012(name):
    recipe, (weights, conv1, noise, end) = find_recipe(name), LOGGED[name]
    assert [(e.epoch, e.rate) for e in recipe.events if not e.layers] == weights
    assert [(e.epoch, e.rate) for e in recipe.events if e.layers == ("conv1",)] == conv1
    assert (recipe.colour_noise_epochs, recipe.epochs) == (noise, end)
    assert (recipe.learning_rate, recipe.learning_rate * recipe.bias_rate) == (0.01, 0.02)


def test_first_layer_of_2012_normalizes_and_pools_before_relu():
    names = [layer.name for layer in describe_layers(find_recipe("original-2012"), 10)]
    assert names[:4] == ["conv1", "norm1", "pool1", "relu1"]
    assert names[4:9] == ["conv2", "relu2", "norm2", "spatial2", "pool2"]
    assert names[13:16] == ["conv5", "pool5", "relu5"]


def test_columns_without_communication_never_meet_before_the_classifier():
    assert AlexNet(small("no-communication"), 10).stages[1:] == [["fc8"]]


@pytest.mark.parametrize(
    ("name", "left_out"), [(f"without-conv{n}", f"conv{n}") for n in (3, 4, 5)]
)
def test_left_out_layer_is_gone_with_what_follows_it(name, left_out):
    names = [layer.name for layer in describe_layers(find_recipe(name), 10)]
    assert left_out not in names
    assert f"relu{left_out[-1]}" not in names
    assert sum(layer.startswith("pool") for layer in names) == 3


def test_unknown_recipe_is_refused_with_the_known_ones():
    with pytest.raises(RecipeError, match=r"no recipe 'vgg'\. Recipes: paper, original-2012"):
        find_recipe("vgg")


def small(name: str) -> Recipe:
    """Return a recipe with few kernels."""
    return widen(find_recipe(name), 1 / 16)


# --- every recipe, shrunken, from training to ONNX


def shrink(name: str) -> Recipe:
    """Return a recipe with few kernels on small patches, for two short epochs."""
    return dataclasses.replace(
        small(name),
        crop_size=99,
        batch_size=16,
        epochs=4,
        schedule="linear",
        warmup_epochs=0.0,
        learning_rate=0.002,
    )


def train_loss(checkpoint: Checkpoint, dataset: Path) -> float:
    """Return the log loss on the centre of the training pictures, without dropout."""
    classifier = build_classifier(checkpoint, (torch.device("cpu"),), Path("a checkpoint"))
    found = predict_split(classifier, open_dataset(dataset), "train", num_views=1)
    return score(found.probs, found.labels).log_loss


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_trains_reloads_and_exports(name, dataset, tmp_path):
    train(dataset, tmp_path / "run", shrink(name), device="cpu")
    trained = load_checkpoint(tmp_path / "run" / "last.safetensors")
    fresh = AlexNet(shrink(name), 10)
    initialize(fresh, shrink(name).seed)
    weights = {key: tensor.numpy() for key, tensor in whole_state(fresh).items()}
    untrained = dataclasses.replace(trained, weights=weights)
    result = export(tmp_path / "run" / "last.safetensors", tmp_path / "model.onnx", num_views=10)

    assert train_loss(trained, dataset) < train_loss(untrained, dataset)
    assert result.max_abs_difference <= 1e-5


@pytest.mark.parametrize("name", [n for n, recipe in RECIPES.items() if recipe.columns == 2])
def test_split_computes_what_the_whole_network_computes(name):
    recipe = shrink(name)
    whole = AlexNet(recipe, 10).eval()
    initialize(whole, 0)
    split = SplitAlexNet(recipe, 10, (torch.device("cpu"),) * 2).eval()
    load_whole_state(split, whole_state(whole))
    images = 50 * torch.randn(2, 3, 99, 99)

    torch.testing.assert_close(split(images), whole(images), rtol=0, atol=1e-5)
