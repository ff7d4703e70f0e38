"""Shards without our index, streamed: the samples of tars that others made, in batches.

Every epoch is one pass over all tars: webdataset lists them and groups their members. Their order
is drawn by (seed, epoch), and so is the order of the samples that are in a buffer at a time; unlike
the indexed reader's that is no permutation of the whole set. Going on within an epoch reads again,
without decoding, what came before.

N images of a batch, H and W the size that images are brought to.
"""

import random
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, nullcontext
from dataclasses import dataclass
from itertools import islice
from queue import Full, Queue
from typing import Any

import numpy as np
import simplejpeg

from alexnet_cli.data.batches.buffers import Buffers
from alexnet_cli.data.batches.loader import BATCHES_AHEAD, WHOLE, Batch, Share
from alexnet_cli.data.images.resize import to_square
from alexnet_cli.data.remote.measure import (
    RawSample,
    ShardMeasure,
    forget,
    image_size_of,
    read_samples,
)
from alexnet_cli.data.remote.tar_set import open_tar
from alexnet_cli.data.remote.tar_stream import TarStream
from alexnet_cli.errors import DatasetError, ImageError
from alexnet_cli.io.cores import num_cores

BUFFER_SAMPLES = 8192
BUFFER_BYTES = 1 << 27
PENDING_BYTES = 1 << 25  # encoded images that wait to be decoded
SAMPLES_AHEAD = 4  # that the reading thread is ahead
MAX_PIXELS = 3 << 24
LARGE_PIXELS = 1 << 22
_one_large = threading.Lock()  # a large image takes 10 bytes a pixel while it is resized


@dataclass(frozen=True, slots=True)
class Placed:
    """A sample and where it stands in its split."""

    position: int
    sample: RawSample
    tar: str


@dataclass(frozen=True, slots=True)
class StreamSplit:
    """The samples of one split, which come one after the other."""

    name: str
    tars: tuple[ShardMeasure, ...]
    image_size: int
    allow_pipe: bool = False

    def __len__(self) -> int:
        return sum(len(tar.labels) for tar in self.tars)

    @property
    def labels(self) -> np.ndarray:
        """int64 (N,): the labels in stored order."""
        return np.concatenate([np.array(tar.labels, np.int64) for tar in self.tars])

    def keys(self) -> list[str]:
        """Return tar and key of each sample in stored order."""
        named = [(tar.name.rpartition("/")[2], tar.keys) for tar in self.tars]
        return [f"{name}/{key}" for name, keys in named for key in keys]

    def epoch_batches(
        self,
        batch_size: int,
        *,
        shuffle: tuple[int, int] | None = None,
        first_step: int = 0,
        share: Share = WHOLE,
        num_threads: int | None = None,
        buffers: Buffers | None = None,
    ) -> Iterator[Batch]:
        """Yield all samples once in batches, which may be held; the last one may be short.

        Args:
            shuffle: (seed, epoch) of the order; None for stored order.
            first_step: how many batches to pass over; their bytes are read all the same.
            share: of every batch; every replica reads all bytes, and decodes its own.
            buffers: lend the memory of the images.

        Raises:
            DatasetError: a tar is not as it was measured, or an image cannot be read.
            MachineError: the disk, the network or a command fails.
        """
        num_threads = num_threads or num_cores()
        decoder = _Decoder(self.image_size, num_threads, buffers or Buffers())
        with decoder, closing(_read_ahead(self._samples(shuffle), SAMPLES_AHEAD)) as samples:
            for passed in range(0, len(self), batch_size):
                num = min(batch_size, len(self) - passed)
                if passed < first_step * batch_size:
                    deque(islice(samples, num), maxlen=0)
                    continue
                decoder.start(islice(samples, num), share.rows(num))
                if decoder.num_ahead > BATCHES_AHEAD:
                    yield decoder.finish()
            deque(samples, maxlen=0)  # reads to the last tar's end, where the tar is checked
            while decoder.num_ahead:
                yield decoder.finish()

    def _samples(self, shuffle: tuple[int, int] | None) -> Iterator[Placed]:
        """Yield all samples in the order of one epoch."""
        import webdataset  # loads torch, two seconds

        seed = f"{shuffle[0]} {shuffle[1]}" if shuffle else None
        stages = [webdataset.SimpleShardList([tar.name for tar in self.tars], seed), self._placed]
        if seed:
            stages.append(lambda samples: _shuffled(samples, random.Random(seed)))
        return iter(webdataset.DataPipeline(*stages))

    def _placed(self, listed: Iterator[dict]) -> Iterator[Placed]:
        """Yield the samples of each listed tar, and see that they are those that were measured."""
        firsts = np.cumsum([0, *(len(tar.labels) for tar in self.tars)]).tolist()
        known = {tar.name: (tar, first) for tar, first in zip(self.tars, firsts[:-1], strict=True)}
        for entry in listed:
            tar, first = known[entry["url"]]
            try:
                yield from self._placed_of(tar, first)
            except DatasetError:
                forget(tar.name)
                raise

    def _placed_of(self, tar: ShardMeasure, first: int) -> Iterator[Placed]:
        num = 0
        with open_tar(tar.name, allow_pipe=self.allow_pipe) as source:
            stream = TarStream(source, tar.name)
            for num, sample in enumerate(read_samples(stream), 1):
                if num > len(tar.labels) or sample.label != tar.labels[num - 1]:
                    raise tar.changed(f"sample {num} is none that was measured")
                yield Placed(first + num - 1, sample, tar.name)
            tar.check(num, stream.digest.hexdigest())


def _shuffled(samples: Iterator[Placed], rng: random.Random) -> Iterator[Placed]:
    """Yield samples out of a buffer that is bounded in bytes too, which webdataset's is not."""
    buffer, held = [], 0
    for sample in samples:
        buffer.append(sample)
        held += len(sample.sample.content)
        while len(buffer) > BUFFER_SAMPLES or held > BUFFER_BYTES:
            chosen = rng.randrange(len(buffer))
            buffer[chosen], buffer[-1] = buffer[-1], buffer[chosen]
            held -= len(buffer[-1].sample.content)
            yield buffer.pop()
    rng.shuffle(buffer)
    yield from buffer


def _read_ahead(items: Iterator[Any], count: int) -> Iterator[Any]:
    """Yield what an iterator yields, run in a thread of its own that is `count` items ahead."""
    queue: Queue[tuple[Any, BaseException | None]] = Queue(count)
    stopping = threading.Event()
    end = object()

    def put(item: Any, error: BaseException | None = None) -> None:
        while not stopping.is_set():
            try:
                return queue.put((item, error), timeout=0.1)
            except Full:
                continue

    def run() -> None:
        try:
            with closing(items):
                for item in items:
                    put(item)
                    if stopping.is_set():
                        return
            put(end)
        except BaseException as error:  # raised where the items are used
            put(end, error)

    threading.Thread(target=run, daemon=True).start()
    try:
        while True:
            item, error = queue.get()
            if error is not None:
                raise error
            if item is end:
                return
            yield item
    finally:
        stopping.set()


class _Decoder:
    """Decodes batches in threads, some ahead of the one that is used.

    Attributes:
        num_ahead: batches begun and not yet finished.
    """

    def __init__(self, image_size: int, num_threads: int, buffers: Buffers):
        self._size, self._num_threads, self._buffers = image_size, num_threads, buffers
        self._batches: deque[tuple[Batch, list[Future]]] = deque()
        self._waiting: deque[tuple[Future, int]] = deque()
        self._waiting_bytes = 0

    def __enter__(self) -> "_Decoder":
        self._pool = ThreadPoolExecutor(self._num_threads)
        return self

    def __exit__(self, *_) -> None:
        self._pool.shutdown(cancel_futures=True)

    @property
    def num_ahead(self) -> int:
        return len(self._batches)

    def start(self, samples: Iterator[Placed], rows: slice) -> None:
        """Take a batch of samples and begin to decode those of `rows`."""
        count = rows.stop - rows.start
        images = self._buffers.empty((count, self._size, self._size, 3))
        labels, positions = np.empty(count, np.int64), np.empty(count, np.int64)
        futures = []
        for row, placed in enumerate(samples, -rows.start):
            if 0 <= row < count:
                labels[row], positions[row] = placed.sample.label, placed.position
                futures.append(self._decode(placed, images[row]))
        self._batches.append((Batch(images, labels, positions), futures))

    def finish(self) -> Batch:
        """Return the oldest batch."""
        batch, futures = self._batches.popleft()
        for future in futures:
            future.result()
        return batch

    def _decode(self, placed: Placed, image: np.ndarray) -> Future:
        """Begin to decode an image once not too many bytes wait for it."""
        num_bytes = len(placed.sample.content)
        while self._waiting and self._waiting_bytes + num_bytes > PENDING_BYTES:
            future, done = self._waiting.popleft()
            future.result()
            self._waiting_bytes -= done
        future = self._pool.submit(_decode_into, placed, image)
        self._waiting.append((future, num_bytes))
        self._waiting_bytes += num_bytes
        return future


def _decode_into(placed: Placed, image: np.ndarray) -> None:
    """Decode an image into uint8 RGB (H, W, 3), resized and cut as prep does."""
    content, (height, width) = placed.sample.content, image_size_of(placed.sample.content)
    try:
        if height * width > MAX_PIXELS:
            raise ImageError("too-many-pixels", f"{width} x {height}")
        if (height, width) == image.shape[:2] and content[:2] == b"\xff\xd8":
            simplejpeg.decode_jpeg(content, "RGB", buffer=image)
            return
        with _one_large if height * width > LARGE_PIXELS else nullcontext():
            image[:] = to_square(content, len(image))
    except (ImageError, ValueError) as error:
        raise DatasetError(
            f"{placed.tar}: sample {placed.sample.key[:80]!a} cannot be read ({error}).\n"
            "prep leaves such images out and counts them: alexnet prep FOLDER DATASET"
        ) from error
