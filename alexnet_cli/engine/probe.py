"""What a network does with pictures before it has learned anything from them: signals, layer by
layer, and the signs of a network that cannot learn.

The commonest complaint about this network is a loss that stays at ln(classes), the loss of a guess:
the pictures' differences die on their way, and every picture gets the same scores.
"""

import math
from contextlib import closing
from dataclasses import dataclass

import torch
from torch import Tensor

from alexnet_cli.data.augment import Augmenter
from alexnet_cli.data.passes import batches_of
from alexnet_cli.data.shards.dataset import Split
from alexnet_cli.model.alexnet import AlexNet
from alexnet_cli.model.parallel import Network, load_whole_state, whole_state

STUCK_SHARE = 0.99  # of ln(classes): a loss above it is that of a guess


@dataclass(frozen=True, slots=True)
class LayerSignal:
    """Outputs of one layer for some pictures.

    Attributes:
        scale: root mean square.
        spread: standard deviation from picture to picture, root mean square over the outputs.
        silent: share of the outputs that are zero for every picture.
    """

    name: str
    scale: float
    spread: float
    silent: float


def first_patches(split: Split, augmenter: Augmenter, count: int) -> tuple[Tensor, Tensor]:
    """Return the centre patches of a split's first pictures, and their labels."""
    with closing(batches_of(split, min(count, len(split)))) as batches:
        batch = next(batches)
    images = torch.from_numpy(batch.images).to(augmenter.device)
    return augmenter.view(images, augmenter.center), torch.from_numpy(batch.labels)


@torch.no_grad()
def layer_signals(net: AlexNet, patches: Tensor) -> list[LayerSignal]:
    """Return the signal after every layer, without dropout; patches (N, 3, H, W)."""
    net.eval()
    signals, x, picture = [], patches, patches
    for stage in net.stages:
        for name in stage:
            x = net.run_layer(name, x, picture)
            signals.append(_signal(name, x.double()))
    return signals


def _signal(name: str, x: Tensor) -> LayerSignal:
    spread = x.var(dim=0, correction=0).mean().sqrt() if len(x) > 1 else x.new_zeros(())
    silent = (x == 0).all(dim=0).double().mean()
    return LayerSignal(name, x.square().mean().sqrt().item(), spread.item(), silent.item())


def signals_of(net: Network, patches: Tensor) -> list[LayerSignal]:
    """Return the signals of a network on any devices, measured on the CPU."""
    whole = AlexNet(net.recipe, net.num_classes)
    load_whole_state(whole, whole_state(net))
    return layer_signals(whole, patches.cpu())


def is_stuck(loss: float, num_classes: int) -> bool:
    """Tell whether a training loss is that of a network that guesses."""
    return num_classes > 1 and loss >= STUCK_SHARE * math.log(num_classes)


def weakest(signals: list[LayerSignal]) -> LayerSignal:
    """Return the layer after which the least is left of the pictures' differences, by its scale."""
    return min(signals, key=lambda signal: signal.spread / max(signal.scale, 1e-30))


def explain_stuck(loss: float, net: Network, patches: Tensor) -> str:
    """Say in one line that a network guesses, and after which layer its pictures look alike."""
    signals = signals_of(net, patches)
    weak, scores = weakest(signals), signals[-1]
    return (
        f"the loss, {loss:.3f}, is still that of a guess, ln({net.num_classes}) = "
        f"{math.log(net.num_classes):.3f}: scores differ by {scores.spread:.2g} from picture to "
        f"picture; least is left after {weak.name} ({weak.spread:.2g} of {weak.scale:.2g})"
    )
