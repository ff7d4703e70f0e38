"""A split and an order -> uint8 batches, read straight into the memory of the batch.

No torch here: pca and the ONNX side read batches too.

N images of a batch, H and W the dataset's image size (256).
"""

from collections import deque
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np

from alexnet_cli.data.batches.readers import Reader, Reading, ThreadReader
from alexnet_cli.data.shards.dataset import Split

BATCHES_AHEAD = 3


@dataclass(frozen=True, slots=True)
class Batch:
    """Some samples, in the order asked for.

    Attributes:
        images: uint8 RGB (N, H, W, 3), 0..255.
        labels: int64 (N,).
        positions: int64 (N,), where each sample stands in its split.
    """

    images: np.ndarray
    labels: np.ndarray
    positions: np.ndarray


@dataclass(frozen=True, slots=True)
class Share:
    """The part of every batch that one of several replicas takes; all of it where there is one."""

    rank: int = 0
    count: int = 1

    def rows(self, num: int) -> slice:
        """Return this replica's rows of `num`; the replicas' rows, in order, are all of them."""
        return slice(num * self.rank // self.count, num * (self.rank + 1) // self.count)


WHOLE = Share()


def epoch_order(num_samples: int, seed: int, epoch: int) -> np.ndarray:
    """Return the permutation in which one epoch sees the training samples, each exactly once."""
    return np.random.default_rng([seed, epoch, 0x0DE8]).permutation(num_samples)


def load_batches(
    split: Split,
    order: np.ndarray,
    batch_size: int,
    *,
    share: Share = WHOLE,
    num_threads: int | None = None,
    reader: Reader | None = None,
) -> Iterator[Batch]:
    """Yield the samples of `order` in batches; the last one may be short.

    A batch may be held: its memory is reused only when nothing refers to it any more.

    Args:
        share: of every batch; where it is of several, a batch may be empty.
        num_threads: that read, where no reader is given; by default one per core.
        reader: reads the images, and stays open.

    Raises:
        DatasetError: a sample does not decode to the dataset's size; it names shard and key.
        MachineError: the disk fails, or a process that decodes is lost.
    """
    with nullcontext(reader) if reader else ThreadReader(num_threads) as reader:
        pending: deque[tuple[Batch, Reading]] = deque()
        try:
            for start in range(0, len(order), batch_size):
                whole = order[start : start + batch_size]
                pending.append(_start_batch(reader, split, whole[share.rows(len(whole))]))
                if len(pending) > BATCHES_AHEAD:
                    yield _finish_batch(*pending.popleft())
            while pending:
                yield _finish_batch(*pending.popleft())
        finally:
            for _, reading in pending:
                reading.cancel()


def _start_batch(reader: Reader, split: Split, positions: np.ndarray) -> tuple[Batch, Reading]:
    split.make_ready(positions)  # here, where a signal ends it, and not in a thread
    reading = reader.start(split, positions)
    labels = split.samples["label"][positions].astype(np.int64)
    return Batch(reading.images, labels, positions), reading


def _finish_batch(batch: Batch, reading: Reading) -> Batch:
    reading.wait()
    return batch
