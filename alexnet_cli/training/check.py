"""`alexnet check`: activation statistics of a recipe's network, and whether it overfits one batch.

N images.
"""

import math
from dataclasses import asdict, dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from alexnet_cli.data.dataset_ref import DatasetRef
from alexnet_cli.data.demo.images import draw_images
from alexnet_cli.data.images.resize import to_square
from alexnet_cli.data.transforms import Augmenter
from alexnet_cli.errors import DivergedError, counted
from alexnet_cli.io.progress import SILENT, Progress, Tracker
from alexnet_cli.model.network import AlexNet, initialize
from alexnet_cli.model.optimizer import build_optimizer, set_learning_rates
from alexnet_cli.model.schedule import LearningRates
from alexnet_cli.recipes.recipe import Recipe
from alexnet_cli.training.activations import (
    ActivationStatistics,
    activation_statistics,
    first_crops,
    weakest,
)

NUM_MEASURED_IMAGES = 32
NUM_OVERFIT_IMAGES = 10
LEARNED_LOSS = 0.05
LR_FACTORS = (0.3, 1.0, 0.1)  # without dropout and with ten images a batch, lower is often better
PATIENCE = 60  # updates before an attempt can be given up
HOPELESS_GROWTH = 1.5  # of the loss since the first update


@dataclass(frozen=True, slots=True)
class OverfitResult:
    """Training on one batch, without dropout.

    Attributes:
        losses: before each update.
    """

    images: int
    learning_rate: float
    losses: list[float]

    @property
    def learned(self) -> bool:
        """Whether the last loss is nearly zero."""
        return bool(self.losses) and self.losses[-1] <= LEARNED_LOSS


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What was measured.

    Attributes:
        chance_loss: ln(classes).
        first_loss: loss of the untrained network.
        layers: activation statistics of the untrained network.
        faults: sentences without a full stop; empty if the recipe can learn.
    """

    recipe: str
    data: str
    classes: int
    chance_loss: float
    first_loss: float
    layers: list[ActivationStatistics]
    overfit: OverfitResult
    faults: list[str]

    def to_json(self) -> dict:
        """Return the result with the verdict; losses that are not finite become None."""
        result = asdict(self)
        losses = [loss if math.isfinite(loss) else None for loss in self.overfit.losses]
        result["overfit"] |= {"learned": self.overfit.learned, "losses": losses}
        return result

    def raise_faults(self) -> None:
        """Raise a DivergedError if the recipe has faults."""
        if self.faults:
            raise DivergedError(f"recipe {self.recipe}: {'; '.join(self.faults)}.")


def check(
    recipe: Recipe,
    location: DatasetRef | None = None,
    *,
    steps: int = 300,
    progress: Progress = SILENT,
) -> CheckResult:
    """Measure the activations of every layer, and overfit one batch.

    Args:
        location: a dataset with pixel statistics; by default images are drawn.
        steps: maximum number of updates at each learning rate.

    Raises:
        InputError: if the dataset cannot be used.
    """
    crops, labels, num_classes = (
        _draw_crops(recipe) if location is None else _load_crops(recipe, location)
    )
    net = AlexNet(recipe, num_classes)
    initialize(net, recipe.seed)
    layers = activation_statistics(net, crops)
    with torch.no_grad():
        first_loss = F.cross_entropy(net(crops), labels).item()
    del net
    few = slice(0, NUM_OVERFIT_IMAGES)
    with progress.track("overfit one batch", len(LR_FACTORS) * steps) as bar:
        result = overfit(recipe, num_classes, crops[few], labels[few], steps, bar)
    return CheckResult(
        recipe=recipe.name,
        data=str(location) if location else "drawn images",
        classes=num_classes,
        chance_loss=math.log(num_classes),
        first_loss=first_loss,
        layers=layers,
        overfit=result,
        faults=_faults(layers, result),
    )


def _faults(layers: list[ActivationStatistics], result: OverfitResult) -> list[str]:
    if result.learned:
        return []
    return [
        f"it does not overfit one batch of {counted(result.images, 'image')} in "
        f"{counted(len(result.losses), 'step')} "
        f"(loss {result.losses[-1]:.3f}); images are most alike after layer {weakest(layers).name}"
    ]


def _draw_crops(recipe: Recipe) -> tuple[Tensor, Tensor, int]:
    """Draw images, and subtract their mean color."""
    jpegs, num_classes = draw_images(NUM_MEASURED_IMAGES, seed=recipe.seed)
    images = np.stack([to_square(jpeg, recipe.crop_size) for jpeg, _ in jpegs]).astype(np.float32)
    images -= images.mean(axis=(0, 1, 2))
    labels = torch.tensor([label for _, label in jpegs])
    return torch.from_numpy(images).permute(0, 3, 1, 2), labels, num_classes


def _load_crops(recipe: Recipe, location: DatasetRef) -> tuple[Tensor, Tensor, int]:
    """Return the center crops of the first training images."""
    dataset = location.open(("train",))
    dataset.check_crop(recipe)
    stats = dataset.load_pixel_stats()
    augmenter = Augmenter(recipe, stats, torch.device("cpu"))
    found = first_crops(dataset.split("train"), augmenter, NUM_MEASURED_IMAGES)
    return *found, len(dataset.classes)


def overfit(
    recipe: Recipe, num_classes: int, crops: Tensor, labels: Tensor, steps: int, bar: Tracker
) -> OverfitResult:
    """Train on one batch at several multiples of the recipe's learning rate; return the best."""
    results = []
    for factor in LR_FACTORS:
        net = AlexNet(recipe, num_classes)
        initialize(net, recipe.seed)
        net.eval()  # dropout off
        lr = factor * recipe.learning_rate
        losses = _overfit_at(net, lr, crops, labels, steps, bar)
        results.append(OverfitResult(len(labels), lr, losses))
        if results[-1].learned:
            break
    return min(results, key=_last_loss)


def _overfit_at(
    net: AlexNet, lr: float, crops: Tensor, labels: Tensor, steps: int, bar: Tracker
) -> list[float]:
    """Return the loss before each update."""
    optimizer = build_optimizer(net.recipe, net)
    set_learning_rates(optimizer, LearningRates(lr, lr * net.recipe.bias_lr_multiplier))
    losses: list[float] = []
    for _ in range(steps):
        loss = F.cross_entropy(net(crops), labels)
        losses.append(loss.item())
        bar.advance(1, note=f"lr {lr:.2g}  loss {losses[-1]:.3f}")
        is_hopeless = len(losses) > PATIENCE and losses[-1] > HOPELESS_GROWTH * losses[0]
        if losses[-1] <= LEARNED_LOSS or is_hopeless or not math.isfinite(losses[-1]):
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return losses


def _last_loss(result: OverfitResult) -> float:
    last = result.losses[-1]
    return last if math.isfinite(last) else math.inf
