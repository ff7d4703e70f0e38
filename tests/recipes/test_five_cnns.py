"""The runs before 145: parameter counts, layer orders, and learning rates of the 2012 script."""

import pytest
import torch

from alexnet_cli.model.architecture import layers_of
from alexnet_cli.model.network import AlexNet
from alexnet_cli.model.schedule import learning_rates_at
from alexnet_cli.recipes.catalog import find_recipe

RUNS = [f"five-cnns-{run}" for run in (120, 131, 135, 137)]
STEM, REST = ("conv1", "conv2"), ("conv3", "conv4", "conv5", "fc6", "fc7", "fc8")

# By hand: run 145's with a third fewer kernels in conv1, and conv2's windows of the small image.
PARAMETERS = {
    "conv1": 23_296,  # 64 * (3 * 11 * 11) + 64
    "conv2": 224_256,  # 256 * (32 * 5 * 5) + 256, and 256 * (3 * 5 * 5)
    "conv3": 885_120,
    "conv4": 663_936,
    "conv5": 442_624,
    "fc6": 37_752_832,
    "fc7": 16_781_312,
    "fc8": 4_097_000,
}


@pytest.mark.parametrize("name", RUNS)
def test_earlier_run_has_the_parameters_of_2012(name):
    found = {layer.name: layer.num_parameters for layer in layers_of(find_recipe(name), 1000)}

    assert {layer: count for layer, count in found.items() if count} == PARAMETERS
    assert sum(found.values()) == 60_870_376


@pytest.mark.parametrize(
    ("run", "first", "second"),
    [
        (137, ["norm1", "pool1", "relu1"], ["relu2", "norm2", "spatial2", "pool2"]),
        (135, ["norm1", "pool1", "relu1"], ["relu2", "norm2", "contrast2", "pool2"]),
        (131, ["norm1", "pool1", "relu1"], ["relu2", "norm2", "contrast2", "pool2"]),
        (120, ["pool1", "relu1", "norm1"], ["relu2", "norm2", "contrast2", "pool2"]),
    ],
)
def test_layers_stand_in_the_order_of_their_run(run, first, second):
    names = [layer.name for layer in layers_of(find_recipe(f"five-cnns-{run}"), 10)]

    rest = ["conv3", "relu3", "conv4", "relu4", "conv5", "pool5", "relu5", "flatten"]
    hidden = ["fc6", "relu6", "drop6", "fc7", "relu7", "drop7", "fc8"]
    assert names == ["conv1", *first, "conv2", *second, *rest, *hidden]


@pytest.mark.parametrize(("run", "k"), [(137, 2.0), (135, 2.0), (131, 1.0), (120, 1.0)])
def test_normalization_has_the_constants_of_its_run(run, k):
    recipe = find_recipe(f"five-cnns-{run}")

    assert (recipe.lrn_k, recipe.lrn_size, recipe.lrn_beta) == (k, 5, 0.75)
    assert recipe.lrn_alpha_per_square() == pytest.approx(1e-4 / 5, rel=1e-14)
    assert (recipe.spatial_k, recipe.spatial_size, recipe.spatial_beta) == (1.0, 5, 0.75)
    assert recipe.spatial_alpha_per_square() == pytest.approx(1e-3 / 25, rel=1e-14)


def test_second_layer_reads_the_small_image_with_weights_of_its_own():
    with torch.device("meta"):
        conv2 = AlexNet(find_recipe("five-cnns-137"), 10).conv2

    assert conv2.low_weight.shape == (256, 3, 5, 5)
    assert conv2.weight.shape == (256, 32, 5, 5)


# After a number of epochs: conv1 and conv2, the other layers, and the biases of these.
RATES = [
    (0.0, 1e-2, 1e-2, 0.02),
    (21.9, 1e-2, 1e-2, 0.02),
    (22.0, 1e-3, 1e-3, 0.002),
    (48.9, 1e-3, 1e-3, 0.002),
    (49.0, 1e-4, 1e-4, 0.002),
    (65.9, 1e-4, 1e-4, 0.002),
    (66.0, 1e-5, 1e-4, 0.002),
    (72.9, 1e-5, 1e-4, 0.002),
    (73.0, None, 1e-4, 0.002),
    (80.9, None, 1e-4, 0.002),
    (81.0, None, 1e-5, 0.002),
    (94.9, None, 1e-5, 0.002),
]


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize(("done", "stem", "others", "biases"), RATES)
def test_learning_rates_are_those_of_the_script(name, done, stem, others, biases):
    rates = learning_rates_at(find_recipe(name), done, [])

    for layer in STEM:
        expected = None if stem is None else biases
        assert rates.of(layer, is_weight=True) == stem
        assert rates.of(layer, is_weight=False) == expected
    for layer in REST:
        assert rates.of(layer, is_weight=True) == others
        assert rates.of(layer, is_weight=False) == biases


@pytest.mark.parametrize("name", RUNS)
def test_color_noise_ends_as_the_first_layers_slow_down(name):
    recipe = find_recipe(name)
    assert (recipe.color_noise, recipe.color_noise_epochs, recipe.epochs) == (0.1, 66, 95)
