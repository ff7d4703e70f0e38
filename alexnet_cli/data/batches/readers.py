"""Readers of the images of batches: what a reader is, and the one that uses threads."""

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
        images: uint8 RGB (N, H, W, 3), complete after `wait`. They may be kept.
    """

    images: np.ndarray

    def wait(self) -> None:
        """Return once all images are read; raises the error of the first chunk that failed."""

    def cancel(self) -> None:
        """Do not start the chunks that have not been started."""


class Reader(Protocol):
    """Reads batches of one split, several at a time, into memory of its buffers."""

    buffers: Buffers

    def start(self, split: Split, positions: np.ndarray) -> Reading:
        """Start to read the samples at some positions, int64 (N,)."""


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
    """Reads with threads; decoding releases the GIL, the code around it does not."""

    def __init__(self, num_threads: int | None = None, buffers: Buffers | None = None):
        self.buffers = buffers or Buffers()
        self._pool = ThreadPoolExecutor(num_threads or num_cores())

    def __enter__(self) -> "ThreadReader":
        return self

    def __exit__(self, *_) -> None:
        self._pool.shutdown(cancel_futures=True)

    def start(self, split: Split, positions: np.ndarray) -> Reading:
        """Start to read; see `Reader`."""
        images = self.buffers.empty((len(positions), split.image_size, split.image_size, 3))
        rows, read_into = split.rows(positions), split.images.read_into
        chunks = [slice(first, first + CHUNK) for first in range(0, len(rows), CHUNK)]
        futures = [self._pool.submit(read_into, rows[chunk], images[chunk]) for chunk in chunks]
        return _ThreadReading(images, futures)
