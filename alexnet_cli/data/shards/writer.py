"""Images -> one WebDataset tar: KEY.jpg, KEY.cls, KEY.json for each sample.

The same images and options give the same bytes: owner, mode and mtime are fixed, and keys are
numbered by the plan, never taken from file names, which WebDataset would split at the first dot. A
shard gets its name only when it is complete; its record is written after it.
"""

import hashlib
import json
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from alexnet_cli.data.images.resize import to_jpeg, to_square
from alexnet_cli.data.shards.index import Shard
from alexnet_cli.data.shards.tar_layout import BLOCK, Sample, end_of_tar, sample_members
from alexnet_cli.data.sources.source import SourceImage
from alexnet_cli.errors import ImageError
from alexnet_cli.io.atomic import read_checksummed, write_atomically, write_checksummed
from alexnet_cli.io.hashes import hash_of
from alexnet_cli.types import USUAL_RULES, DecodeRules

RECORDS = ".prep"  # inside the dataset while prep runs


class TaskStopped(Exception):  # noqa: N818 - nothing is wrong
    """A shard was not finished because a stop was requested; nothing of it is left."""


@dataclass(frozen=True, slots=True)
class ShardTask:
    """One shard to make.

    Attributes:
        first_number: the number of its first image; a rejected image leaves a gap in the keys.
        wnids: those of the images, for KEY.json; the classes of a large dataset have half a
            megabyte, too much to send to a worker with each task.
    """

    folder: Path
    split: str
    position: int
    first_number: int
    images: tuple[SourceImage, ...]
    wnids: tuple[str, ...]
    size: int
    quality: int
    rules: DecodeRules = USUAL_RULES

    @property
    def name(self) -> str:
        return f"{self.split}-{self.position:06d}.tar"

    @property
    def record_path(self) -> Path:
        return self.folder / RECORDS / f"{self.name}.json"

    def fingerprint(self) -> str:
        """Return a hash of everything but the images' bytes that decides the shard's bytes."""
        parts = [self.name, self.first_number, self.size, self.quality, self.wnids]
        parts += [self.rules.to_json()] if self.rules != USUAL_RULES else []
        parts += [(image.source, image.length, image.label) for image in self.images]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class ShardRecord:
    """A finished shard: what the indexes need, and the images left out of it.

    Attributes:
        rejected: (source, label, reason, detail) of each image left out.
        noted: number of images that other rules would change, as `decode` counts them.
    """

    shard: Shard
    samples: list[Sample]
    rejected: list[tuple[str, int, str, str]]
    noted: dict[str, int] = field(default_factory=dict)


def make_shard(task: ShardTask, is_stopping: Callable[[], bool] = lambda: False) -> ShardRecord:
    """Decode, resize and pack the images of one shard; publish the tar, then its record.

    Args:
        is_stopping: called before each image.

    Raises:
        TaskStopped: if `is_stopping` returned True.
    """
    samples: list[Sample] = []
    noted: dict[str, int] = {}
    rejected, num_bytes, digest = [], 0, hashlib.sha256()
    with write_atomically(task.folder / task.name) as file:

        def add(content: bytes) -> None:
            nonlocal num_bytes
            file.write(content)
            digest.update(content)
            num_bytes += len(content)

        images = zip(task.images, task.wnids, strict=True)
        for number, (image, wnid) in enumerate(images, start=task.first_number):
            if is_stopping():
                raise TaskStopped
            try:
                jpeg = make_jpeg(image, task, noted)
            except ImageError as error:
                _check_staging_copy(error, image, task.folder)
                rejected.append((image.source, image.label, error.reason, error.detail))
                continue
            place = num_bytes + BLOCK, len(jpeg)
            samples.append((*place, image.label, number, zlib.crc32(jpeg)))
            key = f"{task.split}-{number:08d}"
            notes = json.dumps({"wnid": wnid, "source": image.name}).encode("ascii")
            add(sample_members(key, (jpeg, str(image.label).encode("ascii"), notes)))
        add(end_of_tar(num_bytes))
    shard = Shard(task.name, len(samples), num_bytes, digest.hexdigest())
    record = ShardRecord(shard, samples, rejected, noted)
    write_checksummed(task.record_path, {"task": task.fingerprint(), **asdict(record)})
    return record


def _check_staging_copy(error: ImageError, image: SourceImage, folder: Path) -> None:
    """Raise the OSError if the disk fails on a staging copy; the image is not at fault then."""
    fault = error.__cause__
    # Pillow's own errors are OSErrors without a number.
    if isinstance(fault, OSError) and fault.errno and folder in image.path.parents:
        raise fault


def make_jpeg(image: SourceImage, task: ShardTask, noted: dict[str, int] | None = None) -> bytes:
    """Return an image as a shard stores it.

    Args:
        noted: as `decode` takes it.

    Raises:
        ImageError: if it cannot be decoded, or its file changed since it was listed.
    """
    content = image.read()
    if image.offset < 0 and len(content) != image.length:
        sizes = f"{image.length} bytes listed, {len(content)} read"
        raise ImageError("unreadable", f"changed while prep was at work: {sizes}")
    return to_jpeg(to_square(content, task.size, task.rules, noted), task.quality)


def read_record(task: ShardTask) -> ShardRecord | None:
    """Return the record of a finished shard; None if it is missing or damaged, or not this task's.

    The SHA-256 of the shard is compared.
    """
    content = read_checksummed(task.record_path)
    if content is None or content.pop("task", None) != task.fingerprint():
        return None
    shard = Shard(**content["shard"])
    try:
        if hash_of(task.folder / task.name) != shard.sha256:
            return None
    except OSError:
        return None
    samples, rejected = (list(map(tuple, content[name])) for name in ("samples", "rejected"))
    return ShardRecord(shard, samples, rejected, content.get("noted", {}))
