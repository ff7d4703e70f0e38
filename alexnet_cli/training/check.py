"""`alexnet check`: is this recipe's network right, and can it learn?"""

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
from alexnet_cli.errors import DivergedError
from alexnet_cli.io.progress import SILENT, Progress
from alexnet_cli.model.network import AlexNet, initialize
from alexnet_cli.recipes.recipe import Recipe
from alexnet_cli.training.activations import (
    ActivationStatistics,
    activation_statistics,
    first_crops,
    weakest,
)
from alexnet_cli.training.overfit import RATE_FACTORS, Overfit, overfit

NUM_SIGNAL_IMAGES = 32
NUM_OVERFIT_IMAGES = 10


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What was found.

    Attributes:
        chance_loss: ln(classes), the loss of a guess.
        first_loss: of the network as drawn.
        signals: outputs of every layer as drawn.
        faults: in words; none if all is well.
    """

    recipe: str
    data: str
    classes: int
    chance_loss: float
    first_loss: float
    signals: list[ActivationStatistics]
    overfit: Overfit
    faults: list[str]

    def to_json(self) -> dict:
        """Return the result with the verdict; losses that are not finite become None."""
        result = asdict(self)
        losses = [loss if math.isfinite(loss) else None for loss in self.overfit.losses]
        result["overfit"] |= {"learned": self.overfit.learned, "losses": losses}
        return result

    def raise_faults(self) -> None:
        """Raise a DivergedError if there are any."""
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
        location: a dataset with pixel statistics; drawn images otherwise.
        steps: updates at most, at each rate.

    Raises:
        InputError: the dataset cannot be used.
    """
    crops, labels, num_classes = (
        _draw_crops(recipe) if location is None else _load_crops(recipe, location)
    )
    net = AlexNet(recipe, num_classes)
    initialize(net, recipe.seed)
    signals = activation_statistics(net, crops)
    with torch.no_grad():
        first_loss = F.cross_entropy(net(crops), labels).item()
    del net
    few = slice(0, NUM_OVERFIT_IMAGES)
    with progress.track("one batch by heart", len(RATE_FACTORS) * steps) as bar:
        learned = overfit(recipe, num_classes, crops[few], labels[few], steps, bar)
    return CheckResult(
        recipe=recipe.name,
        data=str(location) if location else "drawn images",
        classes=num_classes,
        chance_loss=math.log(num_classes),
        first_loss=first_loss,
        signals=signals,
        overfit=learned,
        faults=_faults(signals, learned),
    )


def _faults(signals: list[ActivationStatistics], learned: Overfit) -> list[str]:
    if learned.learned:
        return []
    return [
        f"{learned.images} images are not learned in {len(learned.losses)} steps "
        f"(loss {learned.losses[-1]:.3f}); least is left of them after {weakest(signals).name}"
    ]


def _draw_crops(recipe: Recipe) -> tuple[Tensor, Tensor, int]:
    """Draw images, and subtract their mean color."""
    jpegs, num_classes = draw_images(NUM_SIGNAL_IMAGES, seed=recipe.seed)
    images = np.stack([to_square(jpeg, recipe.crop_size) for jpeg, _ in jpegs]).astype(np.float32)
    images -= images.mean(axis=(0, 1, 2))
    labels = torch.tensor([label for _, label in jpegs])
    return torch.from_numpy(images).permute(0, 3, 1, 2), labels, num_classes


def _load_crops(recipe: Recipe, location: DatasetRef) -> tuple[Tensor, Tensor, int]:
    """Return the center crops of the first training images."""
    dataset = DatasetRef.parse(location).open(("train",))
    dataset.check_crop(recipe)
    stats = dataset.load_pixel_stats()
    augmenter = Augmenter(recipe, stats, torch.device("cpu"))
    found = first_crops(dataset.split("train"), augmenter, NUM_SIGNAL_IMAGES)
    return *found, len(dataset.classes)
