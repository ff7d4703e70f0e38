"""A dataset's images decoded once, for machines whose cores decode too slowly.

FOLDER/SPLIT-FINGERPRINT.raw holds N images uint8 (H, W, 3) in stored order, then N CRC-32 (<u4) of
their pixels, then a SHA-256 of the dataset's fingerprint, the split and the CRCs. FOLDER is the
dataset's, or one in the cache folder if the dataset's is not writable.
"""

import hashlib
import os
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from alexnet_cli.data.batches.loader import load_batches
from alexnet_cli.data.remote.cache import cache_folder, locked_file
from alexnet_cli.data.shards.dataset import Dataset, Split
from alexnet_cli.data.shards.images import RawImages
from alexnet_cli.errors import MachineError, UsageError, hint
from alexnet_cli.io.atomic import write_atomically
from alexnet_cli.io.disk import advice_on, check_room, fault_in_words, size_in_words
from alexnet_cli.io.progress import SILENT, Progress

BATCH_SIZE = 64
CRC_BYTES = 4
CHECKSUM_BYTES = hashlib.sha256().digest_size


def with_raw_cache(dataset: Dataset, splits: Sequence[str], progress: Progress = SILENT) -> Dataset:
    """Return the dataset with some of its splits read from decoded images, bit for bit the same.

    A missing or damaged cache is built; if another process of this machine builds it, this one
    waits.

    Raises:
        DatasetError: if a sample does not decode.
        MachineError: if the disk has no room, or fails; nothing incomplete is left.
        UsageError: if the dataset is streamed.
    """
    if dataset.streamed:
        raise UsageError(
            f"{dataset.name}: tars that are streamed; only a dataset that prep made can be cached.",
            hint=hint("raw_cache_of_tars", tars=dataset.name),
        )
    present = [name for name in splits if len(dataset.splits.get(name, ()))]
    cached = {name: _cached(dataset, dataset.splits[name], progress) for name in present}
    return replace(dataset, splits=dataset.splits | cached)


def _cached(dataset: Dataset, split: Split, progress: Progress) -> Split:
    path = dataset.folder / f"{split.name}-{dataset.fingerprint}.raw"
    crc32 = _read_crc32(path, dataset, split)
    if crc32 is None:
        path = _writable_folder(dataset) / path.name
        crc32 = _read_crc32(path, dataset, split)
    if crc32 is None:
        size = size_in_words(_num_bytes(split))
        progress.say(f"{path}: {len(split):,} decoded images, {size}, to be built once")
        try:
            with locked_file(path):
                crc32 = _read_crc32(path, dataset, split)
                if crc32 is None:
                    crc32 = _build(path, dataset, split, progress)
        except OSError as error:
            raise MachineError(
                f"{fault_in_words(error, path)}.",
                kept="Nothing incomplete was kept.",
                hint=advice_on(error),
            ) from error
    return replace(split, raw=RawImages(path, crc32))


def _writable_folder(dataset: Dataset) -> Path:
    if os.access(dataset.folder, os.W_OK | os.X_OK):
        return dataset.folder
    folder = cache_folder() / "raw"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _num_bytes(split: Split) -> int:
    return len(split) * (3 * split.image_size**2 + CRC_BYTES) + CHECKSUM_BYTES


def _checksum(dataset: Dataset, split: Split, crc32: np.ndarray) -> bytes:
    belongs = f"{dataset.fingerprint} {split.name} {len(split)} {split.image_size}\n"
    return hashlib.sha256(belongs.encode() + crc32.tobytes()).digest()


def _read_crc32(path: Path, dataset: Dataset, split: Split) -> np.ndarray | None:
    """Return the CRC-32 of every image in a cache; None if there is no cache that can be used."""
    if not path.is_file() or path.stat().st_size != _num_bytes(split):
        return None
    with path.open("rb") as file:
        file.seek(-len(split) * CRC_BYTES - CHECKSUM_BYTES, os.SEEK_END)
        crc32 = np.frombuffer(file.read(len(split) * CRC_BYTES), "<u4")
        return crc32 if file.read() == _checksum(dataset, split, crc32) else None


def _build(path: Path, dataset: Dataset, split: Split, progress: Progress) -> np.ndarray:
    """Decode all images of a split into a new file, and return their CRC-32."""
    if path.is_file():
        progress.say(f"{path}: damaged; it is built again")
        path.unlink()
    for stale in path.parent.glob(f"{split.name}-*.raw") if path.parent == dataset.folder else ():
        progress.say(f"{stale}: made from other images than the dataset now has; it is removed")
        stale.unlink()
    check_room(path.parent, _num_bytes(split), "the decoded images need", hint("raw_cache_room"))
    crc32 = np.empty(len(split), "<u4")
    with progress.track(f"decode {split.name}", len(split)) as bar, write_atomically(path) as file:
        for batch in load_batches(split, np.arange(len(split)), BATCH_SIZE):
            file.write(batch.images.data)
            crc32[batch.positions] = [zlib.crc32(image) for image in batch.images]
            bar.advance(len(batch.labels))
        file.write(crc32.tobytes() + _checksum(dataset, split, crc32))
    return crc32
