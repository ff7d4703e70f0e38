"""The runs of the 2012 code: parameter counts, sizes, and the schedules of the notes."""

import dataclasses

import pytest

from alexnet_cli.model.architecture import layers_of
from alexnet_cli.model.network import AlexNet
from alexnet_cli.model.schedule import is_finished, learning_rates_at
from alexnet_cli.recipes.catalog import find_recipe
from alexnet_cli.recipes.overrides import widen
from alexnet_cli.recipes.recipe import PAPER

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
    "exp-schedule": 60_965_224,
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_recipe_has_the_parameters_of_the_run_of_2012(name):
    layers = layers_of(find_recipe(name), 1000)
    assert sum(layer.num_parameters for layer in layers) == PARAMETERS[name]


@pytest.mark.parametrize(("classes", "parameters"), [(1000, 61_555_304), (10_184, 99_182_152)])
def test_sixth_convolution_has_the_parameters_of_run_146(classes, parameters):
    recipe = dataclasses.replace(
        PAPER,
        conv6=dataclasses.replace(PAPER.conv6, filters=256),
        reads_both=(*PAPER.reads_both, "conv6"),
    )
    assert sum(layer.num_parameters for layer in layers_of(recipe, classes)) == parameters


def test_pooling_without_overlap_has_the_sizes_of_run_147():
    layers = {layer.name: layer.output for layer in layers_of(find_recipe("no-overlap"), 10)}
    sizes = [layers[name][1] for name in ("pool1", "conv2", "pool2", "conv5", "pool5")]
    assert sizes == [28, 26, 13, 11, 6]


# Epochs after which the notes of 2012 change something: (weights, conv1, noise, end).
LOGGED = {
    "original-2012": ([(25, 1e-3), (51, 1e-4), (79, 1e-5)], [(67, 1e-5), (72, 0)], 67, 91),
    "original-2010": ([(23, 1e-3), (51, 1e-4), (78, 1e-5)], [(68, 1e-5), (72, 0)], 68, 93),
    "one-gpu": ([(20, 1e-3), (48, 1e-4), (96, 1e-5)], [(66, 1e-5), (72, 0)], 66, 96),
    "no-overlap": ([(23, 1e-3), (51, 1e-4), (79, 1e-5)], [(79, 0)], 0, 90),
    "no-lrn": ([(22, 1e-3), (44, 1e-4), (86, 1e-5)], [(69, 1e-5), (73, 0)], 69, 97),
    "no-communication": ([(25, 1e-3), (49, 1e-4), (79, 1e-5)], [(66, 1e-5), (72, 0)], 66, 92),
    # Its notes stop at epoch 66; the rest is original-2012's.
    "lrn-conv5": ([(21, 1e-3), (54, 1e-4), (79, 1e-5)], [(66, 1e-5), (72, 0)], 66, 91),
}
OTHERS = ("conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")


@pytest.mark.parametrize("name", LOGGED)
def test_schedule_is_that_of_the_notes_of_2012(name):
    recipe, (weights, conv1, noise, end) = find_recipe(name), LOGGED[name]
    assert [(e.epoch, e.lr) for e in recipe.milestones if not e.layers] == weights
    assert [(e.epoch, e.lr) for e in recipe.milestones if e.layers == ("conv1",)] == conv1
    assert (recipe.color_noise_epochs, recipe.epochs) == (noise, end)
    assert (recipe.learning_rate, recipe.learning_rate * recipe.bias_lr_multiplier) == (0.01, 0.02)


def last_of(changes: list[tuple[int, float]], done: float) -> float:
    """Return the learning rate that was set last before a number of epochs."""
    return [0.01, *(rate for epoch, rate in changes if epoch <= done)][-1]


@pytest.mark.parametrize("name", LOGGED)
def test_learning_rates_of_every_layer_change_at_the_epochs_of_the_notes(name):
    recipe, (weights, conv1, _, end) = find_recipe(name), LOGGED[name]
    by_epoch = sorted(weights + conv1, key=lambda change: change[0])
    for done in (step / 4 for step in range(4 * end)):
        rates = learning_rates_at(recipe, done, [])
        for layer in OTHERS:
            assert rates.of(layer, is_weight=True) == last_of(weights, done)
            assert rates.of(layer, is_weight=False) == 0.02  # the notes only tell the weights'
        rests = done >= conv1[-1][0]
        expected = (None, None) if rests else (last_of(by_epoch, done), 0.02)
        found = rates.of("conv1", is_weight=True), rates.of("conv1", is_weight=False)
        assert found == expected


# --- run 170, learning rates by a formula


@pytest.mark.parametrize(
    ("done", "weights", "biases"),
    [
        (0.0, 0.01, 0.02),
        (23.74, 0.01, 0.02),
        (23.75, 0.0015874, 0.02),
        (47.49, 0.0015874, 0.02),
        (47.5, 0.00025198, 0.002),
        (71.24, 0.00025198, 0.002),
        (71.25, 4e-5, 0.002),
        (94.9, 4e-5, 0.002),
    ],
)
def test_learning_rates_of_run_170_fall_in_equal_steps_of_95_epochs(done, weights, biases):
    recipe = find_recipe("exp-schedule")
    rates = learning_rates_at(recipe, done, [])
    for layer in ("conv1", *OTHERS):
        assert rates.of(layer, is_weight=True) == pytest.approx(weights, rel=1e-4)
        assert rates.of(layer, is_weight=False) == pytest.approx(biases, rel=1e-12)


def test_run_170_is_run_145_but_for_learning_rates_and_noise():
    recipe, original = find_recipe("exp-schedule"), find_recipe("original-2012")
    assert [layer.name for layer in layers_of(recipe, 10)] == [
        layer.name for layer in layers_of(original, 10)
    ]
    same = (
        "conv1",
        "conv2",
        "conv5",
        "lrn_divided",
        "learning_rate",
        "bias_lr_multiplier",
        "weight_decay",
    )
    assert [getattr(recipe, name) for name in same] == [getattr(original, name) for name in same]
    assert (recipe.color_noise, recipe.color_noise_epochs) == (0.1, 0)
    assert [is_finished(recipe, epochs, []) for epochs in (94, 95)] == [False, True]


# --- layers


def test_first_layer_of_2012_normalizes_and_pools_before_relu():
    names = [layer.name for layer in layers_of(find_recipe("original-2012"), 10)]
    assert names[:4] == ["conv1", "norm1", "pool1", "relu1"]
    assert names[4:9] == ["conv2", "relu2", "norm2", "spatial2", "pool2"]
    assert names[13:16] == ["conv5", "pool5", "relu5"]


def test_third_normalization_of_run_149_stands_before_the_last_pooling():
    names = [layer.name for layer in layers_of(find_recipe("lrn-conv5"), 10)]
    assert names[13:17] == ["conv5", "norm5", "pool5", "relu5"]


def test_run_148_normalizes_nothing():
    names = [layer.name for layer in layers_of(find_recipe("no-lrn"), 10)]
    assert [name for name in names if name.startswith(("norm", "spatial", "contrast"))] == []
    assert names[:6] == ["conv1", "pool1", "relu1", "conv2", "relu2", "pool2"]


def test_columns_without_communication_are_separate_up_to_the_classifier():
    assert AlexNet(widen(find_recipe("no-communication"), 1 / 16), 10).stages[1:] == [["fc8"]]
