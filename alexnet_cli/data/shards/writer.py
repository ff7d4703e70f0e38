"""Images -> one WebDataset tar: KEY.jpg, KEY.cls, KEY.json for each sample.

Same images, same options, same bytes: owner, mode and mtime are fixed and keys are numbered by
the plan, never taken from file names (WebDataset would split those at their first dot). A shard
gets its name only when it is whole; its record, which says it is done, comes after it.
"""

import hashlib
import json
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from alexnet_cli.data.images.resize import to_jpeg, to_square
from alexnet_cli.data.shards.index import Shard
from alexnet_cli.data.shards.tar_layout import BLOCK, end_of_tar, sample_members
from alexnet_cli.data.sources.source import SourceImage
from alexnet_cli.errors import ImageError
from alexnet_cli.io.atomic import read_checksummed, write_atomically, write_checksummed

RECORDS = ".prep"  # inside the dataset while prep is at work


class TaskStopped(Exception):  # noqa: N818 - nothing is wrong
    """The maker of a shard was asked to stop; nothing of the shard is left."""


@dataclass(frozen=True, slots=True)
class ShardTask:
    """One shard to make.

    Attributes:
        first_number: the number of its first image; keys count on from it, gaps included.
        wnids: those of the images, for KEY.json; not all classes, of which a large dataset has
            half a megabyte, to be sent to a worker with each task.
    """

    folder: Path
    split: str
    position: int
    first_number: int
    images: tuple[SourceImage, ...]
    wnids: tuple[str, ...]
    size: int
    quality: int

    @property
    def name(self) -> str:
        return f"{self.split}-{self.position:06d}.tar"

    @property
    def record_path(self) -> Path:
        return self.folder / RECORDS / f"{self.name}.json"

    def fingerprint(self) -> str:
        """Return a hash of all that decides the shard's bytes, but for the images' own."""
        parts = [self.name, self.first_number, self.size, self.quality, self.wnids]
        parts += [(image.source, image.length, image.label) for image in self.images]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class ShardRecord:
    """A finished shard: what the indexes need, and what was left out of it.

    Attributes:
        samples: (offset, length, label, number, crc32) of each KEY.jpg.
        rejected: (source, label, reason, detail) of each image left out.
    """

    shard: Shard
    samples: list[tuple[int, int, int, int, int]]
    rejected: list[tuple[str, int, str, str]]


def make_shard(task: ShardTask, is_stopping: Callable[[], bool] = lambda: False) -> ShardRecord:
    """Decode, resize and pack the images of one shard; publish the tar, then its record.

    Args:
        is_stopping: asked before each image.

    Raises:
        TaskStopped: it said yes.
    """
    samples, rejected = [], []
    with write_atomically(task.folder / task.name) as file:
        tar = _HashingWriter(file)
        images = zip(task.images, task.wnids, strict=True)
        for number, (image, wnid) in enumerate(images, start=task.first_number):
            if is_stopping():
                raise TaskStopped
            try:
                jpeg = make_jpeg(image, task.size, task.quality)
            except ImageError as error:
                _check_source(error, image, task.folder)
                rejected.append((image.source, image.label, error.reason, error.detail))
                continue
            samples.append(
                (tar.num_bytes + BLOCK, len(jpeg), image.label, number, zlib.crc32(jpeg))
            )
            key = f"{task.split}-{number:08d}"
            tar.write(sample_members(key, (jpeg, *_about(image, wnid))))
        tar.write(end_of_tar(tar.num_bytes))
    shard = Shard(task.name, len(samples), tar.num_bytes, tar.digest.hexdigest())
    record = ShardRecord(shard, samples, rejected)
    write_checksummed(task.record_path, {"task": task.fingerprint(), **asdict(record)})
    return record


def _check_source(error: ImageError, image: SourceImage, folder: Path) -> None:
    """A copy of our own that the disk does not give back is no fault of the image."""
    fault = error.__cause__
    # Pillow's own faults are OSErrors without a number.
    if isinstance(fault, OSError) and fault.errno and folder in image.path.parents:
        raise fault


def make_jpeg(image: SourceImage, size: int, quality: int) -> bytes:
    """Return an image as it is stored.

    Raises:
        ImageError: it cannot be, or its file is not the one that was listed.
    """
    content = image.read()
    if image.offset < 0 and len(content) != image.length:
        sizes = f"{image.length} bytes listed, {len(content)} read"
        raise ImageError("unreadable", f"changed while prep was at work: {sizes}")
    return to_jpeg(to_square(content, size), quality)


def read_record(task: ShardTask) -> ShardRecord | None:
    """Return the record of a shard finished earlier.

    None if it is not of this very task, or if record and shard do not have the bytes they had.
    """
    content = read_checksummed(task.record_path)
    if content is None or content.pop("task", None) != task.fingerprint():
        return None
    shard = Shard(**content["shard"])
    if not _has_bytes(task.folder / task.name, shard):
        return None
    return ShardRecord(
        shard,
        [tuple(row) for row in content["samples"]],
        [tuple(row) for row in content["rejected"]],
    )


def _has_bytes(path: Path, shard: Shard) -> bool:
    try:
        with path.open("rb") as file:
            if path.stat().st_size != shard.num_bytes:
                return False
            return hashlib.file_digest(file, "sha256").hexdigest() == shard.sha256
    except OSError:
        return False


def _about(image: SourceImage, wnid: str) -> tuple[bytes, bytes]:
    """Return KEY.cls and KEY.json of an image."""
    info = {"wnid": wnid, "source": image.name}
    return str(image.label).encode("ascii"), json.dumps(info).encode("ascii")


class _HashingWriter:
    """A write-only file that counts and hashes what passes through."""

    def __init__(self, file: BinaryIO):
        self._file = file
        self.digest = hashlib.sha256()
        self.num_bytes = 0

    def write(self, content: bytes) -> None:
        self.digest.update(content)
        self.num_bytes += len(content)
        self._file.write(content)
