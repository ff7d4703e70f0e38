"""A split and an order -> uint8 batches, decoded by threads straight into the batch.

simplejpeg releases the GIL, so threads decode in parallel and nothing is pickled or copied between
processes. No torch here: pca and the ONNX side read batches too.

N images of a batch, H and W the dataset's image size (256).
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import simplejpeg

from alexnet_cli.cores import num_cores
from alexnet_cli.data.shards.dataset import Split
from alexnet_cli.errors import DatasetError

CHUNK = 16  # images a thread decodes at a time
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
) -> Iterator[Batch]:
    """Yield the samples of `order` in batches; the last one may be short.

    Args:
        share: of every batch; where it is of several, a batch may be empty.

    Raises:
        DatasetError: a sample does not decode to the dataset's size; it names shard and key.
    """
    with ThreadPoolExecutor(num_threads or num_cores()) as pool:
        pending: deque[tuple[Batch, list[Future]]] = deque()
        try:
            for start in range(0, len(order), batch_size):
                whole = order[start : start + batch_size]
                pending.append(_start_batch(pool, split, whole[share.rows(len(whole))]))
                if len(pending) > BATCHES_AHEAD:
                    yield _finish_batch(*pending.popleft())
            while pending:
                yield _finish_batch(*pending.popleft())
        finally:
            for _, futures in pending:
                for future in futures:
                    future.cancel()


def _start_batch(
    pool: ThreadPoolExecutor, split: Split, positions: np.ndarray
) -> tuple[Batch, list[Future]]:
    split.make_ready(positions)  # here, where a signal ends it, and not in a thread
    size = split.image_size
    images = np.empty((len(positions), size, size, 3), np.uint8)
    labels = split.samples["label"][positions].astype(np.int64)
    futures = [
        pool.submit(_decode_into, split, positions[at : at + CHUNK], images[at : at + CHUNK])
        for at in range(0, len(positions), CHUNK)
    ]
    return Batch(images, labels, positions), futures


def _finish_batch(batch: Batch, futures: list[Future]) -> Batch:
    for future in futures:
        future.result()
    return batch


def _decode_into(split: Split, positions: np.ndarray, images: np.ndarray) -> None:
    for position, image in zip(positions.tolist(), images, strict=True):
        try:
            pixels = simplejpeg.decode_jpeg(split.jpeg(position), "RGB", buffer=image)
        except ValueError as error:
            raise DatasetError(
                f"{split.where(position)} does not decode ({error}).\n"
                f"The shard changed since prep wrote it. See what: alexnet verify {split.folder}"
            ) from error
        if pixels.shape != image.shape:
            raise DatasetError(f"{split.where(position)} is {pixels.shape}, not {image.shape}.")
