"""The paper's update (section 5) and its learning-rate schedules.

    v <- momentum * v - decay * rate * w - rate * gradient
    w <- w + v

The rate is inside v, so dividing it by ten leaves the velocity gathered so far as it is; torch's
SGD multiplies the whole buffer by the new rate instead (2012 code, weights.cu:146).
"""

import torch
from torch import Tensor, nn

from alexnet_cli.recipe import Recipe


class PaperSGD:
    """Momentum and weight decay for a network's parameters; biases have their own rate and decay.

    Attributes:
        velocity: v of each parameter, in the order of `net.parameters()`.
    """

    def __init__(self, net: nn.Module, recipe: Recipe):
        self.parameters = list(net.parameters())
        self.velocity = [torch.zeros_like(p) for p in self.parameters]
        self.momentum = recipe.momentum
        self.groups = [
            _Group(self, weights=True, rate=1.0, decay=recipe.weight_decay),
            _Group(self, weights=False, rate=recipe.bias_rate, decay=recipe.bias_decay),
        ]

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Update every parameter from its gradient."""
        for group in self.groups:
            rate = learning_rate * group.rate
            gradients = [p.grad for p in group.parameters]
            torch._foreach_mul_(group.velocity, self.momentum)
            if group.decay:
                torch._foreach_add_(group.velocity, group.parameters, alpha=-rate * group.decay)
            torch._foreach_add_(group.velocity, gradients, alpha=-rate)
            torch._foreach_add_(group.parameters, group.velocity)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters:
            parameter.grad = None


class _Group:
    """The weights, or the biases, and what they share."""

    def __init__(self, sgd: PaperSGD, *, weights: bool, rate: float, decay: float):
        pairs = zip(sgd.parameters, sgd.velocity, strict=True)
        mine = [(p, v) for p, v in pairs if (p.dim() > 1) == weights]
        self.parameters: list[Tensor] = [p for p, _ in mine]
        self.velocity: list[Tensor] = [v for _, v in mine]
        self.rate, self.decay = rate, decay


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
    remaining = (recipe.epochs - progress) / max(recipe.epochs - recipe.warmup_epochs, 1e-9)
    return rate * remaining


def is_finished(recipe: Recipe, epochs_done: int, val_errors: list[float]) -> bool:
    """Tell whether training ends here: all epochs done, or no rate is left to drop to."""
    if epochs_done >= recipe.epochs:
        return True
    if recipe.schedule != "plateau":
        return False
    return count_drops(val_errors, recipe.patience, recipe.min_improvement) > recipe.drops
