"""The learning rates of every update, and when training ends (section 5; 2012 code, lr.cu)."""

import math
from dataclasses import dataclass, field, replace

from alexnet_cli.recipes.recipe import Milestone, Recipe

CLASSIFIER = "fc8"


@dataclass(frozen=True, slots=True)
class LearningRates:
    """The learning rates of one update.

    Attributes:
        weights, biases: of every layer.
        layers: of the weights of layers that have their own; 0 freezes the layer, biases too.
        layer_biases: of the biases of layers that have their own.
    """

    weights: float
    biases: float
    layers: dict[str, float] = field(default_factory=dict)
    layer_biases: dict[str, float] = field(default_factory=dict)

    def of(self, layer: str, *, is_weight: bool) -> float | None:
        """Return the learning rate of a layer's weights or biases; None for a frozen layer."""
        if self.layers.get(layer) == 0:
            return None
        if is_weight:
            return self.layers.get(layer, self.weights)
        return self.layer_biases.get(layer, self.biases)


def learning_rates_at(recipe: Recipe, progress: float, val_errors: list[float]) -> LearningRates:
    """Return the learning rates of one update; arguments as for `learning_rate`."""
    rates = _rates_of_most_layers(recipe, progress, val_errors)
    factor = recipe.classifier_lr_multiplier
    weights, biases = (rates.of(CLASSIFIER, is_weight=kind) for kind in (True, False))
    if factor == 1 or weights is None or biases is None:
        return rates
    return replace(
        rates,
        layers=rates.layers | {CLASSIFIER: factor * weights},
        layer_biases=rates.layer_biases | {CLASSIFIER: factor * biases},
    )


def _rates_of_most_layers(
    recipe: Recipe, progress: float, val_errors: list[float]
) -> LearningRates:
    lr = learning_rate(recipe, progress, val_errors)
    if recipe.schedule in ("plateau", "linear", "cosine") or progress < recipe.warmup_epochs:
        return LearningRates(lr, lr * recipe.bias_lr_multiplier)
    bias_lr = recipe.learning_rate * recipe.bias_lr_multiplier
    if recipe.schedule == "milestones":
        return _after_milestones(lr, bias_lr, _reached(recipe, progress))
    done = progress / recipe.epochs
    divisor = _divisor_of_steps(done, recipe.bias_lr_factor, recipe.bias_lr_steps)
    return LearningRates(lr, bias_lr / divisor)


def _after_milestones(lr: float, bias_lr: float, reached: list[Milestone]) -> LearningRates:
    layers: dict[str, float] = {}
    layer_biases: dict[str, float] = {}
    for milestone in reached:
        for layer in milestone.layers or [name for name in layers if layers[name]]:
            layers[layer] = milestone.lr if layers.get(layer, 1.0) else 0.0
        if milestone.bias_lr is not None and milestone.layers:
            layer_biases |= dict.fromkeys(milestone.layers, milestone.bias_lr)
        elif milestone.bias_lr is not None:
            bias_lr, layer_biases = milestone.bias_lr, {}
    return LearningRates(lr, bias_lr, layers, layer_biases)


def _reached(recipe: Recipe, progress: float) -> list[Milestone]:
    return [milestone for milestone in recipe.milestones if milestone.epoch <= progress]


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
    best = math.inf
    waited = drops = 0
    for error in val_errors:
        if error < best - min_improvement:
            best = error
            waited = 0
        else:
            waited += 1
        if waited == patience:
            drops += 1
            waited = 0
    return drops


def learning_rate(recipe: Recipe, progress: float, val_errors: list[float]) -> float:
    """Return the learning rate of the weights of layers without their own.

    Args:
        progress: epochs done, with the fraction of the current one.
        val_errors: validation error after each finished epoch.
    """
    lr = recipe.learning_rate
    if recipe.warmup_epochs and progress < recipe.warmup_epochs:
        return lr * progress / recipe.warmup_epochs
    if recipe.schedule == "plateau":
        drops = count_drops(val_errors, recipe.patience, recipe.min_improvement)
        return lr / 10 ** min(drops, recipe.drops)
    if recipe.schedule == "milestones":
        reached = [milestone.lr for milestone in _reached(recipe, progress) if not milestone.layers]
        return reached[-1] if reached else lr
    done = min(progress / recipe.epochs, 1.0)
    if recipe.schedule == "exponential":
        return lr / recipe.lr_factor**done
    if recipe.schedule == "stepped":
        return lr / _divisor_of_steps(done, recipe.lr_factor, recipe.lr_steps)
    remaining = (recipe.epochs - progress) / max(recipe.epochs - recipe.warmup_epochs, 1e-9)
    if recipe.schedule == "cosine":
        return lr * (1 - math.cos(math.pi * remaining)) / 2
    return lr * remaining


def _divisor_of_steps(done: float, factor: float, num_steps: int) -> float:
    """Return the divisor of a learning rate after a share of the training is done."""
    if num_steps == 1:
        return 1.0
    return factor ** (min(int(done * num_steps), num_steps - 1) / (num_steps - 1))


def is_finished(
    recipe: Recipe, epochs_done: int, val_errors: list[float], train_error: float = math.inf
) -> bool:
    """Return whether training ends: epochs done, no improvement any more, or goal reached.

    Args:
        train_error: training error of the last finished epoch.
    """
    if epochs_done >= recipe.epochs:
        return True
    if recipe.until_train_error and train_error <= recipe.until_train_error:
        return True
    if recipe.stop_after and count_drops(val_errors, recipe.stop_after, recipe.min_improvement):
        return True
    if recipe.schedule != "plateau":
        return False
    return count_drops(val_errors, recipe.patience, recipe.min_improvement) > recipe.drops
