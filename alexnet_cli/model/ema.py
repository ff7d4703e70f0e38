"""A moving average of the weights, which is validated and exported instead of the last ones.

    decay_n = min(decay, (n - 1) / (n + 8))
    average <- decay_n * average + (1 - decay_n) * w

after the n-th update: at the beginning it averages over the last tenth of the updates, so that the
first weights, drawn at random, are soon forgotten (as tf.train.ExponentialMovingAverage, whose
count is two less). Rates that fall to zero average too: what it gains is least at the very end.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from alexnet_cli.recipes.recipe import Recipe


class AveragedWeights:
    """The averaged weights of a network, on its devices; nothing where the recipe asks for none.

    Attributes:
        tensors: one for each parameter, in the order of `net.parameters()`; empty for no average.
    """

    def __init__(self, net: nn.Module, recipe: Recipe):
        self.decay = recipe.average_decay
        self.parameters = list(net.parameters()) if self.decay else []
        self.tensors = [parameter.detach().clone() for parameter in self.parameters]

    @torch.no_grad()
    def begin(self) -> None:
        """Take the weights as they are."""
        if self.tensors:
            torch._foreach_copy_(self.tensors, self.parameters)

    @torch.no_grad()
    def update(self, num_updates: int) -> None:
        """Take in the weights after an update.

        Args:
            num_updates: since the first weights, this one included; the first begins the average.
        """
        if not self.tensors:
            return
        decay = min(self.decay, (num_updates - 1) / (num_updates + 8))
        torch._foreach_lerp_(self.tensors, self.parameters, 1 - decay)

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Put the average in the network's place, and the weights back bit for bit."""
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
