"""A split as a map-style dataset of torch, for training loops that are not ours."""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch.utils import data


class Samples(Protocol):
    """A `Split`: its samples have `pixels`, `image` and `label`."""

    def __len__(self) -> int: ...

    def __getitem__(self, position: int) -> Any: ...


class TorchSplit(data.Dataset[tuple[Any, int]]):
    """Pairs of image and label, for `torch.utils.data.DataLoader`.

    Args:
        transform: called with each image as Pillow's, as torchvision's transforms are; by default
            images are uint8 tensors (3, H, W).
    """

    def __init__(self, split: Samples, transform: Callable[[Any], Any] | None = None) -> None:
        self.split, self.transform = split, transform

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, position: int) -> tuple[Any, int]:
        sample = self.split[position]
        if self.transform is not None:
            return self.transform(sample.image), sample.label
        return torch.from_numpy(sample.pixels).permute(2, 0, 1), sample.label
