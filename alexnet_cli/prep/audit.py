"""Compares every file of a dataset with its index, on several threads.

Hashing and decoding release the interpreter's lock, so threads keep all cores busy.
"""

import csv
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
from alexnet_cli.io.hashes import hash_of
from alexnet_cli.io.progress import Progress
from alexnet_cli.io.signals import catch_signals
from alexnet_cli.io.thread_map import thread_map
from alexnet_cli.prep.publish import read_rejected


@dataclass(frozen=True, slots=True)
class Audit:
    """The content of a dataset's folder, and what differs from the index."""

    index: Index | None  # None if it cannot be trusted; nothing else was read then
    findings: list[Finding]
    num_shards: int = 0
    num_samples: int = 0
    num_bytes: int = 0  # of the shards that were read
    copies: tuple[str, ...] = ()  # shards that the index lacks, with the bytes of one it has


def audit_dataset(
    folder: Path, *, deep: bool, num_threads: int | None, progress: Progress
) -> Audit:
    """Read every file of a dataset and compare it with the index.

    Args:
        deep: also decode every image.

    Raises:
        DatasetError: if there is no index.
        Stopped: if a signal stopped it.
    """
    path = folder / INDEX_NAME
    try:
        index = read_index(folder)
    except DatasetError as error:
        if not path.is_file():
            raise
        why = error.problem.removeprefix(f"{path}: ")
        return Audit(None, [Finding(INDEX_NAME, "", "the index", "as prep wrote it", why)])
    findings, tasks = [], []
    copy = folder / INDEX_COPY
    if copy.is_file() and copy.read_bytes() != path.read_bytes():
        what = f"the copy of {INDEX_NAME}"
        findings.append(Finding(INDEX_COPY, "", what, "the same bytes", "others"))
    for split in index.splits:
        rows, wrong = _sample_index(folder, split, index)
        findings += wrong
        tasks += _tasks(folder, split, index, rows if deep else None)
    findings += _rejected(folder, index)
    audits = _audit_shards(tasks, num_threads or num_cores(), progress)
    owners = {task.shard.sha256: task.shard.name for task in tasks}
    for audit in audits:
        owner = owners.get(audit.sha256, audit.name)
        if owner == audit.name:
            findings += audit.findings
        else:
            found = f"the bytes of {owner}"
            findings.append(Finding(audit.name, "", "the file's content", "its own", found))
    extra, copies = _unknown_shards(folder, owners)
    return Audit(
        index,
        findings + extra,
        num_shards=len(tasks),
        num_samples=sum(split.written for split in index.splits.values()),
        num_bytes=sum(audit.num_bytes for audit in audits),
        copies=copies,
    )


def _sample_index(
    folder: Path, split: str, index: Index
) -> tuple[np.ndarray | None, list[Finding]]:
    """Return the rows of a sample index, None if they cannot be trusted, and the findings."""
    name = samples_name(split)
    if wrong := _compare_file(folder, name, index):
        return None, wrong
    try:
        return read_samples(folder, split, index), []
    except DatasetError as error:
        why = error.problem.removeprefix(f"{folder / name}: ")
        return None, [Finding(name, "", "the sample index", "one that fits the shards", why)]


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
    """Return a task for each shard of a split; without `rows`, to compare hashes only."""
    shards = index.splits[split].shards
    bounds = np.cumsum([0, *(shard.num_samples for shard in shards)]).tolist()
    side = index.options["size"]
    return [
        AuditTask(folder, split, shard, None if rows is None else rows[a:b], side)
        for shard, a, b in zip(shards, bounds[:-1], bounds[1:], strict=True)
    ]


def _audit_shards(tasks: list[AuditTask], num_threads: int, progress: Progress) -> list[ShardAudit]:
    audits: dict[str, ShardAudit] = {}
    total = sum(task.shard.num_samples for task in tasks)
    with catch_signals() as stop_signal, progress.track("verify", total) as bar:

        def audit(task: AuditTask) -> tuple[Shard, ShardAudit]:
            return task.shard, audit_shard(task, lambda: stop_signal.stop_requested)

        for shard, found in thread_map(audit, tasks, num_threads, ordered=False):
            if stop_signal.stop_requested:
                raise Stopped(
                    f"stopped: {len(audits)} of {len(tasks)} shards were read.",
                    stop_signal.signal_number,
                    kept="Nothing was changed.",
                    hint="Run the same command again to read all.",
                )
            audits[shard.name] = found
            bar.advance(shard.num_samples, note=shard.name)
    return [audits[task.shard.name] for task in tasks]


def _unknown_shards(folder: Path, owners: dict[str, str]) -> tuple[list[Finding], tuple[str, ...]]:
    """Find tars that the index lacks; `owners` has the names of its shards by SHA-256."""
    findings, copies = [], []
    for path in sorted(folder.glob("*.tar")):
        if path.name in owners.values():
            continue
        found = "one more tar"
        with suppress(OSError):
            if owner := owners.get(hash_of(path)):
                copies.append(path.name)
                found = f"a copy of {owner}"
        findings.append(Finding(path.name, "", "a file that index.json lacks", "none", found))
    return findings, tuple(copies)
