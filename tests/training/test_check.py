"""Overfitting one batch."""

import math
from dataclasses import replace

import pytest
import torch
from helpers import Listener

from alexnet_cli.model.network import AlexNet, initialize
from alexnet_cli.recipes.cifar import CIFAR_13PCT, CIFAR_TANH
from alexnet_cli.recipes.overrides import widen
from alexnet_cli.recipes.recipe import PAPER, Recipe
from alexnet_cli.training.check import LEARNED_LOSS, LR_FACTORS, OverfitResult, overfit

CLASSES = 6


def draw_batch(size: int, count: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Return noise with the range of images, each of another class."""
    generator = torch.Generator().manual_seed(0)
    crops = 60 * torch.randn(count, 3, size, size, generator=generator)
    return crops, torch.arange(count) % CLASSES


TINY = replace(
    CIFAR_13PCT,
    conv1=replace(CIFAR_13PCT.conv1, filters=16),
    conv2=replace(CIFAR_13PCT.conv2, filters=16),
    learning_rate=0.01,
)


SMALL = replace(widen(PAPER, 1 / 16), crop_size=72, learning_rate=0.03)


def learn(recipe: Recipe, steps: int) -> tuple[OverfitResult, list[str]]:
    bar = Listener()
    found = overfit(recipe, CLASSES, *draw_batch(recipe.crop_size, CLASSES), steps, bar)
    return found, bar.notes


@pytest.mark.parametrize("recipe", [TINY, SMALL], ids=["cifar", "paper"])
def test_small_network_overfits_a_batch_and_stops_there(recipe):
    found, notes = learn(recipe, 200)

    assert found.learned
    assert found.images == CLASSES
    assert found.losses[0] == pytest.approx(math.log(CLASSES), abs=0.1)
    assert found.losses[-1] <= LEARNED_LOSS < min(found.losses[:-1])
    assert len(found.losses) == len(notes) < 60


def test_losses_are_those_of_the_papers_update_by_hand():
    """v = 0.9 v - lr * (gradient + decay * w), w = w + v; with the lr of the best attempt."""
    conv2 = replace(SMALL.conv2, decay=5.0)
    changes = {"weight_decay": 0.02, "bias_lr_multiplier": 2.0, "bias_decay": 0.03, "conv2": conv2}
    recipe = replace(SMALL, learning_rate=0.3, **changes)
    found, _ = learn(recipe, 8)

    net = AlexNet(recipe, CLASSES)
    initialize(net, recipe.seed)
    named = dict(net.eval().named_parameters())
    velocity = {name: torch.zeros_like(parameter) for name, parameter in named.items()}
    crops, labels = draw_batch(recipe.crop_size, CLASSES)
    losses = []
    for _ in range(8):
        loss = -net(crops).log_softmax(dim=1)[torch.arange(CLASSES), labels].mean()
        losses.append(loss.item())
        slopes = torch.autograd.grad(loss, list(named.values()))
        for (name, parameter), slope in zip(named.items(), slopes, strict=True):
            is_bias = name.endswith("bias")
            decay = 0.03 if is_bias else {"conv2.weight": 0.1}.get(name, 0.02)
            pull = slope + decay * parameter.detach()
            velocity[name] = (
                0.9 * velocity[name] - found.learning_rate * (2 if is_bias else 1) * pull
            )
            parameter.data += velocity[name]
    assert found.learning_rate in {factor * 0.3 for factor in LR_FACTORS}
    assert losses[-1] < 0.95 * losses[0]
    assert found.losses == pytest.approx(losses, rel=1e-3)


def test_batch_is_overfitted_without_dropout():
    """Masks would be drawn from torch's own generator."""
    losses = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        losses.append(learn(SMALL, 3)[0].losses)

    assert losses[0] == losses[1]


def test_lower_learning_rate_is_tried_if_the_recipes_is_too_high():
    found, notes = learn(replace(TINY, learning_rate=0.1), 30)

    assert found.learned
    assert found.learning_rate == pytest.approx(0.01)
    tried = list(dict.fromkeys(note.split()[1] for note in notes))
    assert tried == ["0.03", "0.1", "0.01"]


def test_learning_rate_that_works_is_the_only_one_tried():
    found, notes = learn(TINY, 200)

    assert found.learning_rate == pytest.approx(0.003)
    assert {note.split()[1] for note in notes} == {"0.003"}


@pytest.mark.parametrize(
    "changes",
    [
        {"learning_rate": 1e-9},
        {"learning_rate": 0.0},
        {"fc8_init_std": 0.0, "conv1": replace(TINY.conv1, init_std=0.0)},
    ],
    ids=["rate nearly zero", "rate of zero", "first and last layer all zero"],
)
def test_network_that_cannot_learn_keeps_its_loss(changes):
    found, notes = learn(replace(TINY, **changes), 12)

    assert not found.learned
    assert len(found.losses) == 12
    assert len(notes) == 3 * 12
    assert found.losses[-1] == pytest.approx(found.losses[0], rel=1e-3)
    assert found.losses[-1] == pytest.approx(math.log(CLASSES), rel=0.01)


def test_network_of_zero_weights_stays_at_chance_level():
    convs = {name: replace(conv, init_std=0.0) for name, conv in TINY.convs().items()}

    found, _ = learn(replace(TINY, **convs, fc8_init_std=0.0), 10)

    assert not found.learned
    # Images of six classes, one of each: equal scores are all there is to learn.
    assert found.losses == pytest.approx([math.log(CLASSES)] * 10)


def test_attempt_ends_when_its_loss_is_not_finite():
    exploding = replace(TINY, learning_rate=1000.0, weight_decay=1000.0)  # w times -1e5 and more

    found, _ = learn(exploding, 40)

    assert not found.learned
    assert len(found.losses) < 20
    assert not math.isfinite(found.losses[-1])
    assert all(math.isfinite(loss) for loss in found.losses[:-1])


def test_attempt_whose_loss_only_grows_ends_after_its_patience():
    found, notes = learn(replace(CIFAR_TANH, learning_rate=30.0), 200)

    assert not found.learned
    assert len(found.losses) == 61
    assert len(notes) == 3 * 61
    assert found.losses[-1] > 1.5 * found.losses[0]


def test_last_loss_decides_whether_a_batch_was_learned():
    assert OverfitResult(1, 0.1, [2.0, 0.05]).learned
    assert not OverfitResult(1, 0.1, [0.01, 0.06]).learned
    assert not OverfitResult(1, 0.1, [2.0, math.nan]).learned
    assert not OverfitResult(1, 0.1, []).learned
