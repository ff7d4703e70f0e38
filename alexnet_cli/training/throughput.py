"""How fast a run goes, how long it waits for images, and how much memory it takes."""

import resource
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

import torch

Item = TypeVar("Item")


class Meter:
    """Counts images and seconds of training, validation left out.

    Attributes:
        images, seconds: in all.
    """

    def __init__(self, device: torch.device):
        self.device, self.images, self.seconds = device, 0, 0.0
        self._began, self._images, self._waited, self._elapsed = 0.0, 0, 0.0, 0.0

    def begin_epoch(self) -> None:
        """Begin to count an epoch, or the rest of one."""
        self._began, self._images, self._waited = time.perf_counter(), 0, 0.0

    def count(self, num_images: int) -> None:
        """Count a step."""
        self._images += num_images

    def waiting_for(self, batches: Iterable[Item]) -> Iterator[Item]:
        """Yield the batches, timing how long each one keeps the loop waiting."""
        iterator = iter(batches)
        while True:
            began = time.perf_counter()
            batch = next(iterator, None)
            self._waited += time.perf_counter() - began
            if batch is None:
                return
            yield batch

    def end_epoch(self) -> None:
        """Add the epoch to what there is in all."""
        self._elapsed = time.perf_counter() - self._began
        self.images, self.seconds = self.images + self._images, self.seconds + self._elapsed

    def row(self) -> dict[str, float]:
        """Return the last epoch's images per second, share of waiting for data, and peak memory."""
        elapsed = max(self._elapsed, 1e-9)
        return {
            "images_per_second": round(self._images / elapsed, 1),
            "data_wait": round(self._waited / elapsed, 4),
            "memory_mb": round(self._peak_memory() / 1e6),
        }

    def seconds_for(self, num_images: int) -> float:
        """Return how long so many images will take at the speed so far."""
        return num_images * self.seconds / max(self.images, 1)

    def _peak_memory(self) -> int:
        """Bytes: of the GPU's memory where there is one, otherwise of this process."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
