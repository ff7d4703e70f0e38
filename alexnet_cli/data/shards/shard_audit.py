"""One shard against its record: size, hash, number of samples, and every block of them.

Where the sample index is known to be prep's own, the right hash says all, at the speed of hashing.
Otherwise, and to say what is wrong, the file is read in windows of whole samples; which picture was
damaged is told by the checksums of the sample index.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from alexnet_cli.data.shards.dataset import SAMPLE_DTYPE, samples_name
from alexnet_cli.data.shards.index import Shard
from alexnet_cli.data.shards.sample_audit import Finding, SampleAudit, Window
from alexnet_cli.data.shards.tar_layout import BLOCK, TarFault, filled, scan_samples

WINDOW_BYTES = 1 << 22
HASHED_BYTES = 1 << 20  # at a time
NOTE_BYTES = 1 << 16  # no KEY.json is longer


@dataclass(frozen=True, slots=True)
class AuditTask:
    """One shard to look at.

    Attributes:
        rows: its rows of the sample index; None if that cannot be trusted.
        wnids: the classes by label.
        image_size: side of the pictures.
        deep: decode every picture.
        by_hash: nothing more is looked at if the hash is right.
        read_ahead: there is a core for reading while this one hashes.
    """

    folder: Path
    split: str
    shard: Shard
    rows: np.ndarray | None
    wnids: tuple[str, ...]
    image_size: int
    deep: bool = False
    by_hash: bool = False
    read_ahead: bool = False


@dataclass(frozen=True, slots=True)
class ShardAudit:
    """What was found out about one shard.

    Attributes:
        sha256: of the bytes that are there; empty if they cannot be read.
    """

    name: str
    sha256: str
    num_bytes: int
    findings: list[Finding]


def audit_shard(task: AuditTask, is_stopping: Callable[[], bool] = lambda: False) -> ShardAudit:
    """Compare one shard with its record, block by block.

    Args:
        is_stopping: asked before each window; nothing is then said of the rest.
    """
    shard, path = task.shard, task.folder / task.shard.name
    try:
        with path.open("rb", buffering=0) as file:
            return _audit_open(task, file, is_stopping)
    except FileNotFoundError:
        finding = Finding(shard.name, "", "the file", f"{shard.num_bytes} bytes", "nothing there")
    except OSError as error:
        finding = Finding(shard.name, "", "reading it", "its bytes", error.strerror or str(error))
    return ShardAudit(shard.name, "", 0, [finding])


def _audit_open(task: AuditTask, file: BinaryIO, is_stopping: Callable[[], bool]) -> ShardAudit:
    shard, rows, faults = task.shard, task.rows, []
    if task.by_hash:
        sha256, num_bytes = _hash(task, file, is_stopping)
        if sha256 == shard.sha256:
            return ShardAudit(shard.name, sha256, num_bytes, [])
    if rows is None or not _tiles(rows, shard.num_bytes):
        rows, faults = _scan(task, file)
    reading = _Reading(task, file, rows, is_stopping)
    samples = reading.run(check_pictures=task.deep or task.by_hash)
    if reading.sha256 != shard.sha256 and not samples.check_pictures:
        samples = reading.run(check_pictures=True)
    findings = _whole_file(shard, reading, faults) + (faults or samples.shown())
    return ShardAudit(shard.name, reading.sha256, reading.num_bytes, findings)


def _hash(task: AuditTask, file: BinaryIO, is_stopping: Callable[[], bool]) -> tuple[str, int]:
    """Return SHA-256 and size of a file."""
    digest, num_bytes = hashlib.sha256(), 0
    if hasattr(os, "posix_fadvise"):  # not on macOS
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
    for part in _parts_ahead(file) if task.read_ahead else _parts(file):
        if is_stopping():
            break
        digest.update(part)
        num_bytes += len(part)
    return digest.hexdigest(), num_bytes


def _parts(file: BinaryIO) -> Iterator[memoryview]:
    buffer = memoryview(bytearray(HASHED_BYTES))
    while count := file.readinto(buffer):
        yield buffer[:count]


def _parts_ahead(file: BinaryIO) -> Iterator[memoryview]:
    """Read each part while the one before it is being hashed."""
    buffers = [memoryview(bytearray(HASHED_BYTES)) for _ in range(2)]
    with ThreadPoolExecutor(1) as reader:
        count = file.readinto(buffers[0])
        while count:
            following = reader.submit(file.readinto, buffers[1])
            yield buffers[0][:count]
            count = following.result()
            buffers.reverse()


def _whole_file(shard: Shard, reading: "_Reading", faults: list[Finding]) -> list[Finding]:
    pairs = {
        "size in bytes": (shard.num_bytes, reading.num_bytes),
        "SHA-256": (shard.sha256, reading.sha256),
    }
    if not faults:
        pairs["number of samples"] = (shard.num_samples, len(reading.rows))
    return [
        Finding(shard.name, "", what, str(expected), str(found))
        for what, (expected, found) in pairs.items()
        if expected != found
    ]


def _tiles(rows: np.ndarray, num_bytes: int) -> bool:
    """Return whether the samples can follow each other from the first byte on."""
    if not len(rows):
        return True
    starts = rows["offset"].astype(np.int64) - BLOCK
    ends = starts + 4 * BLOCK + filled(rows["length"].astype(np.int64))  # and KEY.json
    following = np.append(starts[1:], num_bytes)
    return bool(starts[0] == 0 and not (starts % BLOCK).any() and (ends < following).all())


def _scan(task: AuditTask, file: BinaryIO) -> tuple[np.ndarray, list[Finding]]:
    """Find the samples by walking the tar, because the sample index cannot tell."""
    path = task.shard.name
    try:
        samples = scan_samples(file)
    except TarFault as fault:
        finding = Finding(path, fault.key, fault.what, fault.expected, fault.found)
        return np.zeros(0, SAMPLE_DTYPE), [finding]
    found = np.array([(0, *sample) for sample in samples], SAMPLE_DTYPE)
    if task.rows is None:
        return found, []
    expected = "samples that follow each other from the first byte on"
    finding = Finding(samples_name(task.split), "", "its rows", expected, f"not in {path}")
    return found, [finding]


@dataclass(slots=True)
class _Reading:
    """Passes over one shard; size and hash are those of the last."""

    task: AuditTask
    file: BinaryIO
    rows: np.ndarray
    is_stopping: Callable[[], bool]
    sha256: str = ""
    num_bytes: int = 0
    buffer: bytearray = field(default_factory=bytearray)

    def run(self, *, check_pictures: bool) -> SampleAudit:
        task, digest = self.task, hashlib.sha256()
        size = task.image_size if task.deep else 0
        audit = SampleAudit(task.shard.name, task.split, task.wnids, check_pictures, size)
        self.num_bytes = 0
        self.file.seek(0)
        for window in self._windows():
            digest.update(window.content)
            audit.check(window)
        while not self.is_stopping() and len(rest := self._read(WINDOW_BYTES)):
            digest.update(rest)
            audit.check_rest(rest)
        self.sha256 = digest.hexdigest()
        return audit

    def _windows(self) -> Iterator[Window]:
        starts = self.rows["offset"].astype(np.int64) - BLOCK
        ends = np.append(starts[1:], self.task.shard.num_bytes)[: len(starts)]
        first = 0
        while first < len(starts) and not self.is_stopping():
            last = int(np.searchsorted(ends, starts[first] + WINDOW_BYTES, side="right"))
            part = slice(first, max(first + 1, last))
            is_last = part.stop == len(starts)
            length = ends[part][-1] - starts[first]
            if is_last:  # and what may follow
                tail = starts[-1] + int(self.rows["length"][-1]) + NOTE_BYTES - starts[first]
                length = min(length + BLOCK, tail)
            base = starts[first]
            content = self._read(int(length))
            yield Window(self.rows[part], starts[part] - base, ends[part] - base, content, is_last)
            first = part.stop

    def _read(self, length: int) -> memoryview:
        if len(self.buffer) < length:
            usual = min(self.task.shard.num_bytes, WINDOW_BYTES) + NOTE_BYTES
            self.buffer = bytearray(max(length, usual))
        content, num_read = memoryview(self.buffer)[:length], 0
        while num_read < length and (count := self.file.readinto(content[num_read:])):
            num_read += count
        self.num_bytes += num_read
        return content[:num_read]
