"""The networks for CIFAR-10: parameters, sizes, first weights, and what they learn with."""

import dataclasses

import numpy as np
import pytest
import torch

from alexnet_cli.model.architecture import layers_of
from alexnet_cli.model.network import AlexNet
from alexnet_cli.model.optimizer import build_optimizer
from alexnet_cli.model.schedule import learning_rates_at
from alexnet_cli.recipes.catalog import find_recipe
from alexnet_cli.recipes.recipe import Recipe

FIGURE_1 = ("cifar-relu", "cifar-tanh")
LOCAL = ("cifar-13pct", "cifar-11pct")


def parameters(recipe: Recipe) -> dict[str, int]:
    return {la.name: la.num_parameters for la in layers_of(recipe, 10) if la.num_parameters}


@pytest.mark.parametrize("name", FIGURE_1)
def test_networks_of_figure_1_have_these_parameters(name):
    found = parameters(find_recipe(name))

    assert found == {
        "conv1": 32 * (3 * 5 * 5) + 32,
        "conv2": 32 * (32 * 5 * 5) + 32,
        "conv3": 64 * (32 * 5 * 5) + 64,
        "fc8": 10 * (64 * 4 * 4) + 10,
    }
    assert sum(found.values()) == 89_578


@pytest.mark.parametrize("name", LOCAL)
@pytest.mark.parametrize(("crop_size", "side", "total"), [(24, 6, 1_116_490), (32, 8, 1_901_386)])
def test_networks_with_local_layers_have_the_parameters_of_2012(name, crop_size, side, total):
    found = parameters(dataclasses.replace(find_recipe(name), crop_size=crop_size))

    positions = side**2  # each has weights and biases of its own
    assert found == {
        "conv1": 64 * (3 * 5 * 5) + 64,
        "conv2": 64 * (64 * 5 * 5) + 64,
        "conv3": positions * (32 * (64 * 3 * 3) + 32),
        "conv4": positions * (32 * (32 * 3 * 3) + 32),
        "fc8": 10 * (32 * positions) + 10,
    }
    assert sum(found.values()) == total


@pytest.mark.parametrize(("name", "unit"), [("cifar-relu", "relu"), ("cifar-tanh", "tanh")])
def test_layers_of_figure_1_shrink_32_pixels_to_4(name, unit):
    layers = {layer.name: layer.output for layer in layers_of(find_recipe(name), 10)}

    assert list(layers) == [
        *("conv1", "pool1", f"{unit}1"),
        *("conv2", f"{unit}2", "pool2"),
        *("conv3", f"{unit}3", "pool3"),
        *("flatten", "fc8"),
    ]
    assert [layers[f"pool{n}"] for n in (1, 2, 3)] == [(32, 16, 16), (32, 8, 8), (64, 4, 4)]


def test_first_pooling_of_figure_1_takes_the_largest_and_the_others_the_mean():
    net = AlexNet(find_recipe("cifar-relu"), 10)
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 1, 16, 16)))

    kinds = [net.get_submodule(f"pool{n}")(x)[0, 0].numpy() for n in (1, 2, 3)]

    # The last windows hang over: only two of their three rows and columns are there.
    windows = [
        [x[0, 0, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3].numpy() for j in range(8)] for i in range(8)
    ]
    largest = [[window.max() for window in row] for row in windows]
    means = [[window.mean() for window in row] for row in windows]
    for found, expected in zip(kinds, (largest, means, means), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("name", LOCAL)
def test_networks_with_local_layers_shrink_24_pixels_to_6(name):
    norm = ["norm{}"] if name == "cifar-11pct" else []
    pooled = ["conv{}", "relu{}", *norm, "pool{}"]
    layers = {layer.name: layer.output for layer in layers_of(find_recipe(name), 10)}

    assert list(layers) == [
        *(step.format(number) for number in (1, 2) for step in pooled),
        *("conv3", "relu3", "conv4", "relu4", "flatten", "fc8"),
    ]
    sizes = [layers[step] for step in ("pool1", "pool2", "conv3", "conv4")]
    assert sizes == [(64, 12, 12), (64, 6, 6), (32, 6, 6), (32, 6, 6)]


def test_tanh_differs_from_relu_in_its_unit_only():
    relu, tanh = (find_recipe(name) for name in FIGURE_1)
    assert dataclasses.replace(tanh, name=relu.name, activation="relu") == relu


def test_normalization_is_that_of_the_author_s_later_version():
    recipe = find_recipe("cifar-11pct")
    assert (recipe.lrn_k, recipe.lrn_size, recipe.lrn_beta) == (1.0, 5, 0.75)
    assert recipe.lrn_alpha_per_square() == pytest.approx(0.001 / 5, rel=1e-14)


@pytest.mark.parametrize(
    ("names", "stds"),
    [(FIGURE_1, [1e-4, 0.01, 0.01, 0.01]), (LOCAL, [1e-4, 0.01, 0.04, 0.04, 0.01])],
)
def test_first_weights_have_the_deviations_of_2012_and_biases_are_zero(names, stds):
    for recipe in map(find_recipe, names):
        convs = recipe.convs().values()
        assert [*(conv.init_std for conv in convs), recipe.fc8_init_std] == stds
        assert [conv.init_bias for conv in convs] == [0.0] * len(convs)


@pytest.mark.parametrize("name", FIGURE_1)
def test_figure_1_is_trained_without_any_regularisation_to_a_quarter_of_errors(name):
    recipe = find_recipe(name)
    assert (recipe.random_crop, recipe.mirror, recipe.color_noise) == (False, False, 0.0)
    assert (recipe.weight_decay, recipe.bias_decay) == (0.0, 0.0)
    assert recipe.denses() == {}
    assert recipe.until_train_error == 0.25
    assert (recipe.crop_size, recipe.columns) == (32, 1)


@pytest.mark.parametrize("name", LOCAL)
def test_local_networks_are_trained_on_crops_for_all_their_epochs(name):
    recipe = find_recipe(name)
    assert (recipe.random_crop, recipe.mirror, recipe.color_noise) == (True, True, 0.0)
    assert (recipe.share_crops, recipe.until_train_error) == (1, 0.0)


@pytest.mark.parametrize("name", LOCAL)
def test_only_local_layers_and_the_classifier_decay(name):
    optimizer = build_optimizer(find_recipe(name), AlexNet(find_recipe(name), 10))

    decays = {(g["layer"], g["is_weight"]): g["weight_decay"] for g in optimizer.param_groups}

    layers = ("conv1", "conv2", "conv3", "conv4", "fc8")
    weights = dict(zip(layers, (0.0, 0.0, 0.004, 0.004, 0.004), strict=True))
    expected = {(layer, True): decay for layer, decay in weights.items()}
    assert decays == expected | {(layer, False): 0.0 for layer in layers}


@pytest.mark.parametrize("name", FIGURE_1)
def test_figure_1_keeps_its_learning_rates(name):
    recipe = find_recipe(name)
    for done in (0.0, 50.0, recipe.epochs - 0.5):
        rates = learning_rates_at(recipe, done, [])
        for layer in recipe.layer_names():
            assert rates.of(layer, is_weight=True) == 0.001
            assert rates.of(layer, is_weight=False) == 0.002


@pytest.mark.parametrize("name", LOCAL)
@pytest.mark.parametrize(
    ("done", "weights", "biases"),
    [
        (0.0, 1e-3, 2e-3),
        (449.9, 1e-3, 2e-3),
        (450.0, 1e-4, 2e-4),
        (459.9, 1e-4, 2e-4),
        (460.0, 1e-5, 2e-5),
        (469.9, 1e-5, 2e-5),
    ],
)
def test_learning_rates_of_the_local_networks_fall_by_ten_twice_at_the_end(
    name, done, weights, biases
):
    recipe = find_recipe(name)
    rates = learning_rates_at(recipe, done, [])
    assert recipe.epochs == 470
    for layer in recipe.layer_names():
        assert rates.of(layer, is_weight=True) == pytest.approx(weights, rel=1e-12)
        assert rates.of(layer, is_weight=False) == pytest.approx(biases, rel=1e-12)
