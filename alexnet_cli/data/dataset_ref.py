"""Where a command's images come from: a folder that prep made, one at a URL, or tars as they are.

All give a `Dataset`. What lies at a URL is fetched into the cache; tars without our index are
measured, then streamed.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from alexnet_cli.data.images.resize import IMAGE_SIZE
from alexnet_cli.data.pixel_stats import PixelStats, load_pixel_stats
from alexnet_cli.data.remote.cache import (
    CachedFiles,
    cache_folder,
    fetch_all,
    open_files,
    say_missing,
)
from alexnet_cli.data.remote.measure import ShardMeasure, measure_all
from alexnet_cli.data.remote.stream import StreamSplit
from alexnet_cli.data.remote.tar_set import TarSet, split_of
from alexnet_cli.data.shards.dataset import Dataset, Split, open_dataset, read_samples, samples_name
from alexnet_cli.data.shards.index import INDEX_COPY, INDEX_NAME, MAX_SIDE, Index, Shard, read_index
from alexnet_cli.data.sources.labels import WNID, LabeledClasses
from alexnet_cli.data.sources.webdataset import names_beside, read_names
from alexnet_cli.errors import DatasetError
from alexnet_cli.io.progress import SILENT, Progress
from alexnet_cli.types import ImageClass

Location = Path | str | TarSet
MIN_SIDE = 8


def open_source(
    location: Location,
    splits: Sequence[str],
    *,
    at_once: bool = False,
    image_size: int | None = None,
    progress: Progress = SILENT,
) -> Dataset:
    """Open a folder, a URL or a set of tars.

    Args:
        splits: those that will be read.
        at_once: whether to fetch all their shards now, several at a time, instead of each when it
            is first read.
        image_size: what to bring the images of tars to; by default the size that they all have,
            or the paper's 256.

    Raises:
        InputError: it is no dataset, or a damaged one.
        MachineError: a disk or network fails.
        UsageError: it is not to be read from.
    """
    if isinstance(location, TarSet):
        return _open_tars(location, splits, image_size, progress)
    _check_no_tars(location)
    if isinstance(location, str):
        return _open_url(location, splits, at_once, progress)
    return open_dataset(location)


def _check_no_tars(location: Path | str) -> None:
    """Say what to do with tars that somebody takes for a dataset of ours."""
    is_bare = str(location).endswith(".tar")
    if isinstance(location, Path) and location.is_dir():
        indexed = any((location / name).is_file() for name in (INDEX_NAME, INDEX_COPY))
        is_bare = not indexed and any(location.glob("*.tar"))
    if is_bare:
        raise DatasetError(
            f"{location}: tars without an {INDEX_NAME}, so no dataset that prep made.\n"
            "To read them as they are: --stream. To make a dataset: alexnet prep FOLDER DATASET"
        )


def index_of(location: Path | str, progress: Progress = SILENT) -> Index:
    """Return the index of a folder or URL, of which nothing else is read.

    Raises:
        InputError: it is no dataset, or a damaged one.
        MachineError: a disk or network fails.
    """
    if isinstance(location, str):
        return open_files(location, progress).index
    return read_index(location)


def stats_of(dataset: Dataset) -> PixelStats:
    """Read the pixel statistics of an opened dataset.

    Raises:
        DatasetError: as `load_pixel_stats`.
    """
    called = f"--stream {dataset.name!r}" if dataset.streamed else dataset.name
    return load_pixel_stats(dataset.folder, dataset.fingerprint, called)


def _open_url(url: str, splits: Sequence[str], at_once: bool, progress: Progress) -> Dataset:
    files = open_files(url, progress)
    index = files.index
    if "train" in index.splits:
        files.fetch_stats()
    found = {
        name: Split(
            name,
            files.folder,
            split.shards,
            _samples(files, name),
            index.options["size"],
            partial(_fetch_shard, files, split.shards),
        )
        for name, split in index.splits.items()
    }
    shards = [shard for name in splits if name in found for shard in found[name].shards]
    (fetch_all if at_once else say_missing)(files, shards, progress)
    size = index.options["size"]
    return Dataset(files.folder, index.classes, found, size, index.fingerprint(), url)


def _fetch_shard(files: CachedFiles, shards: Sequence[Shard], number: int) -> None:
    files.fetch(shards[number])


def _samples(files: CachedFiles, split: str):
    """Return a split's sample index; one that was damaged in the cache is fetched anew."""
    name = samples_name(split)
    for is_last in (False, True):
        files.fetch_samples(split, name)
        try:
            return read_samples(files.folder, split, files.index)
        except DatasetError as error:
            (files.folder / name).unlink(missing_ok=True)
            if is_last:
                why = str(error).split("\n")[0].removeprefix(f"{files.folder / name}: ")
                raise DatasetError(f"{files.url}/{name}: {why}") from error
    raise AssertionError("the last try returns or raises")


def _open_tars(
    tars: TarSet, splits: Sequence[str], image_size: int | None, progress: Progress
) -> Dataset:
    names = tars.names()
    present = {split_of(name) for name in names}
    explicit = _explicit_classes(tars)
    needed = {*splits}
    if not explicit or "train" in splits:  # classes are those of the training images; and pca
        needed |= {"train", "val"}  # must name the same dataset as train
    wanted = [name for name in names if split_of(name) in needed]
    if not wanted:
        have = ", ".join(sorted(present))
        raise DatasetError(f"{tars}: no tar is named after {', '.join(splits)}. It has: {have}.")
    measures = measure_all(wanted, allow_pipe=tars.allow_pipe, progress=progress)
    classes = explicit or _classes(tars, measures)
    _check_labels(measures, len(classes))
    size = image_size or _common_side(measures)
    found: dict[str, StreamSplit] = {}
    for split in dict.fromkeys(split_of(measure.name) for measure in measures):
        mine = tuple(m for m in measures if split_of(m.name) == split)
        found[split] = StreamSplit(split, mine, size, tars.allow_pipe)
    fingerprint = _fingerprint(classes, measures)
    folder = cache_folder() / "streams" / fingerprint
    folder.mkdir(parents=True, exist_ok=True)
    return Dataset(folder, classes, found, size, fingerprint, str(tars), streamed=True)


def _explicit_classes(tars: TarSet) -> tuple[ImageClass, ...]:
    """Return the classes of a file whose lines are `WNID words`; none of any other file."""
    names = read_names(tars.classes) if tars.classes else []
    found = [re.fullmatch(rf"({WNID})\s*(.*)", name) for name in names]
    return tuple(ImageClass(m[1], m[2] or m[1]) for m in found) if all(found) else ()


def _classes(tars: TarSet, measures: Sequence[ShardMeasure]) -> tuple[ImageClass, ...]:
    """Return the classes as prep would number and name them."""
    names = read_names(tars.classes) if tars.classes else names_beside(Path(tars.pattern))
    labels = LabeledClasses(names)
    splits = {split_of(measure.name) for measure in measures}
    for measure in measures:
        split = split_of(measure.name) if "train" in splits else "train"
        for label, wnid in measure.wnids:
            labels.add(split, label, wnid, measure.name)
    return labels.classes()


def _check_labels(measures: Sequence[ShardMeasure], num_classes: int) -> None:
    for measure in measures:
        highest = max(measure.labels, default=0)
        if highest >= num_classes:
            key = measure.keys[measure.labels.index(highest)]
            raise DatasetError(
                f"{measure.name}: {key[:80]!a}: label {highest}, but the {num_classes} classes end "
                f"at {num_classes - 1}."
            )


def _common_side(measures: Sequence[ShardMeasure]) -> int:
    sides = {measure.side for measure in measures if measure.labels}
    side = sides.pop() if len(sides) == 1 else 0
    return side if MIN_SIDE <= side <= MAX_SIDE else IMAGE_SIZE


def _fingerprint(classes: Sequence[ImageClass], measures: Sequence[ShardMeasure]) -> str:
    """Return 16 hex digits that change with any image, label or class."""
    content = [[entry.wnid for entry in classes], [measure.sha256 for measure in measures]]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
