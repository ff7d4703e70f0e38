"""Layers imported from another network: which, bit for bit, and what is refused; a second."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from alexnet_cli.errors import CheckpointError
from alexnet_cli.model.init_from import copy_layers
from alexnet_cli.model.network import AlexNet, initialize
from alexnet_cli.recipes.catalog import find_recipe
from alexnet_cli.recipes.cifar import CIFAR_13PCT
from alexnet_cli.recipes.overrides import widen
from alexnet_cli.recipes.recipe import PAPER, Recipe

SMALL = replace(widen(PAPER, 1 / 16), crop_size=72)
LAYERS = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")
CLASSES = 10

State = dict[str, np.ndarray]


def small(name: str) -> Recipe:
    return replace(widen(find_recipe(name), 1 / 16), crop_size=72)


def draw(recipe: Recipe, seed: int = 0, num_classes: int = CLASSES) -> AlexNet:
    net = AlexNet(recipe, num_classes)
    initialize(net, seed)
    return net


def state(net: AlexNet) -> State:
    return {name: tensor.detach().numpy().copy() for name, tensor in net.state_dict().items()}


def learned(recipe: Recipe, num_classes: int = CLASSES) -> State:
    """Return weights unlike drawn ones, different in every parameter."""
    rng = np.random.default_rng(5)
    shapes = {name: value.shape for name, value in state(draw(recipe, 0, num_classes)).items()}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def layer(name: str) -> str:
    return name.partition(".")[0]


def imported(recipe: Recipe, source: State, *, same_classes: bool = True) -> list[str]:
    """Import into a drawn network; every layer must be the source's or as drawn, bit for bit."""
    net = draw(recipe)
    before = state(net)

    chosen = copy_layers(net, source, same_classes=same_classes)

    after = state(net)
    assert list(after) == list(before)
    for name, tensor in after.items():
        expected = source[name] if layer(name) in chosen else before[name]
        assert tensor.dtype == np.float32
        assert tensor.tobytes() == np.ascontiguousarray(expected).tobytes(), name
    return chosen


# --- which layers


def test_only_layers_that_the_recipe_names_are_copied():
    recipe = replace(SMALL, init_layers=("conv1", "conv3", "fc7"))

    assert imported(recipe, learned(SMALL)) == ["conv1", "conv3", "fc7"]


def test_copied_layers_are_listed_first_to_last_in_any_order_of_the_recipe():
    recipe = replace(SMALL, init_layers=("fc6", "conv2"))

    assert imported(recipe, learned(SMALL)) == ["conv2", "fc6"]


def test_recipe_that_names_none_copies_every_layer_of_the_same_network():
    assert imported(SMALL, learned(SMALL)) == list(LAYERS)


def test_classifier_of_other_classes_stays_as_drawn_though_its_shape_is_the_same():
    assert imported(SMALL, learned(SMALL), same_classes=False) == list(LAYERS[:-1])


def test_classifier_of_another_number_of_classes_stays_as_drawn():
    assert imported(SMALL, learned(SMALL, CLASSES + 1)) == list(LAYERS[:-1])


def test_classifier_that_the_recipe_names_is_copied_with_any_classes_of_its_shape():
    recipe = replace(SMALL, init_layers=("fc8",))

    assert imported(recipe, learned(SMALL), same_classes=False) == ["fc8"]


def test_recipe_that_names_none_leaves_out_layers_of_another_shape():
    wider = replace(SMALL, conv3=replace(SMALL.conv3, filters=32), fc7=replace(SMALL.fc7, units=64))

    # conv4 reads conv3's maps, fc8 the outputs of fc7.
    assert imported(wider, learned(SMALL)) == ["conv1", "conv2", "conv5", "fc6"]


def test_recipe_that_names_none_leaves_out_layers_that_are_not_there():
    source = learned(SMALL)
    without = {name: tensor for name, tensor in source.items() if layer(name) != "conv4"}
    del without["fc6.bias"]

    assert imported(SMALL, without) == ["conv1", "conv2", "conv3", "conv5", "fc7", "fc8"]


def test_layers_that_only_the_source_has_are_left_there():
    shorter = replace(SMALL, conv4=replace(SMALL.conv4, filters=0))

    assert "conv4" not in imported(shorter, learned(SMALL))


def test_another_crop_size_changes_only_the_first_connected_layer():
    chosen = imported(replace(SMALL, crop_size=120), learned(SMALL))

    assert set(LAYERS) - set(chosen) == {"fc6"}


def test_weights_for_the_low_resolution_image_come_with_their_layer():
    recipe = replace(small("five-cnns-137"), init_layers=("conv2",))
    source = learned(recipe)

    assert source["conv2.low_weight"].shape == (16, 3, 5, 5)
    assert imported(recipe, source) == ["conv2"]


def test_layers_with_local_weights_are_copied():
    source = learned(CIFAR_13PCT)

    assert source["conv3.bias"].shape == (32, 36)
    assert imported(CIFAR_13PCT, source) == ["conv1", "conv2", "conv3", "conv4", "fc8"]


@pytest.mark.parametrize(
    ("begun", "source", "num_classes", "fresh"),
    [
        ("pretrain-2009", "original-2012", 12, ["conv6", "fc6", "fc7", "fc8"]),
        ("pretrain-2011", "pretrain-2009", 12, ["fc6", "fc7", "bottleneck", "fc8"]),
        ("finetune-2012", "pretrain-2011", 12, ["fc8"]),
        ("finetune-2012-from-2009", "pretrain-2009", 12, ["fc8"]),
    ],
)
def test_networks_of_section_6_start_from_the_ones_before_them(begun, source, num_classes, fresh):
    recipe = small(begun)

    chosen = imported(recipe, learned(small(source), num_classes), same_classes=False)

    assert [name for name in recipe.layer_names() if name not in chosen] == fresh


def test_network_computes_with_copied_weights():
    source, net = draw(SMALL, seed=1), draw(SMALL, seed=2)
    crops = 50 * torch.randn(2, 3, 72, 72, generator=torch.Generator().manual_seed(0))

    copy_layers(net, state(source), same_classes=True)

    assert torch.equal(net.eval()(crops), source.eval()(crops))


def test_source_is_not_changed_by_training_the_copy():
    source = learned(SMALL)
    before = {name: tensor.copy() for name, tensor in source.items()}
    net = draw(SMALL)
    copy_layers(net, source, same_classes=True)

    with torch.no_grad():
        for parameter in net.parameters():
            parameter.fill_(7.0)

    assert all(np.array_equal(source[name], before[name]) for name in before)


# --- what is refused


def refused(recipe: Recipe, source: State) -> str:
    with pytest.raises(CheckpointError) as caught:
        copy_layers(draw(recipe), source, same_classes=True)
    assert caught.value.exit_code == 3
    assert str(caught.value).count("\n") < 3
    return str(caught.value)


def test_named_layer_of_another_shape_is_refused_with_both_shapes():
    source = learned(replace(SMALL, conv3=replace(SMALL.conv3, filters=32)))
    recipe = replace(SMALL, name="mine", init_layers=("conv1", "conv3"))

    message = refused(recipe, source)

    assert "recipe mine initializes conv3" in message
    assert "conv3.weight is (32, 16, 3, 3) there and (24, 16, 3, 3) here" in message


def test_layer_with_as_many_numbers_in_another_shape_is_another_layer():
    source = learned(SMALL)
    source["conv3.weight"] = source["conv3.weight"].transpose(1, 0, 2, 3)

    assert "conv3" not in imported(SMALL, source)
    message = refused(replace(SMALL, init_layers=("conv3",)), source)
    assert "conv3.weight is (16, 24, 3, 3) there and (24, 16, 3, 3) here" in message


def test_named_layer_with_another_number_of_biases_is_refused():
    source = learned(SMALL)
    source["fc6.bias"] = source["fc6.bias"][:-1]

    message = refused(replace(SMALL, init_layers=("fc6",)), source)

    assert "fc6.bias is (255,) there and (256,) here" in message


def test_named_layer_that_is_not_there_is_refused_by_its_name():
    recipe = small("pretrain-2011")

    message = refused(recipe, learned(SMALL))

    assert "recipe pretrain-2011 initializes conv6" in message
    assert "no conv6.weight" in message


def test_named_layer_without_weights_for_the_low_resolution_image_is_refused():
    recipe = replace(small("five-cnns-137"), init_layers=("conv2",))
    source = learned(recipe)
    del source["conv2.low_weight"]

    assert "no conv2.low_weight" in refused(recipe, source)


def test_network_that_shares_no_layer_is_refused_by_the_recipes_name():
    message = refused(replace(SMALL, name="mine"), learned(CIFAR_13PCT))

    assert message == "no layer of recipe mine has the same shape there."


def test_source_without_common_layers_is_refused():
    assert "no layer" in refused(SMALL, {})
