"""Activation statistics against numpy, and runs that are not learning.

N images, C channels, H rows, W columns.
"""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from alexnet_cli.model.architecture import layers_of
from alexnet_cli.model.network import AlexNet, initialize
from alexnet_cli.model.split import build_network, load_whole_state, whole_state
from alexnet_cli.recipes.catalog import find_recipe
from alexnet_cli.recipes.overrides import widen
from alexnet_cli.recipes.recipe import PAPER, Conv, Dense, Recipe
from alexnet_cli.training.activations import (
    ActivationStatistics,
    activation_statistics,
    is_at_chance_level,
    is_not_learning,
    statistics_on_cpu,
    weakest,
)

CPU = torch.device("cpu")
CLASSES = 10
RECIPES = {
    **{
        name: replace(widen(find_recipe(name), 1 / 16), crop_size=72)
        for name in ("paper", "tanh", "original-2012", "five-cnns-135", "pretrain-2011")
    },
    "cifar-13pct": find_recipe("cifar-13pct"),
}
SMALL = RECIPES["paper"]


def draw_net(recipe: Recipe) -> AlexNet:
    net = AlexNet(recipe, CLASSES)
    initialize(net, 3)
    return net


def draw_crops(recipe: Recipe, count: int = 5) -> torch.Tensor:
    size = recipe.crop_size
    generator = torch.Generator().manual_seed(1)
    return 60 * torch.randn(count, 3, size, size, generator=generator)


def outputs(net: AlexNet, crops: torch.Tensor) -> list[tuple[str, np.ndarray]]:
    """Return what every layer gave while the network mapped the crops, float64."""
    found = []

    def note(name: str):
        def hook(_layer, _inputs, output):
            found.append((name, output.detach().numpy().astype(np.float64)))

        return hook

    hooks = [layer.register_forward_hook(note(name)) for name, layer in net.named_children()]
    with torch.no_grad():
        net.eval()(crops)
    for hook in hooks:
        hook.remove()
    return found


# --- the numbers


@pytest.mark.parametrize("name", RECIPES)
def test_statistics_are_those_of_numpy(name):
    net, crops = draw_net(RECIPES[name]), draw_crops(RECIPES[name])

    found = activation_statistics(net, crops)

    expected = outputs(net, crops)
    assert [layer.name for layer in found] == [name for name, _ in expected]
    for layer, (_, output) in zip(found, expected, strict=True):
        values = output.reshape(len(crops), -1)  # a row an image
        distances = values - values.mean(axis=0)
        assert layer.rms == pytest.approx(np.sqrt(np.mean(values**2)), rel=1e-9)
        assert layer.std == pytest.approx(np.sqrt(np.mean(distances**2)), rel=1e-9)
        assert layer.dead_fraction == np.mean([not column.any() for column in values.T])


@pytest.mark.parametrize("name", RECIPES)
def test_statistics_have_the_layers_of_info_in_order(name):
    recipe = RECIPES[name]

    found = activation_statistics(draw_net(recipe), draw_crops(recipe, 2))

    layers = layers_of(recipe, CLASSES)
    assert [layer.name for layer in found] == [layer.name for layer in layers]


def two_images() -> tuple[Recipe, torch.Tensor]:
    """Return a network with one hidden layer on 8 x 8 pixels, and a white and a black image."""
    left_out = {
        name: replace(getattr(PAPER, name), filters=0)
        for name in ("conv2", "conv3", "conv4", "conv5")
    }
    recipe = replace(
        PAPER,
        crop_size=8,
        columns=1,
        reads_both=("fc8",),
        conv1=Conv(filters=2, size=8, init_std=0.0, init_bias=0.0),
        **left_out,
        fc6=Dense(units=4, init_std=0.0, init_bias=0.0, dropout=0.5),
        fc7=replace(PAPER.fc7, units=0),
        fc8_init_std=0.0,
    )
    crops = torch.cat([torch.ones(1, 3, 8, 8), torch.zeros(1, 3, 8, 8)])
    return recipe, crops


def test_statistics_of_two_images_are_those_computed_by_hand():
    recipe, crops = two_images()
    net = draw_net(recipe)
    with torch.no_grad():
        net.conv1.weight[0] = 1 / 64  # the first map: 3 for white, 0 for black
        net.conv1.bias[1] = -1.0  # the second: -1 for both, so dead after the ReLU
        net.fc6.bias.copy_(torch.tensor([3.0, 3.0, 0.0, 0.0]))

    found = {layer.name: layer for layer in activation_statistics(net, crops)}

    assert list(found) == ["conv1", "relu1", "flatten", "fc6", "relu6", "drop6", "fc8"]
    expected = {
        # (3, -1) and (0, -1): squares 9 + 1 + 0 + 1; the first map is 1.5 from its mean.
        "conv1": (math.sqrt(11 / 4), math.sqrt(2.25 / 2), 0.0),
        "relu1": (1.5, math.sqrt(2.25 / 2), 0.5),
        "flatten": (1.5, math.sqrt(2.25 / 2), 0.5),
        # The same for both images: 3, 3, 0, 0; without dropout it is halved.
        "fc6": (math.sqrt(4.5), 0.0, 0.5),
        "relu6": (math.sqrt(4.5), 0.0, 0.5),
        "drop6": (math.sqrt(4.5) / 2, 0.0, 0.5),
        "fc8": (0.0, 0.0, 1.0),
    }
    for name, numbers in expected.items():
        layer = found[name]
        numbers_found = (layer.rms, layer.std, layer.dead_fraction)
        assert numbers_found == pytest.approx(numbers, abs=1e-7), name


def test_output_that_is_nonzero_for_one_image_is_not_dead():
    recipe, crops = two_images()
    net = draw_net(recipe)
    with torch.no_grad():
        net.conv1.weight.fill_(1.0)

    by_name = {layer.name: layer for layer in activation_statistics(net, crops)}

    assert by_name["relu1"].dead_fraction == 0.0


def test_std_of_one_image_is_zero():
    found = activation_statistics(draw_net(SMALL), draw_crops(SMALL, 1))

    assert [layer.std for layer in found] == [0.0] * len(found)
    assert all(layer.rms > 0 for layer in found)


def test_std_of_equal_images_is_zero():
    crops = draw_crops(SMALL, 1).expand(4, -1, -1, -1)

    found = activation_statistics(draw_net(SMALL), crops)

    assert all(layer.std <= 1e-6 * layer.rms for layer in found)


def test_network_in_training_is_measured_without_dropout():
    net, crops = draw_net(SMALL), draw_crops(SMALL)

    assert activation_statistics(net.train(), crops) == activation_statistics(net.eval(), crops)


def test_measuring_changes_no_weight_and_leaves_no_gradient():
    net = draw_net(SMALL)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}

    activation_statistics(net, draw_crops(SMALL))

    assert all(torch.equal(net.state_dict()[name], tensor) for name, tensor in before.items())
    assert all(parameter.grad is None for parameter in net.parameters())


# --- split networks


@pytest.mark.parametrize("name", ["paper", "original-2012", "five-cnns-135", "pretrain-2011"])
def test_split_network_has_the_statistics_on_cpu_the_whole(name):
    recipe, crops = RECIPES[name], draw_crops(RECIPES[name])
    whole = draw_net(recipe)
    split = build_network(recipe, CLASSES, (CPU, CPU))
    load_whole_state(split, whole_state(whole))

    assert statistics_on_cpu(split, crops) == activation_statistics(whole, crops)


def test_statistics_of_a_copy_are_the_same():
    net, crops = draw_net(SMALL).train(), draw_crops(SMALL)

    found = statistics_on_cpu(net, crops)

    assert net.training
    assert found == activation_statistics(net, crops)


# --- a loss at chance level


@pytest.mark.parametrize("num_classes", [2, 10, 1000, 21_843])
def test_uniform_probabilities_are_at_chance_level_and_a_little_better_is_not(num_classes):
    uniform = np.full(num_classes, 1 / num_classes)
    chance = float(-np.sum(uniform * np.log(uniform)))

    assert is_at_chance_level(chance, num_classes)
    assert is_at_chance_level(0.991 * chance, num_classes)
    assert is_at_chance_level(50.0, num_classes)
    assert not is_at_chance_level(0.989 * chance, num_classes)
    assert not is_at_chance_level(0.0, num_classes)


@pytest.mark.parametrize("num_classes", [2, 10, 1000])
@pytest.mark.parametrize("smoothing", [0.05, 0.2])
def test_smoothed_loss_of_equal_scores_is_at_chance_level_too(num_classes, smoothing):
    labels = torch.arange(num_classes)
    equal, learned = torch.zeros(num_classes, num_classes), 3 * torch.eye(num_classes)

    losses = [
        torch.nn.functional.cross_entropy(scores, labels, label_smoothing=smoothing).item()
        for scores in (equal, learned)
    ]

    assert [is_at_chance_level(loss, num_classes) for loss in losses] == [True, False]


@pytest.mark.parametrize("loss", [0.0, 0.5])
def test_network_of_one_class_has_no_chance_level(loss):
    assert not is_at_chance_level(loss, 1)


def epochs_reported(
    losses: list[float], *, epochs: int, updates: int, classes: int = 10, warmup: int = 0
) -> list[int]:
    """Return the epochs after which a run is reported, `updates` being those of one epoch."""
    reported = []
    for epoch, loss in enumerate(losses, 1):
        previous = losses[epoch - 2] if epoch > 1 else None
        share = epoch / epochs
        how = {"share_done": share, "num_updates": epoch * updates}
        if epoch > warmup and is_not_learning(loss, previous, classes, **how):
            reported.append(epoch)
    return reported


# Mean training losses of the epochs of real runs of recipe `demo` on its 1,000 images.
LEARNING = {
    "seed 1": [2.4396, 2.3822, 2.1518, 1.4542, 0.9108, 0.5032, 0.3367, 0.2339],
    "seed 2": [2.4940, 2.3995, 1.8505, 1.1169, 0.6212, 0.5023, 0.1834, 0.1201],
}
NOT_LEARNING = {
    "learning rate 1e-9": [2.4883, 2.5156, 2.4774, 2.4705, 2.5118, 2.5102, 2.4902, 2.4820],
    "learning rate 0.15": [2.8296, 2.3743, 2.3228, 2.3159, 2.3122, 2.3082, 2.3057, 2.304],
    "all init_std 0": [2.3543, 2.4239, 2.4063, 2.3684, 2.3394, 2.3218, 2.3205, 2.3101],
}


@pytest.mark.parametrize("name", LEARNING)
@pytest.mark.parametrize("warmup", [0, 1])
def test_runs_of_the_demo_are_not_reported(name, warmup):
    assert epochs_reported(LEARNING[name], epochs=8, updates=32, warmup=warmup) == []


@pytest.mark.parametrize("name", NOT_LEARNING)
def test_runs_that_do_not_learn_are_reported_before_half_of_their_epochs_and_at_the_end(name):
    reported = epochs_reported(NOT_LEARNING[name], epochs=8, updates=32, warmup=1)

    assert 2 < reported[0] <= 4
    assert reported[-1] == 8


def test_flat_run_on_a_large_dataset_is_reported_after_its_second_epoch():
    """ILSVRC: 10,010 updates an epoch, and 90 epochs, of which a quarter would be days."""
    flat = [6.9081, 6.9079, 6.9078]
    assert epochs_reported(flat, epochs=90, updates=10_010, classes=1000) == [2, 3]


def test_flat_run_on_a_small_dataset_is_given_a_quarter_of_its_epochs():
    assert epochs_reported([2.303] * 8, epochs=8, updates=32) == [3, 4, 5, 6, 7, 8]


def test_run_of_one_epoch_at_chance_level_is_reported_at_its_end():
    assert epochs_reported([2.303], epochs=1, updates=32) == [1]
    assert epochs_reported([2.2], epochs=1, updates=32) == []


def test_run_that_falls_back_to_chance_level_is_reported_when_it_stays_there():
    collapsed = [2.3, 1.9, 1.5, 2.303, 2.303, 2.302, 2.303, 2.303]
    assert epochs_reported(collapsed, epochs=16, updates=32) == [5, 6, 7, 8]


def test_run_that_settles_at_chance_level_from_above_is_reported_once_it_is_flat():
    settling = [9.0, 4.0, 3.0, 2.5, 2.35, 2.31, 2.304, 2.303]
    assert epochs_reported(settling, epochs=16, updates=32) == [7, 8]


def test_epoch_before_that_is_not_known_is_no_reason_to_report():
    how = {"share_done": 0.5, "num_updates": 5000}
    assert not is_not_learning(2.303, None, 10, **how)
    assert is_not_learning(2.303, 2.303, 10, **how)


def test_weakest_layer_has_the_lowest_std_relative_to_its_rms():
    layers = [
        ActivationStatistics("conv1", rms=2.0, std=1.0, dead_fraction=0.0),
        ActivationStatistics("fc6", rms=1000.0, std=3.0, dead_fraction=0.9),
        ActivationStatistics("fc8", rms=0.01, std=0.002, dead_fraction=0.0),
    ]

    assert weakest(layers).name == "fc6"
    assert weakest(layers[::-1]).name == "fc6"
    assert weakest(layers[2:]).name == "fc8"


def test_first_layer_that_gives_nothing_at_all_is_the_weakest():
    layers = [
        ActivationStatistics("conv1", rms=1.0, std=1e-9, dead_fraction=0.0),
        ActivationStatistics("relu1", rms=0.0, std=0.0, dead_fraction=1.0),
        ActivationStatistics("fc8", rms=1.0, std=0.0, dead_fraction=0.0),
    ]

    assert weakest(layers).name == "relu1"


def test_layer_whose_weights_are_all_zero_is_where_the_images_look_alike():
    net = draw_net(SMALL)
    with torch.no_grad():
        net.conv4.weight.zero_()

    found = activation_statistics(net, draw_crops(SMALL))

    assert weakest(found).name == "conv4"
    stds = {layer.name: layer.std for layer in found}
    assert stds["conv3"] > 0
    assert stds["fc8"] < 1e-6
