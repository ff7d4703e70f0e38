"""The paper's update (section 5) and its learning-rate schedules.

    v <- momentum * v - decay * rate * w - rate * gradient
    w <- w + v

The rate is inside v, so dividing it by ten leaves the velocity gathered so far as it is; torch's
SGD multiplies the whole buffer by the new rate instead (2012 code, weights.cu:146).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from alexnet_cli.recipe import Event, Recipe


@dataclass(frozen=True, slots=True)
class Rates:
    """The learning rates of one update.

    Attributes:
        weights, biases: of every layer.
        layers: the weights' rates of layers that have their own; at 0 they rest, biases too.
        layer_biases: the biases' rates of layers that have their own.
    """

    weights: float
    biases: float
    layers: dict[str, float] = field(default_factory=dict)
    layer_biases: dict[str, float] = field(default_factory=dict)

    def of(self, layer: str, *, is_weight: bool) -> float | None:
        """Return the rate of a layer's weights or biases; None for a layer that rests."""
        if self.layers.get(layer) == 0:
            return None
        if is_weight:
            return self.layers.get(layer, self.weights)
        return self.layer_biases.get(layer, self.biases)


@dataclass(frozen=True, slots=True)
class _Member:
    """A parameter and its velocity."""

    layer: str
    is_weight: bool
    decay: float
    parameter: Tensor
    velocity: Tensor


class PaperSGD:
    """Momentum and weight decay for a network's parameters; biases have their own rate and decay.

    Attributes:
        velocity: v of each parameter, in the order of `net.parameters()`.
    """

    def __init__(self, net: nn.Module, recipe: Recipe):
        self.momentum = recipe.momentum
        self.bias_rate = recipe.bias_rate
        factors = {name: conv.decay for name, conv in recipe.convs().items()}
        self.members = []
        for name, parameter in net.named_parameters():
            layer, is_weight = layer_of(name), not name.endswith("bias")
            decay = recipe.weight_decay * factors.get(layer, 1.0)
            decay = decay if is_weight else recipe.bias_decay
            velocity = torch.zeros_like(parameter)
            self.members.append(_Member(layer, is_weight, decay, parameter, velocity))
        self.velocity = [member.velocity for member in self.members]

    @torch.no_grad()
    def step(self, rates: Rates | float) -> None:
        """Update every parameter from its gradient; layers may rest (2012: weights.cu:148).

        Args:
            rates: or one number, for the weights; biases then get `bias_rate` times it.
        """
        if not isinstance(rates, Rates):
            rates = Rates(rates, rates * self.bias_rate)
        groups: dict[tuple[float, float], list[_Member]] = {}
        for member in self.members:
            rate = rates.of(member.layer, is_weight=member.is_weight)
            if rate is not None:
                groups.setdefault((rate, member.decay), []).append(member)
        for (rate, decay), members in groups.items():
            self._update(members, rate, decay)

    def _update(self, members: list[_Member], rate: float, decay: float) -> None:
        velocity = [member.velocity for member in members]
        parameters = [member.parameter for member in members]
        torch._foreach_mul_(velocity, self.momentum)
        if decay:
            torch._foreach_add_(velocity, parameters, alpha=-rate * decay)
        torch._foreach_add_(velocity, [p.grad for p in parameters], alpha=-rate)
        torch._foreach_add_(parameters, velocity)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for member in self.members:
            member.parameter.grad = None


def layer_of(name: str) -> str:
    """Return the layer of a parameter: of `conv1.weight`, and of `parts.0.conv1.weight`, conv1."""
    return name.split(".")[-2] if "." in name else ""


def rates_at(recipe: Recipe, progress: float, val_errors: list[float]) -> Rates:
    """Return the rates of one update; arguments as for `learning_rate`."""
    rate = learning_rate(recipe, progress, val_errors)
    if recipe.schedule in ("plateau", "linear") or progress < recipe.warmup_epochs:
        return Rates(rate, rate * recipe.bias_rate)
    if recipe.schedule == "events":
        return _rates_of_events(recipe, rate, list(_due(recipe, progress)))
    biases = recipe.learning_rate * recipe.bias_rate
    done = progress / recipe.epochs
    return Rates(rate, biases / _stepped(done, recipe.bias_factor, recipe.bias_steps))


def _rates_of_events(recipe: Recipe, rate: float, due: list[Event]) -> Rates:
    biases = recipe.learning_rate * recipe.bias_rate
    layers: dict[str, float] = {}
    layer_biases: dict[str, float] = {}
    for event in due:
        for layer in event.layers or [name for name in layers if layers[name]]:
            layers[layer] = event.rate if layers.get(layer, 1.0) else 0.0
        if event.bias_rate is not None and event.layers:
            layer_biases |= dict.fromkeys(event.layers, event.bias_rate)
        elif event.bias_rate is not None:
            biases, layer_biases = event.bias_rate, {}
    return Rates(rate, biases, layers, layer_biases)


def _due(recipe: Recipe, progress: float) -> Iterable[Event]:
    return (event for event in recipe.events if event.epoch <= progress)


def count_drops(val_errors: list[float], patience: int, min_improvement: float) -> int:
    """Return how often the validation error has stopped improving, from its value after each epoch.

    It has stopped when `patience` epochs in a row were not better than the best so far by
    `min_improvement`; the count of epochs then starts again.
    """
    best, waited, drops = float("inf"), 0, 0
    for error in val_errors:
        improved = error <= best - min_improvement
        best, waited = min(best, error), 0 if improved else waited + 1
        if waited == patience:
            drops, waited = drops + 1, 0
    return drops


def learning_rate(recipe: Recipe, progress: float, val_errors: list[float]) -> float:
    """Return the rate of one update.

    Args:
        progress: epochs done, with the fraction of the current one.
        val_errors: validation error after each finished epoch.
    """
    rate = recipe.learning_rate
    if recipe.warmup_epochs and progress < recipe.warmup_epochs:
        return rate * progress / recipe.warmup_epochs
    if recipe.schedule == "plateau":
        drops = count_drops(val_errors, recipe.patience, recipe.min_improvement)
        return rate / 10 ** min(drops, recipe.drops)
    if recipe.schedule == "events":
        return next((e.rate for e in reversed(list(_due(recipe, progress))) if not e.layers), rate)
    done = min(progress / recipe.epochs, 1.0)
    if recipe.schedule == "exponential":
        return rate / recipe.rate_factor**done
    if recipe.schedule == "stepped":
        return rate / _stepped(done, recipe.rate_factor, recipe.rate_steps)
    remaining = (recipe.epochs - progress) / max(recipe.epochs - recipe.warmup_epochs, 1e-9)
    return rate * remaining


def _stepped(done: float, factor: float, num_steps: int) -> float:
    """Return what a rate is divided by when that share of the training is done."""
    if num_steps == 1:
        return 1.0
    return factor ** (min(int(done * num_steps), num_steps - 1) / (num_steps - 1))


def is_finished(
    recipe: Recipe, epochs_done: int, val_errors: list[float], train_error: float = math.inf
) -> bool:
    """Tell whether training ends here: all epochs done, no rate left to drop to, goal reached.

    Args:
        train_error: training error of the last finished epoch.
    """
    if epochs_done >= recipe.epochs:
        return True
    if recipe.until_train_error and train_error <= recipe.until_train_error:
        return True
    if recipe.schedule != "plateau":
        return False
    return count_drops(val_errors, recipe.patience, recipe.min_improvement) > recipe.drops
