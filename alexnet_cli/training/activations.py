"""Activation statistics, layer by layer, and the signs of a network that is not learning.

The commonest complaint about this network is a loss that stays at chance level, ln(classes): the
differences between images vanish on their way through the layers, and every image gets the same
scores.
"""

import math
from contextlib import closing
from dataclasses import dataclass

import torch
from torch import Tensor

from alexnet_cli.data.batches.loader import batches_of
from alexnet_cli.data.shards.dataset import Split
from alexnet_cli.data.transforms import Augmenter
from alexnet_cli.errors import counted
from alexnet_cli.model.network import AlexNet
from alexnet_cli.model.split import Network, load_whole_state, whole_state

CHANCE_SHARE = 0.99  # of ln(classes): a loss above it is at chance level
MIN_IMPROVEMENT = 0.01  # of ln(classes), from one epoch to the next: less is not a trend
PATIENCE_SHARE = 0.25  # of the recipe's epochs, before a run is judged
PATIENCE_UPDATES = 2000  # or this many updates, if they come first


@dataclass(frozen=True, slots=True)
class ActivationStatistics:
    """Statistics of the outputs of one layer.

    Attributes:
        rms: root mean square.
        std: per-image standard deviation, root mean square over the outputs.
        dead_fraction: fraction of the outputs that are zero for every image.
    """

    name: str
    rms: float
    std: float
    dead_fraction: float


def first_crops(split: Split, augmenter: Augmenter, count: int) -> tuple[Tensor, Tensor]:
    """Return the center crops of a split's first images, and their labels."""
    with closing(batches_of(split, min(count, len(split)))) as batches:
        batch = next(batches)
    images = torch.from_numpy(batch.images).to(augmenter.device)
    return augmenter.view(images, augmenter.center), torch.from_numpy(batch.labels)


@torch.no_grad()
def activation_statistics(net: AlexNet, crops: Tensor) -> list[ActivationStatistics]:
    """Return the statistics of every layer, without dropout; crops (N, 3, H, W)."""
    net.eval()
    found = []
    x = crops
    image = crops
    for stage in net.stages:
        for name in stage:
            x = net.run_layer(name, x, image)
            found.append(_statistics(name, x.double()))
    return found


def statistics_on_cpu(net: Network, crops: Tensor) -> list[ActivationStatistics]:
    """Return the statistics of a network on any devices, measured on the CPU."""
    whole = AlexNet(net.recipe, net.num_classes)
    load_whole_state(whole, whole_state(net))
    return activation_statistics(whole, crops.cpu())


def _statistics(name: str, x: Tensor) -> ActivationStatistics:
    std = x.var(dim=0, correction=0).mean().sqrt() if len(x) > 1 else x.new_zeros(())
    dead = (x == 0).all(dim=0).double().mean()
    return ActivationStatistics(name, x.square().mean().sqrt().item(), std.item(), dead.item())


def is_at_chance_level(loss: float, num_classes: int) -> bool:
    """Return whether a training loss is that of a network that does not separate the classes."""
    return num_classes > 1 and loss >= CHANCE_SHARE * math.log(num_classes)


def is_not_learning(
    loss: float, previous: float | None, num_classes: int, *, share_done: float, num_updates: int
) -> bool:
    """Return whether a run should be reported as not learning, at the end of an epoch.

    Its loss is at chance level, and either training is over, or the run had more than a quarter of
    its epochs or 2,000 updates, and the loss of the epoch before was at chance level too and not
    higher by 1 % of ln(classes) or more. Healthy runs also spend their first epochs at chance
    level, but their loss falls.

    Args:
        loss: mean training loss of this epoch.
        previous: mean training loss of the epoch before; None if it is unknown.
        share_done: finished share of the recipe's epochs; 1.0 if training is over.
        num_updates: of the whole run so far.
    """
    if not is_at_chance_level(loss, num_classes):
        return False
    if share_done >= 1.0:
        return True
    if share_done <= PATIENCE_SHARE and num_updates < PATIENCE_UPDATES:
        return False
    if previous is None or not is_at_chance_level(previous, num_classes):
        return False
    return previous - loss < MIN_IMPROVEMENT * math.log(num_classes)


def weakest(layers: list[ActivationStatistics]) -> ActivationStatistics:
    """Return the layer whose outputs differ least between images, relative to their rms."""
    return min(layers, key=lambda layer: layer.std / max(layer.rms, 1e-30))


def explain_not_learning(loss: float, epochs: int, net: Network, crops: Tensor) -> list[str]:
    """Return two lines: the loss is at chance level, and the layer after which images are alike."""
    layers = statistics_on_cpu(net, crops)
    weak = weakest(layers)
    scores = layers[-1]
    chance = f"ln {net.num_classes} = {math.log(net.num_classes):.3f}"
    return [
        f"Loss {loss:.3f} is still at chance level ({chance}) after {counted(epochs, 'epoch')}.",
        f"The scores of different images have a standard deviation of {scores.std:.2g}. Images "
        f"are most alike after layer {weak.name}: standard deviation {weak.std:.2g}, "
        f"rms {weak.rms:.2g}.",
    ]
