"""`alexnet prep`: a release of pictures -> 256x256 JPEG shards (paper section 2)."""

import os
import shutil
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import alexnet_cli
from alexnet_cli.atomic import write_bytes
from alexnet_cli.data.dataset import open_dataset, samples_name
from alexnet_cli.data.index import (
    INDEX_NAME,
    REJECTED_NAME,
    FileRecord,
    Index,
    SplitIndex,
    read_index,
)
from alexnet_cli.data.releases import Release, read_release
from alexnet_cli.data.shards import RECORDS, ShardRecord, ShardTask
from alexnet_cli.engine.interrupt import catch_signals
from alexnet_cli.engine.prep_folder import entered, finish
from alexnet_cli.engine.prep_work import PrepWork
from alexnet_cli.engine.shard_plan import PrepOptions, plan_shards
from alexnet_cli.engine.side_files import (
    read_rejected,
    rejected_csv,
    rejected_rows,
    sample_index,
)
from alexnet_cli.errors import DatasetError, ReleaseError
from alexnet_cli.progress import SILENT, Progress

__all__ = ["PrepOptions", "PrepResult", "prep"]


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
    layout: str | None = None,
    check_md5: bool = False,
    num_workers: int | None = None,
    force: bool = False,
    progress: Progress = SILENT,
) -> PrepResult:
    """Write the shards and indexes of `source` into `folder`.

    Their bytes do not depend on the number of workers, nor on how often prep was stopped.

    Args:
        layout: of the source, one of `LAYOUTS`; by default found out by looking.
        check_md5: compare the official archives with their published MD5 first.
        force: begin even if the disk looks too small.

    Raises:
        ReleaseError: the source cannot be used.
        DatasetError: the folder holds something else.
        MachineError: the folder is in use or cannot be written, the disk is full or will be, a
            worker died; finished shards are kept.
        Stopped: by a signal; finished shards are kept.
    """
    with entered(folder):
        release = read_release(
            source,
            folder / RECORDS / "spool",
            layout=layout,
            val_fraction=options.val_fraction,
            seed=options.seed,
            md5=check_md5,
            progress=progress,
        )
        release.check_classes()
        counts = ", ".join(f"{len(release.pictures[s]):,} {s}" for s in release.pictures)
        progress.say(f"{source}: {release.layout}, {len(release.classes):,} classes, {counts}")
        plan = {"options": asdict(options), "source": _describe(release)}
        if (folder / INDEX_NAME).exists():
            return _already_complete(folder, plan, release)
        tasks = plan_shards(release, folder, options)
        with catch_signals() as interrupt:
            work = PrepWork(folder, tasks, num_workers or os.cpu_count() or 1, interrupt, progress)
            work.make_all(plan, release, force=force)
            return _publish(folder, plan, release, tasks, work.records)


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
    finish(folder)
    return _result(folder, release, index, read_rejected(folder), already_complete=True)


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
    splits, contents = {}, {}
    for split in release.pictures:
        mine = [r for task, r in zip(tasks, ordered, strict=True) if task.split == split]
        splits[split] = SplitIndex(
            found=len(release.pictures[split]),
            written=sum(len(record.samples) for record in mine),
            rejected=sum(len(record.rejected) for record in mine),
            shards=tuple(record.shard for record in mine),
        )
        contents[samples_name(split)] = sample_index([record.samples for record in mine])
    rejected = [row for task in tasks for row in rejected_rows(task, records[task.name])]
    contents[REJECTED_NAME] = rejected_csv(rejected)
    for name, content in contents.items():
        write_bytes(folder / name, content)
    files = {name: FileRecord.of(content) for name, content in contents.items()}
    tool = f"alexnet {alexnet_cli.__version__}"
    index = Index(plan["options"], plan["source"], release.classes, splits, tool, files=files)
    write_bytes(folder / INDEX_NAME, index.to_json().encode())
    finish(folder)
    return _result(folder, release, index, rejected, already_complete=False)


def _check_no_class_was_lost(folder: Path, release: Release, records: list[ShardRecord]) -> None:
    written = {
        label for r in records if r.shard.name.startswith("train") for _, _, label, *_ in r.samples
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
