"""One shard compared with its record: size and SHA-256, and on request every image decoded."""

import hashlib
import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

import numpy as np
import simplejpeg

from alexnet_cli.data.shards.index import Shard
from alexnet_cli.errors import brief

HASHED_BYTES = 1 << 20  # at a time
MAX_DAMAGED = 5  # samples of a shard that are shown; the others are counted


@dataclass(frozen=True, slots=True)
class Finding:
    """Something in a dataset that differs from its record.

    Attributes:
        file: its name in the dataset's folder.
        key: of the sample; empty if the finding is about the whole file.
    """

    file: str
    key: str
    what: str
    expected: str
    found: str

    def __str__(self) -> str:
        where = f"{self.file}: sample {self.key}" if self.key else self.file
        return f"{where}: {self.what}: expected {self.expected}, found {self.found}"


@dataclass(frozen=True, slots=True)
class AuditTask:
    """One shard to compare with its record.

    Attributes:
        rows: its rows of the sample index, whose images are decoded; None to compare hashes only.
        image_size: height and width of every image in pixels.
    """

    folder: Path
    split: str
    shard: Shard
    rows: np.ndarray | None
    image_size: int


@dataclass(frozen=True, slots=True)
class ShardAudit:
    """The findings about one shard.

    Attributes:
        sha256: of the bytes in the file; empty if they cannot be read.
    """

    name: str
    sha256: str
    num_bytes: int
    findings: list[Finding]


def audit_shard(task: AuditTask, is_stopping: Callable[[], bool] = lambda: False) -> ShardAudit:
    """Compare one shard with its record.

    Args:
        is_stopping: called between pieces of the file; True ends the comparison.
    """
    shard, path = task.shard, task.folder / task.shard.name
    try:
        with path.open("rb", buffering=0) as file:
            sha256, num_bytes = _hash(file, is_stopping)
            findings = _compare(shard, sha256, num_bytes)
            findings += _decode_all(task, file, is_stopping)
            return ShardAudit(shard.name, sha256, num_bytes, findings)
    except FileNotFoundError:
        finding = Finding(shard.name, "", "the file", f"{shard.num_bytes} bytes", "no such file")
    except OSError as error:
        finding = Finding(shard.name, "", "reading it", "its bytes", error.strerror or str(error))
    return ShardAudit(shard.name, "", 0, [finding])


def _compare(shard: Shard, sha256: str, num_bytes: int) -> list[Finding]:
    pairs = {"size in bytes": (shard.num_bytes, num_bytes), "SHA-256": (shard.sha256, sha256)}
    return [
        Finding(shard.name, "", what, str(expected), str(found))
        for what, (expected, found) in pairs.items()
        if expected != found
    ]


def _hash(file: FileIO, is_stopping: Callable[[], bool]) -> tuple[str, int]:
    """Return SHA-256 and size of a file."""
    digest, num_bytes, buffer = hashlib.sha256(), 0, memoryview(bytearray(HASHED_BYTES))
    if hasattr(os, "posix_fadvise"):  # not on macOS
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
    while not is_stopping() and (count := file.readinto(buffer)):
        digest.update(buffer[:count])
        num_bytes += count
    return digest.hexdigest(), num_bytes


def _decode_all(task: AuditTask, file: FileIO, is_stopping: Callable[[], bool]) -> list[Finding]:
    """Return the first images that do not decode as recorded, and the number of the others."""
    findings = []
    for row in () if task.rows is None else task.rows:
        if is_stopping():
            break
        file.seek(int(row["offset"]))
        jpeg = file.read(int(row["length"]))
        if fault := _fault(jpeg, int(row["crc32"]), task.image_size):
            findings.append(Finding(task.shard.name, f"{task.split}-{row['number']:08d}", *fault))
    more = len(findings) - MAX_DAMAGED
    if more > 0:
        what = ("samples beside these", "whole", f"{more} damaged")
        return [*findings[:MAX_DAMAGED], Finding(task.shard.name, "", *what)]
    return findings


def _fault(jpeg: bytes, crc32: int, side: int) -> tuple[str, str, str] | None:
    """Return what is wrong with an image, what is expected, and what was found."""
    if (found := zlib.crc32(jpeg)) != crc32:
        return "CRC-32 of the JPEG", f"{crc32:08x}", f"{found:08x}"
    expected = f"{side} x {side} pixels"
    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(jpeg)
        if (height, width) != (side, side):  # a larger one could fill the memory
            return "decoding the JPEG", expected, f"{width} x {height}"
        simplejpeg.decode_jpeg(jpeg, "RGB")
    except ValueError as error:
        return "decoding the JPEG", expected, brief(error, 80)
    return None
