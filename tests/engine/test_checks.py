"""Gradients against differences, right and wrong ones, and one batch learned by heart; 10 seconds.

N images, C channels, H rows, W columns.
"""

import math
from dataclasses import replace

import pytest
import torch

from alexnet_cli.engine.checks import (
    LEARNED_LOSS,
    MAX_GRADIENT_ERROR,
    RATE_FACTORS,
    GradientCheck,
    Overfit,
    check_gradient,
    overfit,
    shrink,
)
from alexnet_cli.errors import RecipeError
from alexnet_cli.model import layers
from alexnet_cli.model.alexnet import AlexNet, describe_layers, initialize
from alexnet_cli.recipe import PAPER, Recipe
from alexnet_cli.recipes import RECIPES, find_recipe
from alexnet_cli.recipes.cifar import CIFAR_13PCT, CIFAR_RELU, CIFAR_TANH
from alexnet_cli.settings import widen

CLASSES = 6


def draw_batch(size: int, count: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Return noise of the scale of pictures, each of another class."""
    generator = torch.Generator().manual_seed(0)
    patches = 60 * torch.randn(count, 3, size, size, generator=generator)
    return patches, torch.arange(count) % CLASSES


def gradients(recipe: Recipe) -> dict[str, GradientCheck]:
    found = list(check_gradient(recipe, CLASSES, *draw_batch(99)))
    names = [check.parameter for check in found]
    assert len(set(names)) == len(names)
    return dict(zip(names, found, strict=True))


def wrong(found: dict[str, GradientCheck]) -> set[str]:
    return {name for name, check in found.items() if check.error > MAX_GRADIENT_ERROR}


# --- the shrunken copy


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_shrinks_to_a_small_network_with_the_same_layers(name):
    recipe = find_recipe(name)

    small = shrink(recipe)

    assert small.crop_size <= min(99, recipe.crop_size)
    found, whole = describe_layers(small, 7), describe_layers(recipe, 7)
    assert [layer.name for layer in found] == [layer.name for layer in whole]
    assert sum(layer.parameters for layer in found) < 500_000
    for layer, original in zip(found, whole, strict=True):
        if layer.name not in ("flatten", "fc8"):  # channels or units; never fewer than 8
            assert layer.output[0] == max(8, 8 * math.floor(original.output[0] / 128 + 0.5))


@pytest.mark.parametrize("name", ["paper", "five-cnns-120", "pretrain-2011", "cifar-11pct"])
def test_shrunken_network_keeps_all_that_is_no_size(name):
    recipe = find_recipe(name)

    small = shrink(recipe)

    for field in ("columns", "reads_both", "activation", "low_resolution", "split_classes"):
        assert getattr(small, field) == getattr(recipe, field)
    for layer, conv in recipe.convs().items():
        copy = small.convs()[layer]
        assert (copy.then, copy.local, copy.size) == (conv.then, conv.local, conv.size)


def test_patches_of_cifar_stay_as_they_are():
    assert shrink(CIFAR_13PCT).crop_size == 24
    assert shrink(CIFAR_RELU).crop_size == 32


def reaching(size: int) -> Recipe:
    """Return the paper's recipe with larger windows in conv2."""
    return replace(PAPER, conv2=replace(PAPER.conv2, size=size))


def test_patches_take_the_next_size_where_the_smallest_leaves_nothing():
    recipe = reaching(12)

    with pytest.raises(RecipeError, match="nothing is left"):
        describe_layers(replace(recipe, crop_size=72), CLASSES)
    assert shrink(recipe).crop_size == 99


def test_patches_stay_where_no_smaller_ones_fit():
    recipe = shrink(reaching(20))

    assert recipe.crop_size == 224
    assert recipe.conv2.filters == 16
    assert describe_layers(recipe, CLASSES)[-1].output == (CLASSES,)


# --- right gradients


@pytest.mark.parametrize(
    "name",
    [
        "paper",
        "original-2012",
        "cifar-13pct",
        "cifar-11pct",
        "five-cnns-137",
        "five-cnns-120",
        "pretrain-2011",
    ],
)
def test_gradients_of_a_recipe_are_the_slopes(name):
    recipe = replace(find_recipe(name), imports=())

    found = gradients(recipe)

    net = AlexNet(shrink(recipe), CLASSES)
    assert list(found) == [name for name, _ in net.named_parameters()]
    assert wrong(found) == set()
    assert all(math.isfinite(check.gradient) for check in found.values())
    assert all(check.gradient != 0 for check in found.values())


def test_gradients_are_those_of_the_corner_of_larger_patches():
    patches, labels = draw_batch(99)

    whole = list(check_gradient(PAPER, CLASSES, patches, labels))

    assert whole == list(check_gradient(PAPER, CLASSES, patches[:, :, :72, :72], labels))


def test_another_seed_looks_along_another_direction():
    one, other = gradients(CIFAR_13PCT), gradients(replace(CIFAR_13PCT, seed=1))

    assert all(one[name].gradient != other[name].gradient for name in one)
    assert wrong(other) == set()


def test_error_is_relative_to_the_larger_of_the_two():
    assert GradientCheck("a", gradient=2.0, slope=1.0).error == 0.5
    assert GradientCheck("a", gradient=1.0, slope=-2.0).error == 1.5
    assert GradientCheck("a", gradient=-1e-3, slope=-1e-3).error == 0.0
    assert GradientCheck("a", gradient=0.0, slope=0.0).error == 0.0


# --- wrong gradients

BEFORE_NORM2 = {"conv1.weight", "conv1.bias", "conv2.weight", "conv2.bias"}
BEFORE_NORM1 = {"conv1.weight", "conv1.bias"}


@pytest.fixture
def backward(monkeypatch):
    """Put another gradient in place of the response normalisation's."""
    right = layers._ResponseNorm.backward

    def put(change):
        def changed(ctx, grad):
            return change(right(ctx, grad)[0], ctx, grad), *[None] * 5

        monkeypatch.setattr(layers._ResponseNorm, "backward", staticmethod(changed))

    return put


def test_gradient_that_is_half_of_the_right_one_is_found_in_the_layers_below(backward):
    backward(lambda right, ctx, grad: right / 2)

    found = gradients(PAPER)

    assert wrong(found) == BEFORE_NORM2
    for name in BEFORE_NORM2 - BEFORE_NORM1:
        assert found[name].error == pytest.approx(0.5, abs=0.01)
    for name in BEFORE_NORM1:  # through both normalisations
        assert found[name].error == pytest.approx(0.75, abs=0.01)


def test_gradient_without_the_neighbours_share_is_found(backward):
    backward(lambda right, ctx, grad: grad * ctx.saved_tensors[1] ** -ctx.norm.beta)

    # Small where few channels are wide awake, as before the second normalisation.
    assert BEFORE_NORM1 <= wrong(gradients(PAPER)) <= BEFORE_NORM2


def test_gradient_that_is_wrong_in_one_channel_is_found(backward):
    def drop_first(right, ctx, grad):
        right = right.clone()
        right[:, 0] = 0
        return right

    backward(drop_first)

    assert wrong(gradients(PAPER)) == BEFORE_NORM2


def test_gradient_that_is_wrong_in_conv1s_normalisation_only_is_found(backward):
    recipe = replace(PAPER, conv2=replace(PAPER.conv2, then=("activation", "max-pool")))
    backward(lambda right, ctx, grad: 1.01 * right)

    assert wrong(gradients(recipe)) == BEFORE_NORM1


def test_gradient_that_never_comes_back_from_the_low_resolution_path_is_found(monkeypatch):
    real = layers.TwoScaleConv2d.forward

    def forget(self, x, picture):
        kept = self.low_weight.detach()
        return real(self, x, picture) + 0 * kept.sum() + (self.low_weight - kept).sum()

    monkeypatch.setattr(layers.TwoScaleConv2d, "forward", forget)

    assert "conv2.low_weight" in wrong(gradients(find_recipe("five-cnns-137")))


# --- one batch by heart


class Bar:
    """A bar that keeps what it is told."""

    def __init__(self):
        self.notes = []

    def advance(self, count: int = 1, note: str = "") -> None:
        assert count == 1
        self.notes.append(note)


TINY = replace(
    CIFAR_13PCT,
    conv1=replace(CIFAR_13PCT.conv1, filters=16),
    conv2=replace(CIFAR_13PCT.conv2, filters=16),
    learning_rate=0.01,
)


SMALL = replace(widen(PAPER, 1 / 16), crop_size=72, learning_rate=0.03)


def learn(recipe: Recipe, steps: int) -> tuple[Overfit, list[str]]:
    bar = Bar()
    found = overfit(recipe, CLASSES, *draw_batch(recipe.crop_size, CLASSES), steps, bar)
    return found, bar.notes


@pytest.mark.parametrize("recipe", [TINY, SMALL], ids=["cifar", "paper"])
def test_small_network_learns_a_batch_by_heart_and_stops_there(recipe):
    found, notes = learn(recipe, 200)

    assert found.learned
    assert found.images == CLASSES
    assert found.losses[0] == pytest.approx(math.log(CLASSES), abs=0.1)
    assert found.losses[-1] <= LEARNED_LOSS < min(found.losses[:-1])
    assert len(found.losses) == len(notes) < 60


def test_losses_are_those_of_the_papers_update_by_hand():
    """v = 0.9 v - rate * (gradient + decay * w), w = w + v; at the rate of the best attempt."""
    conv2 = replace(SMALL.conv2, decay=5.0)
    changes = {"weight_decay": 0.02, "bias_rate": 2.0, "bias_decay": 0.03, "conv2": conv2}
    recipe = replace(SMALL, learning_rate=0.3, **changes)
    found, _ = learn(recipe, 8)

    net = AlexNet(recipe, CLASSES)
    initialize(net, recipe.seed)
    named = dict(net.eval().named_parameters())
    velocity = {name: torch.zeros_like(parameter) for name, parameter in named.items()}
    patches, labels = draw_batch(recipe.crop_size, CLASSES)
    losses = []
    for _ in range(8):
        loss = -net(patches).log_softmax(dim=1)[torch.arange(CLASSES), labels].mean()
        losses.append(loss.item())
        slopes = torch.autograd.grad(loss, list(named.values()))
        for (name, parameter), slope in zip(named.items(), slopes, strict=True):
            is_bias = name.endswith("bias")
            decay = 0.03 if is_bias else {"conv2.weight": 0.1}.get(name, 0.02)
            pull = slope + decay * parameter.detach()
            velocity[name] = 0.9 * velocity[name] - found.rate * (2 if is_bias else 1) * pull
            parameter.data += velocity[name]
    assert found.rate in {factor * 0.3 for factor in RATE_FACTORS}
    assert losses[-1] < 0.95 * losses[0]
    assert found.losses == pytest.approx(losses, rel=1e-3)


def test_batch_is_learned_without_dropout():
    """Masks would be drawn from torch's own generator."""
    losses = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        losses.append(learn(SMALL, 3)[0].losses)

    assert losses[0] == losses[1]


def test_lower_rate_is_tried_where_the_recipes_is_too_high():
    found, notes = learn(replace(TINY, learning_rate=0.1), 30)

    assert found.learned
    assert found.rate == pytest.approx(0.01)
    tried = list(dict.fromkeys(note.split()[1] for note in notes))
    assert tried == ["0.03", "0.1", "0.01"]


def test_rate_that_suits_is_the_only_one_tried():
    found, notes = learn(TINY, 200)

    assert found.rate == pytest.approx(0.003)
    assert {note.split()[1] for note in notes} == {"0.003"}


@pytest.mark.parametrize(
    "changes",
    [
        {"learning_rate": 1e-9},
        {"learning_rate": 0.0},
        {"fc8_init_std": 0.0, "conv1": replace(TINY.conv1, init_std=0.0)},
    ],
    ids=["rate next to nothing", "no rate", "first and last layer all zero"],
)
def test_network_that_cannot_learn_ends_where_it_began(changes):
    found, notes = learn(replace(TINY, **changes), 12)

    assert not found.learned
    assert len(found.losses) == 12
    assert len(notes) == 3 * 12
    assert found.losses[-1] == pytest.approx(found.losses[0], rel=1e-3)
    assert found.losses[-1] == pytest.approx(math.log(CLASSES), rel=0.01)


def test_network_whose_weights_are_all_zero_learns_no_more_than_a_guess():
    convs = {name: replace(conv, init_std=0.0) for name, conv in TINY.convs().items()}

    found, _ = learn(replace(TINY, **convs, fc8_init_std=0.0), 10)

    assert not found.learned
    # Pictures of six classes, one of each: equal scores are all there is to learn.
    assert found.losses == pytest.approx([math.log(CLASSES)] * 10)


def test_attempt_that_became_no_number_ends_there():
    exploding = replace(TINY, learning_rate=1000.0, weight_decay=1000.0)  # w times -1e5 and more

    found, _ = learn(exploding, 40)

    assert not found.learned
    assert len(found.losses) < 20
    assert not math.isfinite(found.losses[-1])
    assert all(math.isfinite(loss) for loss in found.losses[:-1])


def test_attempt_whose_loss_has_only_grown_ends_after_its_patience():
    found, notes = learn(replace(CIFAR_TANH, learning_rate=30.0), 200)

    assert not found.learned
    assert len(found.losses) == 61
    assert len(notes) == 3 * 61
    assert found.losses[-1] > 1.5 * found.losses[0]


def test_batch_counts_as_learned_by_its_last_loss():
    assert Overfit(1, 0.1, [2.0, 0.05]).learned
    assert not Overfit(1, 0.1, [0.01, 0.06]).learned
    assert not Overfit(1, 0.1, [2.0, math.nan]).learned
    assert not Overfit(1, 0.1, []).learned


def test_gradients_of_sigmoid_are_the_slopes():
    from alexnet_cli.commands.check import _draw_patches
    from alexnet_cli.recipes import find_recipe

    patches, labels, classes = _draw_patches(find_recipe("sigmoid"))
    found = list(check_gradient(find_recipe("sigmoid"), classes, patches[:4], labels[:4]))
    assert [(c.parameter, c.gradient, c.slope) for c in found if c.error > 1e-4] == []
