"""One pass over a split, whichever reader it has: every sample once, in stored or in drawn order.

A dataset that prep made is read like an array (loader.py). Tars without an index are streamed
(stream.py), which cannot jump: passing over steps reads their bytes again.
"""

from collections.abc import Iterator

import numpy as np

from alexnet_cli.data.batches.loader import WHOLE, Batch, Share, epoch_order, load_batches
from alexnet_cli.data.batches.readers import Reader
from alexnet_cli.data.remote.stream import StreamSplit
from alexnet_cli.data.shards.dataset import Split


def batches_of(
    split: Split | StreamSplit,
    batch_size: int,
    *,
    shuffle: tuple[int, int] | None = None,
    first_step: int = 0,
    share: Share = WHOLE,
    num_threads: int | None = None,
    reader: Reader | None = None,
) -> Iterator[Batch]:
    """Yield the samples of one epoch in batches; the last one may be short.

    A batch may be held: its memory is reused only when nothing refers to it any more.

    Args:
        shuffle: (seed, epoch) of the order; None for stored order.
        first_step: how many batches to pass over.
        share: of every batch; where it is of several, a batch may be empty.
        num_threads: that decode; by default one a core.
        reader: reads the images, or lends the memory for those of a stream, and stays open.

    Raises:
        DatasetError: a sample does not decode, or a shard is not as it was indexed or measured.
        MachineError: a disk or network fails.
    """
    if isinstance(split, StreamSplit):
        how = {"shuffle": shuffle, "first_step": first_step}
        how |= {"share": share, "num_threads": num_threads}
        return split.epoch_batches(batch_size, buffers=reader and reader.buffers, **how)
    rest = order_of(split, shuffle)[first_step * batch_size :]
    how = {"share": share, "num_threads": num_threads, "reader": reader}
    return load_batches(split, rest, batch_size, **how)


def order_of(split: Split, shuffle: tuple[int, int] | None) -> np.ndarray:
    """Return the positions of a split's samples in the order of an epoch."""
    return epoch_order(len(split), *shuffle) if shuffle else np.arange(len(split))
