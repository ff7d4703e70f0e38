"""Tars without an index, streamed: the samples of tars that others made, in batches.

Every epoch is one pass over all tars; webdataset lists them and groups their members. The order of
the tars, and of the samples in a shuffle buffer, is drawn from (seed, epoch). Unlike that of an
indexed dataset, it is not a uniform permutation of all samples. Resuming within an epoch reads the
skipped samples again, without decoding them.

N images of a batch, H and W the size that images are resized to.
"""

import hashlib
import json
import os
import random
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, nullcontext
from dataclasses import dataclass
from itertools import accumulate, islice
from pathlib import Path
from queue import Full, Queue
from typing import Any

import numpy as np
import simplejpeg

from alexnet_cli.data.batches.buffers import Buffers
from alexnet_cli.data.batches.readers import ThreadReading, complete_in_order
from alexnet_cli.data.images.orientation import find_orientation
from alexnet_cli.data.images.resize import IMAGE_SIZE, to_square
from alexnet_cli.data.remote.cache import cache_folder
from alexnet_cli.data.remote.files import is_url
from alexnet_cli.data.remote.measure import TarMeasure, forget, measure_all
from alexnet_cli.data.remote.tar_set import PIPE, TarSet, open_tar, split_of
from alexnet_cli.data.remote.tar_stream import RawSample, TarStream, image_size_of, read_samples
from alexnet_cli.data.shards.dataset import Dataset
from alexnet_cli.data.shards.index import MAX_SIDE
from alexnet_cli.data.sources.class_list import FROM_1, ClassList, names_beside, read_class_list
from alexnet_cli.data.sources.labels import LabeledClasses
from alexnet_cli.data.sources.samples import IMAGES
from alexnet_cli.errors import DatasetError, ImageError, counted
from alexnet_cli.io.cores import num_workers
from alexnet_cli.io.progress import SILENT, Progress
from alexnet_cli.types import (
    USUAL_RULES,
    WHOLE_BATCH,
    Batch,
    BatchShard,
    DecodeRules,
    ImageClass,
)

BUFFER_SAMPLES = 8192
BUFFER_BYTES = 1 << 27
PENDING_BYTES = 1 << 25  # encoded images that wait to be decoded
SAMPLES_AHEAD = 4  # samples that the reading thread reads ahead
DECODER_BYTES = 1 << 26  # of a thread: an image of LARGE_PIXELS in several forms
LARGE_PIXELS = 1 << 22
MIN_SIDE = 8
Placed = tuple[int, RawSample]  # a sample with its position in its split
_one_large = threading.Lock()  # resizing a large image takes 10 bytes per pixel


def open_tars(
    tars: TarSet,
    splits: Sequence[str],
    image_size: int | None = None,
    rules: DecodeRules = USUAL_RULES,
    progress: Progress = SILENT,
) -> Dataset:
    """Open tars as a dataset, after measuring those that were not measured before.

    Args:
        splits: those that will be read.
        image_size: size to resize the images to; by default the size that they all have, or the
            paper's 256.
        rules: how the images become pixels, where the files alone do not decide it.

    Raises:
        AlexNetError: if a tar is damaged or cannot be read, or a label has no class.
    """
    names = tars.names()
    listed = _class_list(tars)
    explicit = listed.classes() if listed and tars.classes else ()
    needed = {*splits}
    if not explicit or "train" in splits:  # classes are those of the training images; and pca
        needed |= {"train", "val"}  # must name the same dataset as train
    wanted = [name for name in names if split_of(name) in needed]
    if not wanted:
        have = ", ".join(sorted({split_of(name) for name in names}))
        raise DatasetError(f"{tars}: no tar is named after {', '.join(splits)}. It has: {have}.")
    measures = measure_all(wanted, allow_pipe=tars.allow_pipe, progress=progress)
    _check_found(tars, measures, progress)
    numbered = _classes(listed, measures, progress)
    classes = explicit or numbered
    _check_labels(measures, len(classes))
    size = image_size or _common_side(measures)
    by_split: dict[str, list[TarMeasure]] = {}
    for measure in measures:
        by_split.setdefault(split_of(measure.name), []).append(measure)
    found = {
        split: StreamSplit(split, tuple(mine), size, tars.allow_pipe, rules)
        for split, mine in by_split.items()
    }
    content = [[entry.wnid for entry in classes], [measure.sha256 for measure in measures]]
    fingerprint = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
    folder = cache_folder() / "streams" / fingerprint
    folder.mkdir(parents=True, exist_ok=True)
    return Dataset(folder, classes, found, size, fingerprint, str(tars), streamed=True, rules=rules)


def _check_found(tars: TarSet, measures: Sequence[TarMeasure], progress: Progress) -> None:
    """Say what is passed over; raise a DatasetError if that is everything."""
    passed_over = tars.passed_over
    passed_over.clear()
    for measure in measures:
        passed_over.update(dict(measure.passed_over))
    counts = ", ".join(f"{count:,} {reason}" for reason, count in sorted(passed_over.items()))
    if not any(measure.labels for measure in measures):
        raise DatasetError(
            f"{tars}: no sample was found" + (f"; passed over: {counts}." if counts else "."),
            hint=f"A sample is KEY.{'|'.join(IMAGES)} with KEY.cls or KEY.json.",
        )
    if counts:
        progress.say(f"warning: passed over in {tars}: {counts}")


def _class_list(tars: TarSet) -> ClassList | None:
    """Return the names of the classes that the user has, or that are beside the tars."""
    if tars.classes:
        return read_class_list(tars.classes)
    if is_url(tars.pattern) or tars.pattern.startswith(PIPE):
        return None
    place = Path(tars.pattern)
    return names_beside(place if place.is_dir() else place.parent)


def _classes(
    listed: ClassList | None, measures: Sequence[TarMeasure], progress: Progress
) -> tuple[ImageClass, ...]:
    """Return the classes as prep would number and name them.

    Raises:
        SourceError: if what images say contradicts the list, or a label is not in it.
    """
    labels = LabeledClasses(listed)
    for measure in measures:
        for label, wnid, key in measure.wnids:
            labels.add(split_of(measure.name), label, wnid, f"{measure.name}: {key[:80]!a}")
        for label, says, text, key in measure.said:
            labels.compare(label, says, text, f"{measure.name}: {key[:80]!a}")
    classes = labels.classes()
    if listed is None and labels.seems_to_count_from_1():
        progress.say(f"warning: no sample has label 0, all others are there. {FROM_1}")
    return classes


def _check_labels(measures: Sequence[TarMeasure], num_classes: int) -> None:
    for measure in measures:
        highest = max(measure.labels, default=0)
        if highest >= num_classes:
            key = measure.keys[measure.labels.index(highest)]
            raise DatasetError(
                f"{measure.name}: {key[:80]!a}: label {highest}, but the "
                f"{counted(num_classes, 'class ends', 'classes end')} "
                f"at {num_classes - 1}."
            )


def _common_side(measures: Sequence[TarMeasure]) -> int:
    sides = {measure.side for measure in measures if measure.labels}
    side = sides.pop() if len(sides) == 1 else 0
    return side if MIN_SIDE <= side <= MAX_SIDE else IMAGE_SIZE


@dataclass(frozen=True, slots=True)
class StreamSplit:
    """The samples of one split, read one after the other."""

    name: str
    tars: tuple[TarMeasure, ...]
    image_size: int
    allow_pipe: bool = False
    rules: DecodeRules = USUAL_RULES

    def __len__(self) -> int:
        return sum(len(tar.labels) for tar in self.tars)

    @property
    def labels(self) -> np.ndarray:
        """int64 (N,): the labels in stored order."""
        return np.concatenate([np.array(tar.labels, np.int64) for tar in self.tars])

    def keys(self) -> list[str]:
        """Return tar and key of each sample in stored order, with what else makes them unique."""
        names = [tar.name.rpartition("/")[2] for tar in self.tars]
        if len(set(names)) < len(names):
            whole = [tar.name for tar in self.tars]
            same = os.path.commonprefix(whole)  # noqa: RUF071 - of URLs too
            names = [name[same.rfind("/") + 1 :] for name in whole]
        named = zip(names, self.tars, strict=True)
        keys = [f"{name}/{key}" for name, tar in named for key in tar.keys]
        if len(set(keys)) < len(keys):  # a tar that was appended to another, for example
            return [f"{key} ({number})" for number, key in enumerate(keys)]
        return keys

    def epoch_batches(
        self,
        batch_size: int,
        *,
        shuffle: tuple[int, int] | None = None,
        first_step: int = 0,
        share: BatchShard = WHOLE_BATCH,
        num_threads: int | None = None,
        buffers: Buffers | None = None,
    ) -> Generator[Batch, None, None]:
        """Yield all samples in batches; see `loader.batches_of`.

        Args:
            first_step: number of batches to skip; their bytes are read nevertheless.
            share: the part of every batch to decode; every replica reads all bytes.
            buffers: lend the memory of the images.

        Raises:
            DatasetError: if a tar differs from its measure, or an image cannot be read.
            MachineError: if the disk, the network or a command fails.
        """
        buffers = buffers or Buffers()
        samples = _read_ahead(self._samples(shuffle), SAMPLES_AHEAD)

        def started() -> Iterator[tuple[Batch, ThreadReading]]:
            for first in range(0, len(self), batch_size):
                num = min(batch_size, len(self) - first)
                if first < first_step * batch_size:
                    deque(islice(samples, num), maxlen=0)
                else:
                    yield self._start_batch(samples, num, share.rows(num), buffers, pool)
            deque(samples, maxlen=0)  # reads to the end of the last tar, where it is checked

        with _DecodingPool(num_threads or num_workers(DECODER_BYTES)[0]) as pool, closing(samples):
            yield from complete_in_order(started())

    def _start_batch(
        self,
        samples: Iterator[Placed],
        num: int,
        rows: slice,
        buffers: Buffers,
        pool: "_DecodingPool",
    ) -> tuple[Batch, ThreadReading]:
        """Take a batch of samples and start to decode those of `rows`."""
        count = rows.stop - rows.start
        images = buffers.empty((count, self.image_size, self.image_size, 3))
        labels, positions = np.empty(count, np.int64), np.empty(count, np.int64)
        futures = []
        for row, (position, sample) in enumerate(islice(samples, num), -rows.start):
            if 0 <= row < count:
                labels[row], positions[row] = sample.label, position
                futures.append(pool.decode(sample, images[row], self.rules))
        return Batch(images, labels, positions), ThreadReading(images, futures)

    def _samples(self, shuffle: tuple[int, int] | None) -> Generator[Placed]:
        """Yield all samples in the order of one epoch."""
        import webdataset  # loads torch, two seconds

        seed = f"{shuffle[0]} {shuffle[1]}" if shuffle else None
        shards = webdataset.SimpleShardList([tar.name for tar in self.tars], seed)
        pipeline = webdataset.DataPipeline(shards, self._placed)
        yield from _shuffled(pipeline, random.Random(seed)) if seed else pipeline

    def _placed(self, listed: Iterator[dict]) -> Iterator[Placed]:
        """Yield the samples of each listed tar, checking that they are those measured."""
        firsts = accumulate((len(tar.labels) for tar in self.tars), initial=0)
        known = {tar.name: (tar, first) for tar, first in zip(self.tars, firsts, strict=False)}
        for entry in listed:
            tar, first = known[entry["url"]]
            try:
                yield from self._samples_of(tar, first)
            except DatasetError:
                forget(tar.name)
                raise

    def _samples_of(self, tar: TarMeasure, first: int) -> Iterator[Placed]:
        num = 0
        with open_tar(tar.name, allow_pipe=self.allow_pipe) as source:
            stream = TarStream(source, tar.name)
            for num, sample in enumerate(read_samples(stream), 1):
                if num > len(tar.labels) or sample.label != tar.labels[num - 1]:
                    raise tar.changed(f"sample {num} differs from the measured one")
                yield first + num - 1, sample
            tar.check(num, stream.digest.hexdigest())


def _shuffled(samples: Iterable[Placed], rng: random.Random) -> Iterator[Placed]:
    """Shuffle in a buffer that is bounded in bytes too, which webdataset's is not."""
    buffer, num_bytes = [], 0
    for placed in samples:
        buffer.append(placed)
        num_bytes += len(placed[1].content)
        while len(buffer) > BUFFER_SAMPLES or num_bytes > BUFFER_BYTES:
            chosen = rng.randrange(len(buffer))
            buffer[chosen], buffer[-1] = buffer[-1], buffer[chosen]
            num_bytes -= len(buffer[-1][1].content)
            yield buffer.pop()
    rng.shuffle(buffer)
    yield from buffer


def _read_ahead(items: Generator[Any], count: int) -> Generator[Any]:
    """Run an iterator in its own daemon thread, `count` items ahead.

    A hung server cannot block shutdown then.
    """
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


class _DecodingPool(ThreadPoolExecutor):
    """Threads that decode images, and hold few encoded bytes meanwhile."""

    def __init__(self, num_threads: int):
        super().__init__(num_threads)
        self._decoding: deque[tuple[Future, int]] = deque()
        self._num_bytes = 0

    def __exit__(self, *_: object) -> None:
        self.shutdown(cancel_futures=True)

    def decode(self, sample: RawSample, image: np.ndarray, rules: DecodeRules) -> Future:
        """Start to decode an image, after waiting while too many bytes are held."""
        num_bytes = len(sample.content)
        while self._decoding and self._num_bytes + num_bytes > PENDING_BYTES:
            future, done = self._decoding.popleft()
            future.result()
            self._num_bytes -= done
        future = self.submit(_decode_into, sample, image, rules)
        self._decoding.append((future, num_bytes))
        self._num_bytes += num_bytes
        return future


def _decode_into(sample: RawSample, image: np.ndarray, rules: DecodeRules) -> None:
    """Decode an image into uint8 RGB (H, W, 3), resized and cropped as prep does."""
    content = sample.content
    height, width = image_size_of(content)
    try:
        # The decoder fills the rest of a JPEG that is cut with gray.
        is_whole = content[:2] == b"\xff\xd8" and content[-2:] == b"\xff\xd9"
        is_turned = rules.apply_orientation and find_orientation(content) != 1
        if (height, width) == image.shape[:2] and is_whole and not is_turned:
            simplejpeg.decode_jpeg(content, "RGB", buffer=image)
            return
        with _one_large if height * width > LARGE_PIXELS else nullcontext():
            image[:] = to_square(content, len(image), rules)
    except (ImageError, ValueError) as error:
        raise DatasetError(
            f"{sample.tar}: sample {sample.key[:80]!a} cannot be read ({error}).",
            hint="prep leaves such images out and counts them: alexnet prep FOLDER DATASET",
        ) from error
