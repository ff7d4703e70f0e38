"""Can this network overfit one batch?"""

import math
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from alexnet_cli.io.progress import Tracker
from alexnet_cli.model.network import AlexNet, initialize
from alexnet_cli.model.optimizer import PaperSGD
from alexnet_cli.recipes.recipe import Recipe

LEARNED_LOSS = 0.05
RATE_FACTORS = (0.3, 1.0, 0.1)  # without dropout, and ten images a batch, less is often more
PATIENCE, HOPELESS = 60, 1.5  # after so many updates a loss that grew so much ends the attempt


@dataclass(frozen=True, slots=True)
class Overfit:
    """One batch learned by heart, without dropout.

    Attributes:
        rate: the learning rate at which it was.
        losses: before each update.
    """

    images: int
    rate: float
    losses: list[float]

    @property
    def learned(self) -> bool:
        """Whether the last loss is next to nothing."""
        return bool(self.losses) and self.losses[-1] <= LEARNED_LOSS


def overfit(
    recipe: Recipe, num_classes: int, crops: Tensor, labels: Tensor, steps: int, bar: Tracker
) -> Overfit:
    """Learn one batch by heart at the recipe's rate, or at a lower one where that is too high."""
    tried = []
    for factor in RATE_FACTORS:
        tried.append(_overfit_at(recipe, factor, num_classes, crops, labels, steps, bar))
        if tried[-1].learned:
            break
    return min(tried, key=_last_loss)


def _last_loss(result: Overfit) -> float:
    last = result.losses[-1]
    return last if math.isfinite(last) else math.inf


def _overfit_at(
    recipe: Recipe,
    factor: float,
    num_classes: int,
    crops: Tensor,
    labels: Tensor,
    steps: int,
    bar: Tracker,
) -> Overfit:
    net = AlexNet(recipe, num_classes)
    initialize(net, recipe.seed)
    net.eval()  # dropout off
    sgd, rate, losses = PaperSGD(net, recipe), factor * recipe.learning_rate, []
    for _ in range(steps):
        loss = F.cross_entropy(net(crops), labels)
        losses.append(loss.item())
        bar.advance(1, note=f"rate {rate:.2g}  loss {losses[-1]:.3f}")
        hopeless = len(losses) > PATIENCE and losses[-1] > HOPELESS * losses[0]
        if losses[-1] <= LEARNED_LOSS or hopeless or not math.isfinite(losses[-1]):
            break
        sgd.zero_grad()
        loss.backward()
        sgd.step(rate)
    return Overfit(len(labels), rate, losses)
