"""A split and an order -> uint8 batches, read straight into the memory of the batch.

A dataset that prep made is read like an array. Tars without an index are streamed (stream.py),
which cannot jump: skipping steps reads their bytes again. No torch here: pca and the ONNX side read
batches too.

N images of a batch, H and W the dataset's image size (256).
"""

from collections.abc import Generator
from contextlib import nullcontext

import numpy as np

from alexnet_cli.data.batches.readers import Reader, Reading, ThreadReader, complete_in_order
from alexnet_cli.data.remote.stream import StreamSplit
from alexnet_cli.data.shards.dataset import Split
from alexnet_cli.types import WHOLE_BATCH, Batch, BatchShard


def epoch_order(num_samples: int, seed: int, epoch: int) -> np.ndarray:
    """Return the permutation in which one epoch reads the training samples."""
    return np.random.default_rng([seed, epoch, 0x0DE8]).permutation(num_samples)


def order_of(split: Split, shuffle: tuple[int, int] | None) -> np.ndarray:
    """Return the positions of a split's samples in the order of an epoch."""
    return epoch_order(len(split), *shuffle) if shuffle else np.arange(len(split))


def batches_of(
    split: Split | StreamSplit,
    batch_size: int,
    *,
    shuffle: tuple[int, int] | None = None,
    first_step: int = 0,
    share: BatchShard = WHOLE_BATCH,
    num_threads: int | None = None,
    reader: Reader | None = None,
) -> Generator[Batch, None, None]:
    """Yield the samples of one epoch in batches; the last one may be short.

    A batch may be kept: its memory is reused only when nothing refers to it any more.

    Args:
        shuffle: (seed, epoch) of the order; None for stored order.
        first_step: number of batches to skip.
        share: the part of every batch to read; with several replicas a part may be empty.
        num_threads: threads that decode if no reader is given; by default one per core.
        reader: reads the images, or lends the memory for those of a stream, and stays open.

    Raises:
        DatasetError: if a sample does not decode, or a shard differs from its index or measure.
        MachineError: if a disk or network fails, or a process that decodes is lost.
    """
    if isinstance(split, StreamSplit):
        return split.epoch_batches(
            batch_size,
            shuffle=shuffle,
            first_step=first_step,
            share=share,
            num_threads=num_threads,
            buffers=reader.buffers if reader else None,
        )
    order = order_of(split, shuffle)[first_step * batch_size :]
    return load_batches(
        split, order, batch_size, share=share, num_threads=num_threads, reader=reader
    )


def load_batches(
    split: Split,
    order: np.ndarray,
    batch_size: int,
    *,
    share: BatchShard = WHOLE_BATCH,
    num_threads: int | None = None,
    reader: Reader | None = None,
) -> Generator[Batch, None, None]:
    """Yield the samples at the positions of `order` in batches; see `batches_of`."""
    with nullcontext(reader) if reader else ThreadReader(num_threads) as reader:
        parts = (order[first : first + batch_size] for first in range(0, len(order), batch_size))
        yield from complete_in_order(
            _start_batch(reader, split, part[share.rows(len(part))]) for part in parts
        )


def _start_batch(reader: Reader, split: Split, positions: np.ndarray) -> tuple[Batch, Reading]:
    split.fetch_shards_of(positions)  # in this thread, where a signal can end it
    reading = reader.start(split, positions)
    labels = split.samples["label"][positions].astype(np.int64)
    return Batch(reading.images, labels, positions), reading
