"""Ten updates of original-2012 against plain numpy: learning rates, momentum, decay, freezing.

Only the gradients come from torch: from another copy of the network, float64, that holds numpy's
weights.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from alexnet_cli.model.network import AlexNet, initialize
from alexnet_cli.model.optimizer import build_optimizer, set_learning_rates
from alexnet_cli.model.schedule import learning_rates_at
from alexnet_cli.recipes.catalog import find_recipe
from alexnet_cli.recipes.overrides import widen
from alexnet_cli.recipes.recipe import Milestone

CLASSES, NUM_STEPS = 5, 10
# An update every tenth of an epoch: within ten of them the rates fall and rise, of all and of some,
# and two layers go to rest.
MILESTONES = (
    Milestone(epoch=0.2, lr=1e-3, layers=("conv1",)),
    Milestone(epoch=0.3, lr=2e-3, layers=("fc6", "fc8"), bias_lr=5e-3),
    Milestone(epoch=0.5, lr=3e-3),
    Milestone(epoch=0.6, lr=1e-4, layers=("conv1",)),
    Milestone(epoch=0.7, lr=8e-3, bias_lr=1e-3),
    Milestone(epoch=0.8, lr=0.0, layers=("conv1", "fc7")),
    Milestone(epoch=0.9, lr=2e-2, layers=("conv1", "conv3"), bias_lr=3e-2),
)
RECIPE = replace(widen(find_recipe("original-2012"), 1 / 16), crop_size=72, milestones=MILESTONES)

Values = dict[str, np.ndarray]


class ByHand:
    """The learning rates by `Milestone`, kept from update to update; None for a frozen layer."""

    def __init__(self, layers: list[str]):
        self.weights: dict[str, float | None] = dict.fromkeys(layers, 0.01)
        self.biases: dict[str, float | None] = dict.fromkeys(layers, 0.02)
        self.due = list(MILESTONES)

    def advance(self, step: int) -> None:
        """Apply the milestones that come before an update."""
        while self.due and 10 * self.due[0].epoch <= step + 1e-9:
            milestone = self.due.pop(0)
            for layer in milestone.layers or self.weights:
                self._set(layer, milestone)

    def _set(self, layer: str, milestone: Milestone) -> None:
        if self.weights[layer] is None:
            return
        if milestone.lr == 0:
            self.weights[layer] = self.biases[layer] = None
            return
        self.weights[layer] = milestone.lr
        if milestone.bias_lr is not None:
            self.biases[layer] = milestone.bias_lr


def draw_net() -> AlexNet:
    net = AlexNet(RECIPE, CLASSES)
    initialize(net, seed=3)
    return net.double().train()


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Return six images on the 0..255 scale minus a mean, and their classes."""
    rng = np.random.default_rng(0)
    images = rng.normal(0, 60, (6, 3, RECIPE.crop_size, RECIPE.crop_size))
    return torch.from_numpy(images), torch.from_numpy(rng.integers(0, CLASSES, 6))


def mean_loss(net: AlexNet, step: int) -> torch.Tensor:
    """Return the loss of the batch; the same units are dropped at each call for a step."""
    torch.manual_seed(step)
    images, labels = batch()
    return F.cross_entropy(net(images), labels)


def gradients(values: Values, step: int) -> Values:
    net = draw_net()
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            parameter.copy_(torch.from_numpy(values[name]))
    parameters = dict(net.named_parameters())
    found = torch.autograd.grad(mean_loss(net, step), list(parameters.values()))
    return {name: g.numpy() for name, g in zip(parameters, found, strict=True)}


def updates_in_numpy(values: Values) -> list[Values]:
    """Return the weights after each update: V <- 0.9 V + e (g - 0.0005 w), g uphill, w <- w + V."""
    layers = list(dict.fromkeys(name.split(".")[0] for name in values))
    rates, velocity, history = ByHand(layers), {}, []
    for step in range(NUM_STEPS):
        rates.advance(step)
        slopes, after = gradients(values, step), {}
        for name, value in values.items():
            layer, kind = name.split(".")
            rate = (rates.biases if kind == "bias" else rates.weights)[layer]
            if rate is None:
                after[name] = value
                continue
            shrinking = 0.0005 * value if kind == "weight" else 0.0
            velocity[name] = 0.9 * velocity.get(name, 0.0) + rate * (-slopes[name] - shrinking)
            after[name] = value + velocity[name]
        values = after
        history.append(values)
    return history


def values_of(net: AlexNet) -> Values:
    return {name: parameter.detach().numpy().copy() for name, parameter in net.named_parameters()}


@pytest.fixture(scope="module")
def histories() -> tuple[Values, list[Values], list[Values]]:
    """The first weights, and those after each update: ours and numpy's."""
    net = draw_net()
    first, optimizer, ours = values_of(net), build_optimizer(RECIPE, net), []
    for step in range(NUM_STEPS):
        optimizer.zero_grad()
        mean_loss(net, step).backward()
        set_learning_rates(optimizer, learning_rates_at(RECIPE, step / 10, []))
        optimizer.step()
        ours.append(values_of(net))
    return first, ours, updates_in_numpy(first)


@pytest.mark.parametrize("step", range(NUM_STEPS))
def test_all_weights_after_each_update_are_those_of_numpy(histories, step: int):
    _, ours, expected = histories

    assert len(expected[step]) == 16
    for name, values in expected[step].items():
        np.testing.assert_allclose(ours[step][name], values, rtol=1e-9, atol=1e-12, err_msg=name)


def test_every_update_moves_every_layer_but_frozen_ones(histories):
    first, ours, _ = histories
    resting = {"conv1.weight", "conv1.bias", "fc7.weight", "fc7.bias"}

    for step, (before, after) in enumerate(zip([first, *ours[:-1]], ours, strict=True)):
        still = {name for name in after if np.array_equal(before[name], after[name])}
        assert still == (resting if step >= 8 else set())


def test_updates_are_large_beside_the_tolerance(histories):
    first, ours, _ = histories

    for name, before in first.items():
        moved = np.abs(ours[-1][name] - before) > 1e-4 * np.abs(before) + 1e-7
        assert moved.mean() > 0.5, name
