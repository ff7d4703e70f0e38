"""A moving average of the weights (EMA), validated and exported instead of the last weights.

    decay_n = min(decay, (n - 1) / (n + 8))
    average <- decay_n * average + (1 - decay_n) * w

after the n-th update. At first it averages over the last tenth of the updates, so that the first
weights, drawn at random, are soon forgotten (as tf.train.ExponentialMovingAverage, whose count is
two less). A learning rate that falls to zero averages too, so the gain is smallest at the end.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from alexnet_cli.recipes.recipe import Recipe


class AveragedWeights:
    """The averaged weights of a network, on its devices; empty where the recipe has no EMA.

    Attributes:
        tensors: one for each parameter, in the order of `net.parameters()`.
    """

    def __init__(self, net: nn.Module, recipe: Recipe):
        self.decay = recipe.ema_decay
        self.parameters: list[Tensor] = list(net.parameters()) if self.decay else []
        self.tensors = [parameter.detach().clone() for parameter in self.parameters]

    @torch.no_grad()
    def reset(self) -> None:
        """Start from the current weights."""
        if self.tensors:
            torch._foreach_copy_(self.tensors, self.parameters)

    @torch.no_grad()
    def update(self, num_updates: int) -> None:
        """Include the weights after an update.

        Args:
            num_updates: since the first weights, this one included; the first starts the average.
        """
        if not self.tensors:
            return
        decay = min(self.decay, (num_updates - 1) / (num_updates + 8))
        torch._foreach_lerp_(self.tensors, self.parameters, 1 - decay)

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Use the average as the network's weights inside the block, then restore them exactly."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for parameter, tensor in zip(self.parameters, self.tensors, strict=True):
            kept = parameter.clone()
            parameter.copy_(tensor)
            tensor.copy_(kept)
