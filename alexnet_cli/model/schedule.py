"""The learning rate of every update, and when training ends (section 5; 2012 code, lr.cu)."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from alexnet_cli.recipes.recipe import Event, Recipe


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


def rates_at(recipe: Recipe, progress: float, val_errors: list[float]) -> Rates:
    """Return the rates of one update; arguments as for `learning_rate`."""
    rate = learning_rate(recipe, progress, val_errors)
    if recipe.schedule in ("plateau", "linear", "cosine") or progress < recipe.warmup_epochs:
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

    The paper (section 5) divides the learning rate by ten "when the validation error rate stopped
    improving with the current learning rate". Here the error has stopped when it is not better by
    more than `min_improvement` than the best error for `patience` epochs in a row; the count of
    epochs then starts again. The best error moves only with such an improvement, as in torch's
    ReduceLROnPlateau (threshold_mode "abs", its patience smaller by one): an error that falls
    slowly but steadily is improving, however little each epoch adds.

    Args:
        val_errors: fractions, one for each finished epoch.
        min_improvement: a fraction too; 0 counts every improvement.
    """
    best, waited, drops = float("inf"), 0, 0
    for error in val_errors:
        if error < best - min_improvement:
            best, waited = error, 0
        else:
            waited += 1
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
    if recipe.schedule == "cosine":
        return rate * (1 - math.cos(math.pi * remaining)) / 2
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
