"""Pictures -> one WebDataset tar: KEY.jpg, KEY.cls, KEY.json for each sample.

Same pictures, same options, same bytes: owner, mode and mtime are fixed and keys are numbered by
the plan, never taken from file names (WebDataset would split those at their first dot). A shard
gets its name only when it is whole; its record, which says it is done, comes after it.
"""

import hashlib
import io
import json
import tarfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from alexnet_cli.atomic import write_atomically, write_bytes
from alexnet_cli.data.dataset import Shard
from alexnet_cli.data.images import resize_with_torch, to_jpeg, to_square
from alexnet_cli.data.releases.release import Picture
from alexnet_cli.errors import ImageError

RECORDS = ".prep"  # inside the dataset while prep is at work


@dataclass(frozen=True, slots=True)
class ShardTask:
    """One shard to make.

    Attributes:
        first_number: the number of its first picture; keys count on from it, gaps included.
        wnids: the classes, for KEY.json.
    """

    folder: Path
    split: str
    position: int
    first_number: int
    pictures: tuple[Picture, ...]
    wnids: tuple[str, ...]
    size: int
    quality: int

    @property
    def name(self) -> str:
        return f"{self.split}-{self.position:06d}.tar"

    @property
    def record_path(self) -> Path:
        return self.folder / RECORDS / f"{self.name}.json"


@dataclass(frozen=True, slots=True)
class ShardRecord:
    """A finished shard: what the indexes need, and what was left out of it.

    Attributes:
        samples: (offset, length, label, number) of each KEY.jpg.
        rejected: (source, label, reason, detail) of each picture left out.
    """

    shard: Shard
    samples: list[tuple[int, int, int, int]]
    rejected: list[tuple[str, int, str, str]]


def make_shard(task: ShardTask) -> ShardRecord:
    """Decode, resize and pack the pictures of one shard; publish the tar, then its record."""
    samples, rejected = [], []
    with write_atomically(task.folder / task.name) as file:
        hashed = _HashingWriter(file)
        with tarfile.open(fileobj=hashed, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for number, picture in enumerate(task.pictures, start=task.first_number):
                try:
                    jpeg = to_jpeg(
                        to_square(picture.read(), task.size, resize=resize_with_torch),
                        task.quality,
                    )
                except ImageError as error:
                    rejected.append((picture.source, picture.label, error.reason, error.detail))
                    continue
                offset = _add_sample(tar, f"{task.split}-{number:08d}", jpeg, picture, task.wnids)
                samples.append((offset, len(jpeg), picture.label, number))
    shard = Shard(task.name, len(samples), hashed.num_bytes, hashed.digest.hexdigest())
    record = ShardRecord(shard, samples, rejected)
    write_bytes(task.record_path, json.dumps(asdict(record)).encode("ascii"))
    return record


def read_record(task: ShardTask) -> ShardRecord | None:
    """Return the record of a shard finished earlier, if shard and record are both there."""
    shard_path = task.folder / task.name
    if not task.record_path.is_file() or not shard_path.is_file():
        return None
    content = json.loads(task.record_path.read_text())
    shard = Shard(**content["shard"])
    if shard_path.stat().st_size != shard.num_bytes:
        return None
    return ShardRecord(
        shard,
        [tuple(row) for row in content["samples"]],
        [tuple(row) for row in content["rejected"]],
    )


def _add_sample(
    tar: tarfile.TarFile, key: str, jpeg: bytes, picture: Picture, wnids: tuple[str, ...]
) -> int:
    """Append the three members of one sample and return the offset of its JPEG bytes."""
    info = {"wnid": wnids[picture.label], "source": picture.source}
    offset = tar.offset + tarfile.BLOCKSIZE
    for suffix, content in (
        ("jpg", jpeg),
        ("cls", str(picture.label).encode("ascii")),
        ("json", json.dumps(info).encode("ascii")),
    ):
        member = tarfile.TarInfo(f"{key}.{suffix}")
        member.size, member.mode = len(content), 0o644
        tar.addfile(member, io.BytesIO(content))
    return offset


class _HashingWriter:
    """A write-only file that counts and hashes what passes through."""

    def __init__(self, file: BinaryIO):
        self._file = file
        self.digest = hashlib.sha256()
        self.num_bytes = 0

    def write(self, content: bytes) -> int:
        self.digest.update(content)
        self.num_bytes += len(content)
        return self._file.write(content)

    def tell(self) -> int:
        return self.num_bytes
