"""`alexnet prep`: a release of pictures -> 256x256 JPEG shards (paper section 2)."""

import csv
import io
import json
import os
import shutil
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

import alexnet_cli
from alexnet_cli.atomic import PARTIAL_SUFFIX, write_atomically, write_bytes
from alexnet_cli.data.dataset import (
    INDEX_NAME,
    SAMPLE_DTYPE,
    Index,
    SplitIndex,
    open_dataset,
    read_index,
)
from alexnet_cli.data.images import IMAGE_SIZE, JPEG_QUALITY
from alexnet_cli.data.releases import Release, read_release
from alexnet_cli.data.shards import RECORDS, ShardRecord, ShardTask, read_record
from alexnet_cli.engine.shard_pool import run_tasks
from alexnet_cli.errors import DatasetError, ReleaseError
from alexnet_cli.progress import SILENT, Progress

SHARD_SIZE = 1000


@dataclass(frozen=True, slots=True)
class PrepOptions:
    """Everything that decides the bytes of the shards."""

    size: int = IMAGE_SIZE
    quality: int = JPEG_QUALITY
    shard_size: int = SHARD_SIZE
    seed: int = 0
    val_fraction: float = 0.0


@dataclass(frozen=True, slots=True)
class PrepResult:
    """What prep found, wrote and rejected.

    Attributes:
        splits: found, written, rejected and shards (a count) of each split.
        reasons: rejected pictures by reason.
        ignored: entries that are no pictures at all, by kind.
        already_complete: the dataset was there, nothing was done.
    """

    dataset: str
    layout: str
    classes: int
    splits: dict[str, dict[str, int]]
    rejected: list[dict[str, str]]
    reasons: dict[str, int]
    ignored: dict[str, int]
    fingerprint: str
    already_complete: bool


def prep(
    source: Path,
    folder: Path,
    options: PrepOptions,
    *,
    num_workers: int | None = None,
    progress: Progress = SILENT,
) -> PrepResult:
    """Write the shards and indexes of `source` into `folder`.

    The training pictures are shuffled once, by the seed, so that a plain stream of the shards is
    well mixed; validation keeps its order. The bytes do not depend on the number of workers.

    Raises:
        ReleaseError: the source cannot be used.
        DatasetError: the folder holds something else.
        MachineError: a worker died or the disk is full; finished shards are kept.
    """
    release = read_release(source, val_fraction=options.val_fraction, seed=options.seed)
    release.check_classes()
    counts = ", ".join(f"{len(release.pictures[s]):,} {s}" for s in release.pictures)
    progress.say(f"{source}: {release.layout}, {len(release.classes):,} classes, {counts}")
    plan = {"options": asdict(options), "source": _describe(release)}
    if (folder / INDEX_NAME).exists():
        return _already_complete(folder, plan, release)
    _claim(folder, plan)
    tasks = _plan_shards(release, folder, options)
    records = _make_shards(tasks, num_workers or os.cpu_count() or 1, progress)
    return _publish(folder, plan, release, tasks, records)


def _describe(release: Release) -> dict:
    return {"layout": release.layout, "fingerprint": release.fingerprint()}


def _already_complete(folder: Path, plan: dict, release: Release) -> PrepResult:
    """Accept a finished dataset of the same plan, refuse any other."""
    index = read_index(folder)
    found = {"options": index.options, "source": index.source}
    if found != plan:
        differing = [
            f"{name} {found[part].get(name)} there, {value} now"
            for part in plan
            for name, value in plan[part].items()
            if found[part].get(name) != value
        ]
        raise DatasetError(
            f"{folder} holds another dataset: {'; '.join(differing)[:200]}.\n"
            "It is left as it is. Name another folder."
        )
    open_dataset(folder)  # every shard is there, with its size
    with (folder / "rejected.csv").open(newline="", encoding="utf-8") as file:
        rejected = list(csv.DictReader(file))
    return _result(folder, release, index, rejected, already_complete=True)


def _claim(folder: Path, plan: dict) -> None:
    """Make the folder ours, or go on where an interrupted prep of the same plan stopped."""
    plan_path = folder / RECORDS / "plan.json"
    if plan_path.is_file():
        if json.loads(plan_path.read_text()) != plan:
            raise DatasetError(
                f"{folder} holds an unfinished prep of another source or other options.\n"
                "It is left as it is. Name another folder, or remove that one."
            )
        for leftover in folder.rglob(f"*{PARTIAL_SUFFIX}"):
            leftover.unlink()
        return
    # A prep that stopped before its plan was written leaves RECORDS alone.
    if folder.exists() and (
        not folder.is_dir() or any(e.name != RECORDS for e in folder.iterdir())
    ):
        raise DatasetError(
            f"{folder} is not empty and not an alexnet dataset; it is left as it is.\n"
            "Name a new or empty folder."
        )
    (folder / RECORDS).mkdir(parents=True, exist_ok=True)
    write_bytes(plan_path, json.dumps(plan).encode())


def _plan_shards(release: Release, folder: Path, options: PrepOptions) -> list[ShardTask]:
    tasks = []
    wnids = tuple(entry.wnid for entry in release.classes)
    for split in release.pictures:
        pictures = release.pictures[split]
        if split == "train":
            order = np.random.default_rng([options.seed, 0x5A4D]).permutation(len(pictures))
            pictures = [pictures[i] for i in order]
        for position, start in enumerate(range(0, len(pictures), options.shard_size)):
            part = tuple(pictures[start : start + options.shard_size])
            tasks.append(
                ShardTask(
                    folder, split, position, start, part, wnids, options.size, options.quality
                )
            )
    return tasks


def _make_shards(
    tasks: list[ShardTask], num_workers: int, progress: Progress
) -> dict[str, ShardRecord]:
    records = {task.name: record for task in tasks if (record := read_record(task))}
    if records:
        progress.say(f"resuming: {len(records)} of {len(tasks)} shards are done")
    missing = [task for task in tasks if task.name not in records]
    with progress.track("prep", sum(len(task.pictures) for task in missing)) as bar:
        for record in run_tasks(missing, min(num_workers, len(missing))):
            records[record.shard.name] = record
            bar.advance(len(record.samples) + len(record.rejected), note=record.shard.name)
    return records


def _publish(
    folder: Path,
    plan: dict,
    release: Release,
    tasks: list[ShardTask],
    records: dict[str, ShardRecord],
) -> PrepResult:
    """Write the sample indexes, the rejects and, last, index.json."""
    ordered = [records[task.name] for task in tasks]
    _check_no_class_was_lost(folder, release, ordered)
    splits = {}
    for split in release.pictures:
        mine = [r for task, r in zip(tasks, ordered, strict=True) if task.split == split]
        splits[split] = SplitIndex(
            found=len(release.pictures[split]),
            written=sum(len(record.samples) for record in mine),
            rejected=sum(len(record.rejected) for record in mine),
            shards=tuple(record.shard for record in mine),
        )
        with write_atomically(folder / f"{split}.samples.npy") as file:
            np.save(file, _sample_rows(mine))
    rejected = _rejected_rows(tasks, ordered)
    write_bytes(folder / "rejected.csv", _to_csv(rejected))
    tool = f"alexnet {alexnet_cli.__version__}"
    index = Index(plan["options"], plan["source"], release.classes, splits, tool)
    write_bytes(folder / INDEX_NAME, index.to_json().encode())
    shutil.rmtree(folder / RECORDS)
    return _result(folder, release, index, rejected, already_complete=False)


def _check_no_class_was_lost(folder: Path, release: Release, records: list[ShardRecord]) -> None:
    written = {
        label for r in records if r.shard.name.startswith("train") for _, _, label, _ in r.samples
    }
    lost = [c.wnid for label, c in enumerate(release.classes) if label not in written]
    if not lost:
        return
    rows = [row for record in records for row in record.rejected]
    source, _, reason, detail = next(r for r in rows if release.classes[r[1]].wnid == lost[0])
    for record in records:
        (folder / record.shard.name).unlink(missing_ok=True)
    shutil.rmtree(folder / RECORDS)
    raise ReleaseError(
        f"every training picture of {len(lost)} classes was rejected, first of {lost[0]!r}: "
        f"{source} is {reason} ({detail}).\nNothing was written."
    )


def _sample_rows(records: list[ShardRecord]) -> np.ndarray:
    rows = [
        (position, *sample) for position, record in enumerate(records) for sample in record.samples
    ]
    return np.array(rows, SAMPLE_DTYPE)


def _rejected_rows(tasks: list[ShardTask], records: list[ShardRecord]) -> list[dict[str, str]]:
    return [
        {"split": task.split, "source": source, "reason": reason, "detail": detail}
        for task, record in zip(tasks, records, strict=True)
        for source, _, reason, detail in record.rejected
    ]


def _to_csv(rows: list[dict[str, str]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, ["split", "source", "reason", "detail"])
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode("utf-8", errors="backslashreplace")


def _result(
    folder: Path,
    release: Release,
    index: Index,
    rejected: list[dict[str, str]],
    *,
    already_complete: bool,
) -> PrepResult:
    return PrepResult(
        dataset=str(folder),
        layout=release.layout,
        classes=len(index.classes),
        splits={name: split.counts() for name, split in index.splits.items()},
        rejected=rejected,
        reasons=dict(Counter(row["reason"] for row in rejected)),
        ignored=release.ignored,
        fingerprint=index.fingerprint(),
        already_complete=already_complete,
    )
