"""Can this network learn? Its gradient against differences, and one batch learned by heart."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from alexnet_cli.errors import RecipeError
from alexnet_cli.model.alexnet import AlexNet, initialize
from alexnet_cli.model.sgd import PaperSGD
from alexnet_cli.progress import Tracker
from alexnet_cli.recipe import Recipe
from alexnet_cli.settings import widen

MAX_GRADIENT_ERROR = 1e-4
FLOOR = 1e-6  # the loss is rounded: smaller slopes cannot be told
STEPS = (1e-5, 1e-6, 1e-7, 1e-8, 1e-9)  # a kink within a step spoils it; rounding a too small one
SHRUNKEN_CROPS = (72, 99)  # sizes that fit every network of the recipes
SHRUNKEN_WIDTH = 1 / 16
LEARNED_LOSS = 0.05
RATE_FACTORS = (0.3, 1.0, 0.1)  # without dropout, and ten pictures a batch, less is often more
PATIENCE, HOPELESS = 60, 1.5  # after so many updates a loss that grew so much ends the attempt


@dataclass(frozen=True, slots=True)
class GradientCheck:
    """One parameter: its gradient along a random direction and the slope of the loss there."""

    parameter: str
    gradient: float
    slope: float

    @property
    def error(self) -> float:
        """Relative error."""
        return abs(self.gradient - self.slope) / max(abs(self.gradient), abs(self.slope), FLOOR)


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


def shrink(recipe: Recipe) -> Recipe:
    """Return the recipe with a sixteenth of the kernels, on small patches."""
    narrow = widen(recipe, SHRUNKEN_WIDTH)
    for size in SHRUNKEN_CROPS:
        if size < recipe.crop_size:
            small = replace(narrow, crop_size=size)
            try:
                with torch.device("meta"):
                    AlexNet(small, 2)
            except RecipeError:
                continue
            return small
    return narrow


def check_gradient(
    recipe: Recipe, num_classes: int, patches: Tensor, labels: Tensor
) -> Iterator[GradientCheck]:
    """Yield a `GradientCheck` for every parameter of a shrunken copy, in float64.

    Args:
        patches: (N, 3, H, W), at least as large as the shrunken copy's; their corners are taken.
    """
    small = shrink(recipe)
    net = AlexNet(small, num_classes)
    initialize(net, small.seed)
    net.double().eval()
    x = patches[:, :, : small.crop_size, : small.crop_size].double()
    F.cross_entropy(net(x), labels).backward()
    generator = torch.Generator().manual_seed(small.seed)
    for name, parameter in net.named_parameters():
        direction = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        direction /= direction.norm()
        gradient = (parameter.grad * direction).sum().item()
        slopes = [
            change / step
            for step in STEPS
            for change in _changes(net, parameter, step * direction, x, labels)
        ]
        yield GradientCheck(name, gradient, min(slopes, key=lambda slope: abs(slope - gradient)))


@torch.no_grad()
def _changes(
    net: AlexNet, parameter: Tensor, step: Tensor, x: Tensor, labels: Tensor
) -> tuple[float, float, float]:
    """Return by how much the loss rises along a step: on average of both sides, and on each.

    On a kink, where a ReLU or a maximum changes over, the gradient is the slope of one side.
    """
    kept, losses = parameter.clone(), []
    for change in (step, 0 * step, -step):
        parameter.copy_(kept + change)
        losses.append(F.cross_entropy(net(x), labels).item())
    parameter.copy_(kept)
    after, here, before = losses
    return (after - before) / 2, after - here, here - before


def overfit(
    recipe: Recipe, num_classes: int, patches: Tensor, labels: Tensor, steps: int, bar: Tracker
) -> Overfit:
    """Learn one batch by heart at the recipe's rate, or at a lower one where that is too high."""
    tried = []
    for factor in RATE_FACTORS:
        tried.append(_overfit_at(recipe, factor, num_classes, patches, labels, steps, bar))
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
    patches: Tensor,
    labels: Tensor,
    steps: int,
    bar: Tracker,
) -> Overfit:
    net = AlexNet(recipe, num_classes)
    initialize(net, recipe.seed)
    net.eval()  # dropout off
    sgd, rate, losses = PaperSGD(net, recipe), factor * recipe.learning_rate, []
    for _ in range(steps):
        loss = F.cross_entropy(net(patches), labels)
        losses.append(loss.item())
        bar.advance(1, note=f"rate {rate:.2g}  loss {losses[-1]:.3f}")
        hopeless = len(losses) > PATIENCE and losses[-1] > HOPELESS * losses[0]
        if losses[-1] <= LEARNED_LOSS or hopeless or not math.isfinite(losses[-1]):
            break
        sgd.zero_grad()
        loss.backward()
        sgd.step(rate)
    return Overfit(len(labels), rate, losses)
