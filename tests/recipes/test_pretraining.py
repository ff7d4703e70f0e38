"""The networks that saw all of ImageNet first: parameters, the chain, and the notes' rates."""

import pytest
import torch

from alexnet_cli.model.architecture import layers_of
from alexnet_cli.model.network import AlexNet
from alexnet_cli.model.schedule import learning_rates_at
from alexnet_cli.recipes.catalog import find_recipe

CONVS = ("conv1", "conv2", "conv3", "conv4", "conv5")
LAYERS = (*CONVS, "conv6", "fc6", "fc7", "fc8")

# By hand: as run 145, and conv6 of 256 * (256 * 3 * 3) + 256, which reads both columns.
CONV_PARAMETERS = {
    "conv1": 34_944,
    "conv2": 307_456,
    "conv3": 885_120,
    "conv4": 663_936,
    "conv5": 442_624,
    "conv6": 590_080,
}
HIDDEN = {"fc6": 37_752_832, "fc7": 16_781_312}

# The classes of a run of the notes, its last layers by hand, and all its parameters.
PARAMETERS = {
    "pretrain-2009": (10_184, {"fc8": 10_184 * 4096 + 10_184}, 99_182_152),
    "pretrain-2011": (
        21_843,
        {"bottleneck": 2048 * 4096 + 2048, "fc8": 21_843 * 2048 + 21_843},
        110_605_267,
    ),
    "finetune-2012": (1000, {"fc8": 1000 * 4096 + 1000}, 61_555_304),
    "finetune-2012-from-2009": (1000, {"fc8": 1000 * 4096 + 1000}, 61_555_304),
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_network_has_the_parameters_of_its_run(name):
    classes, last, total = PARAMETERS[name]

    layers = layers_of(find_recipe(name), classes)

    found = {layer.name: layer.num_parameters for layer in layers if layer.num_parameters}
    assert found == {**CONV_PARAMETERS, **HIDDEN, **last}
    assert sum(found.values()) == total


@pytest.mark.parametrize("name", PARAMETERS)
def test_sixth_convolution_comes_after_the_last_pooling_and_keeps_its_size(name):
    layers = {layer.name: layer.output for layer in layers_of(find_recipe(name), 10)}
    names = list(layers)

    assert names.index("conv5") < names.index("pool5") < names.index("conv6") < names.index("fc6")
    assert layers["pool5"] == layers["conv6"] == (256, 6, 6)
    assert "pool6" not in names


@pytest.mark.parametrize("name", PARAMETERS)
def test_sixth_convolution_is_initialized_as_in_the_notes(name):
    conv6 = find_recipe(name).conv6
    assert (conv6.init_std, conv6.init_bias, conv6.size, conv6.pad) == (0.03, 1.0, 3, 1)
    assert conv6.then == ("activation",)


def test_layer_before_the_21843_classes_is_linear_and_drops_nothing():
    layers = [layer.name for layer in layers_of(find_recipe("pretrain-2011"), 21_843)]
    bottleneck = find_recipe("pretrain-2011").bottleneck

    assert layers[layers.index("bottleneck") - 1 :] == ["drop7", "bottleneck", "fc8"]
    assert (bottleneck.units, bottleneck.init_std, bottleneck.init_bias) == (2048, 0.01, 0.0)


def test_each_column_scores_its_half_of_the_21843_classes():
    recipe = find_recipe("pretrain-2011")
    with torch.device("meta"):
        halves = [AlexNet(recipe, 21_843, columns=(column,)).fc8 for column in (0, 1)]

    assert [half.weight.shape for half in halves] == [(10_921, 2048), (10_922, 2048)]


# Each recipe's classes, the recipe it starts from with its classes, and the layers of that.
CHAIN = {
    "pretrain-2009": (10_184, "original-2012", 1000, CONVS),
    "pretrain-2011": (21_843, "pretrain-2009", 10_184, (*CONVS, "conv6")),
    "finetune-2012": (1000, "pretrain-2011", 21_843, (*CONVS, "conv6", "fc6", "fc7")),
    "finetune-2012-from-2009": (1000, "pretrain-2009", 10_184, (*CONVS, "conv6", "fc6", "fc7")),
}


def shapes(name: str, classes: int) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        net = AlexNet(find_recipe(name), classes)
    return {key: tuple(parameter.shape) for key, parameter in net.named_parameters()}


@pytest.mark.parametrize("name", CHAIN)
def test_init_layers_are_those_of_the_notes_and_fit_their_source(name):
    classes, source, source_classes, imported = CHAIN[name]
    ours, theirs = shapes(name, classes), shapes(source, source_classes)

    assert find_recipe(name).init_layers == imported
    for layer in imported:
        assert ours[f"{layer}.weight"] == theirs[f"{layer}.weight"]
        assert ours[f"{layer}.bias"] == theirs[f"{layer}.bias"]


# Weights and biases of layers after a number of epochs; None if frozen.
CONV_2009, CONV6_2009, DENSE_2009 = (1e-3, 0.02), (1e-2, 0.002), (1e-2, 0.02)
RATES = {
    "pretrain-2009": [
        (0.0, dict.fromkeys(CONVS, CONV_2009) | {"conv6": CONV6_2009}, DENSE_2009),
        (1.17, dict.fromkeys(CONVS, CONV_2009) | {"conv6": CONV6_2009}, DENSE_2009),
        (1.18, {"conv6": (1e-3, 0.002)}, (1e-3, 0.02)),
        (5.9, {"conv6": (1e-3, 0.002)}, (1e-3, 0.02)),
    ],
    "pretrain-2011": [
        (0.0, dict.fromkeys(CONVS, CONV_2009) | {"conv6": (1e-3, 0.002)}, DENSE_2009),
        (5.99, dict.fromkeys(CONVS, CONV_2009) | {"conv6": (1e-3, 0.002)}, DENSE_2009),
        (6.0, {"conv6": (1e-3, 0.002)}, (1e-3, 0.02)),
        (7.9, {"conv6": (1e-3, 0.002)}, (1e-3, 0.02)),
    ],
    "finetune-2012": [
        (0.0, {"conv1": (1e-4, 0.02)}, (1e-3, 0.02)),
        (0.23, {"conv1": (1e-4, 0.02)}, (1e-3, 0.02)),
        (0.24, {"conv1": (1e-4, 0.02), "fc8": (1e-2, 0.02)}, (1e-3, 0.02)),
        (4.9, {"conv1": (1e-4, 0.02), "fc8": (1e-2, 0.02)}, (1e-3, 0.02)),
        (5.0, {"conv1": (1e-5, 0.02), "fc8": (1e-2, 0.02)}, (1e-3, 0.02)),
        (7.0, {"conv1": (None, None), "fc8": (1e-2, 0.02)}, (1e-3, 0.02)),
        (8.9, {"conv1": (None, None), "fc8": (1e-2, 0.02)}, (1e-3, 0.02)),
        (9.0, {"conv1": (None, None)}, (1e-3, 0.02)),
        (22.0, {"conv1": (None, None)}, (1e-4, 0.02)),
        (41.9, {"conv1": (None, None)}, (1e-4, 0.02)),
        (42.0, {"conv1": (None, None)}, (1e-5, 0.02)),
        (53.9, {"conv1": (None, None)}, (1e-5, 0.02)),
    ],
    "finetune-2012-from-2009": [
        (0.0, {"conv1": (1e-4, 0.02)}, (1e-3, 0.02)),
        (2.9, {"conv1": (1e-4, 0.02)}, (1e-3, 0.02)),
        (3.0, {"conv1": (1e-5, 0.02)}, (1e-3, 0.02)),
        (4.0, {"conv1": (None, None)}, (1e-3, 0.02)),
        (21.9, {"conv1": (None, None)}, (1e-3, 0.02)),
        (22.0, {"conv1": (None, None)}, (1e-4, 0.02)),
        (42.0, {"conv1": (None, None)}, (1e-5, 0.02)),
        (51.9, {"conv1": (None, None)}, (1e-5, 0.02)),
    ],
}


@pytest.mark.parametrize(
    ("name", "done", "own", "others"),
    [(name, *row) for name, rows in RATES.items() for row in rows],
)
def test_learning_rates_of_every_layer_are_those_of_the_notes(name, done, own, others):
    rates = learning_rates_at(find_recipe(name), done, [])

    found = {n: (rates.of(n, is_weight=True), rates.of(n, is_weight=False)) for n in LAYERS}
    assert found == {layer: own.get(layer, others) for layer in LAYERS}


@pytest.mark.parametrize(
    ("name", "noise", "end"),
    [
        ("pretrain-2009", 0, 6),
        ("pretrain-2011", 0, 8),
        ("finetune-2012", 38, 54),
        ("finetune-2012-from-2009", 38, 52),
    ],
)
def test_noise_and_training_end_as_in_the_notes(name, noise, end):
    recipe = find_recipe(name)
    assert (recipe.color_noise_epochs, recipe.epochs) == (noise, end)
