"""Threads that read the images of batches, into memory that is reused."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from alexnet_cli.data.batches.buffers import Buffers
from alexnet_cli.data.shards.dataset import Split
from alexnet_cli.io.cores import num_cores

CHUNK = 16  # images that a thread or process reads at a time


class Reading(Protocol):
    """Images that are being read.

    Attributes:
        images: uint8 RGB (N, H, W, 3), complete after `wait`. They may be held.
    """

    images: np.ndarray

    def wait(self) -> None:
        """Return once all images are there; errors are those of reading the first bad chunk."""

    def cancel(self) -> None:
        """Do not begin what was not begun."""


class Reader(Protocol):
    """Reads batches of one split, several at a time.

    Attributes:
        buffers: where images are read into.
    """

    buffers: Buffers

    def start(self, split: Split, positions: np.ndarray) -> Reading:
        """Begin to read some samples, int64 (N,) positions in their split."""


@dataclass(frozen=True, slots=True)
class _ThreadReading:
    images: np.ndarray
    futures: Sequence[Future]

    def wait(self) -> None:
        for future in self.futures:
            future.result()

    def cancel(self) -> None:
        for future in self.futures:
            future.cancel()


class ThreadReader:
    """Reads with threads of this process; decoding releases the GIL, what surrounds it does not."""

    def __init__(self, num_threads: int | None = None, buffers: Buffers | None = None):
        self.buffers = buffers or Buffers()
        self._pool = ThreadPoolExecutor(num_threads or num_cores())

    def __enter__(self) -> "ThreadReader":
        return self

    def __exit__(self, *_) -> None:
        self._pool.shutdown(cancel_futures=True)

    def start(self, split: Split, positions: np.ndarray) -> Reading:
        """Begin to read; see `Reader`."""
        size = split.image_size
        images = self.buffers.empty((len(positions), size, size, 3))
        rows = split.rows(positions)
        futures = [
            self._pool.submit(
                split.images.read_into, rows[at : at + CHUNK], images[at : at + CHUNK]
            )
            for at in range(0, len(positions), CHUNK)
        ]
        return _ThreadReading(images, futures)
