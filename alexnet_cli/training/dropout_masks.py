"""The dropout masks of a train step (section 4.2), drawn once for the whole batch and all columns.

Each layer's mask is drawn by a generator that is seeded by the step and the layer; every dropout
takes its rows and units. So any number of devices and replicas drop the same units, and so do eager
and compiled kernels. torch's default generators would draw the same mask for both columns on two
GPUs with equal seeds.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from alexnet_cli.model.architecture import layers_of
from alexnet_cli.model.layers import UnscaledDropout
from alexnet_cli.model.network import AlexNet
from alexnet_cli.model.split import Network

CPU = torch.device("cpu")


class DropoutMasks:
    """Sets the mask of each dropout layer of a network."""

    def __init__(self, net: Network):
        self._parts: list[Any] = [net] if isinstance(net, AlexNet) else list(net.parts)
        layers = layers_of(self._parts[0].recipe, self._parts[0].num_classes)
        self._layers = [layer for layer in layers if layer.kind == "dropout"]
        devices = {parameter.device for parameter in net.parameters()}
        # A Mac's GPU gets the masks of the CPU: it draws no bool tensors on every system.
        sources = {device: CPU if device.type == "mps" else device for device in devices}
        self._generators = {device: torch.Generator(source) for device, source in sources.items()}

    def draw(self, rng: np.random.Generator, rows: slice, num: int) -> None:
        """Draw the masks of one step.

        Args:
            rng: of the step, the same in every replica.
            rows: this replica's rows of the batch.
            num: images in the whole batch.
        """
        num_columns = self._parts[0].recipe.columns
        for layer in self._layers:
            seed, (units,) = int(rng.integers(1 << 62)), layer.output
            for dropout, device, columns in self._dropouts(layer.name):
                generator = self._generators[device].manual_seed(seed)
                mask = torch.empty(num, units, dtype=torch.bool, device=generator.device)
                mask.bernoulli_(1.0 - dropout.rate, generator=generator)
                dropout.mask = mask.to(device)[rows, _share(columns, units, num_columns)]

    def _dropouts(
        self, name: str
    ) -> Iterator[tuple[UnscaledDropout, torch.device, tuple[int, ...]]]:
        """Yield the dropouts of one layer with their devices and columns."""
        for part in self._parts:
            yield part.get_submodule(name), next(part.parameters()).device, part.columns


def _share(columns: tuple[int, ...], units: int, num_columns: int) -> slice:
    """Return the units of some neighboring columns."""
    share = units // num_columns
    return slice(columns[0] * share, (columns[-1] + 1) * share)
