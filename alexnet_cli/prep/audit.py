"""A whole dataset against its index: every file, on several threads.

Hashing and decoding let go of the interpreter, so threads keep all cores busy.
"""

import csv
import hashlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alexnet_cli.data.shards.dataset import read_samples, samples_name
from alexnet_cli.data.shards.index import (
    INDEX_COPY,
    INDEX_NAME,
    REJECTED_NAME,
    FileRecord,
    Index,
    Shard,
    read_index,
)
from alexnet_cli.data.shards.verify import AuditTask, Finding, ShardAudit, audit_shard
from alexnet_cli.errors import DatasetError, Stopped
from alexnet_cli.io.cores import num_cores
from alexnet_cli.io.progress import Progress
from alexnet_cli.io.stop_signal import StopSignal, catch_signals
from alexnet_cli.io.thread_map import thread_map
from alexnet_cli.prep.side_files import read_rejected


@dataclass(frozen=True, slots=True)
class Audit:
    """What is in a dataset's folder, and what should not be so.

    Attributes:
        index: None if it cannot be trusted; nothing else was looked at then.
        num_bytes: of the shards that were read.
        copies: shards that the index does not know, but whose bytes are those of one it knows.
    """

    index: Index | None
    findings: list[Finding]
    num_shards: int = 0
    num_samples: int = 0
    num_bytes: int = 0
    copies: tuple[str, ...] = ()


def audit_dataset(
    folder: Path, *, deep: bool, num_threads: int | None, progress: Progress
) -> Audit:
    """Read every file of a dataset and compare it with the index.

    Args:
        deep: also decode every image.

    Raises:
        DatasetError: there is no index.
        Stopped: by a signal.
    """
    if not (folder / INDEX_NAME).is_file():
        read_index(folder)  # says how to make one
    try:
        index = read_index(folder)
    except DatasetError as error:
        why = str(error).split("\n")[0].removeprefix(f"{folder / INDEX_NAME}: ")
        return Audit(None, [Finding(INDEX_NAME, "", "the index", "as prep wrote it", why)])
    findings, tasks = _index_copy(folder), []
    for split in index.splits:
        rows, wrong = _sample_index(folder, split, index)
        findings += wrong
        tasks += _tasks(folder, split, index, rows if deep else None)
    findings += _rejected(folder, index)
    audits = _audit_shards(tasks, num_threads or num_cores(), progress)
    extra, copies = _unknown_shards(folder, index)
    owners = _owners(index)
    for audit in audits:
        findings += _explained(audit, owners)
    findings += extra
    return Audit(
        index,
        findings,
        num_shards=len(tasks),
        num_samples=sum(split.written for split in index.splits.values()),
        num_bytes=sum(audit.num_bytes for audit in audits),
        copies=copies,
    )


def _index_copy(folder: Path) -> list[Finding]:
    copy = folder / INDEX_COPY  # datasets of earlier versions have none
    if not copy.is_file() or copy.read_bytes() == (folder / INDEX_NAME).read_bytes():
        return []
    return [Finding(INDEX_COPY, "", f"the copy of {INDEX_NAME}", "the same bytes", "others")]


def _sample_index(
    folder: Path, split: str, index: Index
) -> tuple[np.ndarray | None, list[Finding]]:
    """Return the rows, None if they cannot be trusted, and why."""
    name = samples_name(split)
    if wrong := _compare_file(folder, name, index):
        return None, wrong
    try:
        rows = read_samples(folder, split, index)
    except DatasetError as error:
        why = str(error).split("\n")[0].removeprefix(f"{folder / name}: ")
        return None, [Finding(name, "", "the sample index", "one that fits the shards", why)]
    return rows, []


def _compare_file(folder: Path, name: str, index: Index) -> list[Finding]:
    """Compare a file beside the shards with its record, if there is one."""
    try:
        found = FileRecord.of((folder / name).read_bytes())
    except OSError as error:
        return [Finding(name, "", "the file", "its bytes", error.strerror or str(error))]
    record = index.files.get(name)
    if record is None:
        return [Finding(name, "", "its size and SHA-256", f"a record in {INDEX_NAME}", "none")]
    return [
        Finding(name, "", what, str(getattr(record, attribute)), str(getattr(found, attribute)))
        for what, attribute in (("size in bytes", "num_bytes"), ("SHA-256", "sha256"))
        if getattr(record, attribute) != getattr(found, attribute)
    ]


def _rejected(folder: Path, index: Index) -> list[Finding]:
    if wrong := _compare_file(folder, REJECTED_NAME, index):
        return wrong
    expected = sum(split.rejected for split in index.splits.values())
    found = "no table"
    with suppress(csv.Error, ValueError):
        found = str(len(read_rejected(folder)))
    if found == str(expected):
        return []
    return [Finding(REJECTED_NAME, "", "rows", str(expected), found)]


def _tasks(folder: Path, split: str, index: Index, rows: np.ndarray | None) -> list[AuditTask]:
    """Return a task for each shard of a split.

    Args:
        rows: of its sample index, to decode the images; None to compare hashes only.
    """
    shards = index.splits[split].shards
    bounds = np.cumsum([0, *(shard.num_samples for shard in shards)]).tolist()
    side = index.options["size"]
    return [
        AuditTask(folder, split, shard, None if rows is None else rows[a:b], side)
        for shard, a, b in zip(shards, bounds[:-1], bounds[1:], strict=True)
    ]


def _audit_shards(tasks: list[AuditTask], num_threads: int, progress: Progress) -> list[ShardAudit]:
    audits = {}
    total = sum(task.shard.num_samples for task in tasks)
    with catch_signals() as stop_signal, progress.track("verify", total) as bar:

        def is_stopping() -> bool:
            return bool(stop_signal.signal_number)

        def audit(task: AuditTask) -> tuple[Shard, ShardAudit]:
            return task.shard, audit_shard(task, is_stopping)

        for shard, found in thread_map(audit, tasks, num_threads, ordered=False):
            if is_stopping():
                raise _stopped(stop_signal, len(audits), len(tasks))
            audits[shard.name] = found
            bar.advance(shard.num_samples, note=shard.name)
    return [audits[task.shard.name] for task in tasks]


def _stopped(stop_signal: StopSignal, done: int, total: int) -> Stopped:
    return Stopped(
        f"stopped: {done} of {total} shards were looked at. Nothing was changed.\n"
        "Run the same command again to look at all.",
        stop_signal.signal_number,
    )


def _explained(audit: ShardAudit, owners: dict[str, str]) -> list[Finding]:
    """Return the findings about a shard, or that it has the bytes of another one."""
    owner = owners.get(audit.sha256, audit.name)
    if owner == audit.name:
        return audit.findings
    return [Finding(audit.name, "", "the file's content", "its own", f"the bytes of {owner}")]


def _owners(index: Index) -> dict[str, str]:
    return {shard.sha256: shard.name for s in index.splits.values() for shard in s.shards}


def _unknown_shards(folder: Path, index: Index) -> tuple[list[Finding], tuple[str, ...]]:
    """Find the tars that no reader of this dataset should meet."""
    known = {shard.name for split in index.splits.values() for shard in split.shards}
    owners, findings, copies = _owners(index), [], []
    for path in sorted(folder.glob("*.tar")):
        if path.name in known:
            continue
        found = "one more tar"
        with suppress(OSError), path.open("rb") as file:
            if owner := owners.get(hashlib.file_digest(file, "sha256").hexdigest()):
                copies.append(path.name)
                found = f"a copy of {owner}"
        findings.append(Finding(path.name, "", "a file that index.json lacks", "none", found))
    return findings, tuple(copies)
