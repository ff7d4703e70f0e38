"""`alexnet prep`: a release of images -> 256x256 JPEG shards (paper section 2)."""

from collections import Counter
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import alexnet_cli
from alexnet_cli.data.remote.tar_set import TarSet
from alexnet_cli.data.shards.dataset import open_dataset, samples_name
from alexnet_cli.data.shards.index import (
    INDEX_NAME,
    REJECTED_NAME,
    FileRecord,
    Index,
    SplitIndex,
    read_index,
    write_index,
)
from alexnet_cli.data.shards.writer import RECORDS, ShardRecord, ShardTask
from alexnet_cli.data.sources.detect import read_source
from alexnet_cli.data.sources.source import Source
from alexnet_cli.errors import SourceError, on_one_line, some_names
from alexnet_cli.io.atomic import write_bytes
from alexnet_cli.io.cores import num_cores
from alexnet_cli.io.progress import SILENT, Progress
from alexnet_cli.io.stop_signal import catch_signals
from alexnet_cli.prep.cluster import Cluster, connected
from alexnet_cli.prep.duplicates import find_duplicates, in_words
from alexnet_cli.prep.fetch import ORIGIN, bring, check_options
from alexnet_cli.prep.folder import another_dataset, entered, finish, forget
from alexnet_cli.prep.plan import PrepOptions, plan_shards
from alexnet_cli.prep.side_files import read_rejected, rejected_csv, rejected_rows, sample_index
from alexnet_cli.prep.tasks import PrepWork

__all__ = ["PrepOptions", "PrepResult", "prep"]


@dataclass(frozen=True, slots=True)
class PrepResult:
    """What prep found, wrote and rejected.

    Attributes:
        splits: found, written, rejected and shards (a count) of each split.
        reasons: rejected images by reason.
        ignored: entries that are no images at all, by kind.
        doubles: images stored as the same JPEG as one of another class; known of a new dataset.
        already_complete: the dataset was there, nothing was done.
    """

    dataset: str
    layout: str
    classes: int
    splits: dict[str, dict[str, int]]
    rejected: list[dict[str, str]]
    reasons: dict[str, int]
    ignored: dict[str, int]
    duplicates: list[dict[str, str]]
    fingerprint: str
    already_complete: bool


def prep(
    source: Path | TarSet,
    folder: Path,
    options: PrepOptions,
    *,
    layout: str | None = None,
    check_md5: bool = False,
    num_workers: int | None = None,
    scheduler: str | None = None,
    follow_links: bool = False,
    allow_empty_class: bool = False,
    force: bool = False,
    progress: Progress = SILENT,
) -> PrepResult:
    """Write the shards and indexes of `source` into `folder`.

    Their bytes do not depend on the number of workers, nor on how often prep was stopped.

    Args:
        source: a file or folder; or tars at URLs, which are fetched into `folder` for as long as
            prep is at work.
        layout: of the source, one of `LAYOUTS`; by default found out by looking.
        check_md5: compare the official archives with their published MD5 first.
        scheduler: address of a Dask scheduler, whose workers make the shards instead of ours.
        follow_links: follow links that lead out of a folder of classes.
        allow_empty_class: keep a class without a training image, and its number.
        force: begin even if the disk looks too small.

    Raises:
        SourceError, UsageError: the source, or the scheduler's address, cannot be used.
        DatasetError: the folder holds something else, or no tar lies at a URL.
        MachineError: the folder is in use or cannot be written, the disk is full or will be, the
            network fails, a worker died, the cluster is lost or does not fit.
        Stopped: by a signal. Finished tars and shards are kept, whatever is raised.
    """
    how = {"layout": layout, "md5": check_md5, "follow_links": follow_links}
    folder = folder.absolute() if scheduler else folder  # its workers run somewhere else
    with entered(folder):
        here, origin = _bring(source, folder, options, how, progress, force)
        if here is None:
            return _complete(folder, ignored={})
        here = here.absolute() if scheduler else here
        with _cluster(scheduler, here, folder, progress) as cluster:
            release = _read(here, folder, options, how, progress, allow_empty_class)
            plan = _plan(release, options, follow_links, origin)
            if (folder / INDEX_NAME).exists():
                return _already_complete(folder, plan, release)
            who = num_workers or num_cores(), cluster
            return _make(folder, plan, release, who, force, allow_empty_class, progress)


def _cluster(scheduler: str | None, source: Path, folder: Path, progress: Progress):
    return connected(scheduler, source, folder, progress) if scheduler else nullcontext()


def _read(
    source: Path,
    folder: Path,
    options: PrepOptions,
    how: dict,
    progress: Progress,
    allow_empty_class: bool,
) -> Source:
    release = read_source(
        source,
        folder / RECORDS / "spool",
        val_fraction=options.val_fraction,
        seed=options.seed,
        progress=progress,
        **how,
    )
    counts = ", ".join(f"{len(release.images[s]):,} {s}" for s in release.images)
    progress.say(f"{source}: {release.layout}, {len(release.classes):,} classes, {counts}")
    if not allow_empty_class:
        release.check_classes()
    return release


def _bring(
    source: Path | TarSet,
    folder: Path,
    options: PrepOptions,
    how: dict,
    progress: Progress,
    force: bool,
) -> tuple[Path | None, dict]:
    """Return where the images lie on this disk, None if nothing is to do; and where from."""
    if isinstance(source, TarSet):
        check_options(source, how, options)
        return bring(source, folder, options, progress, force=force)
    return source, {}


def _plan(release: Source, options: PrepOptions, follow_links: bool, origin: dict) -> dict:
    how = {"follow_links": True} if follow_links else {}
    about = {"layout": release.layout, "fingerprint": release.fingerprint(), **how, **origin}
    return {"options": asdict(options), "source": about}


def _make(
    folder: Path,
    plan: dict,
    release: Source,
    who: tuple[int, Cluster | None],
    force: bool,
    allow_empty_class: bool,
    progress: Progress,
) -> PrepResult:
    """Make and publish all shards, by so many processes of ours or by a cluster."""
    tasks = plan_shards(release, folder, PrepOptions(**plan["options"]))
    with catch_signals() as stop_signal:
        work = PrepWork(folder, tasks, who[0], stop_signal, progress, who[1])
        work.make_all(plan, release, force=force)
        _check_no_class_was_lost(folder, release, work.records, allow_empty_class, progress)
        return _publish(folder, plan, release, tasks, work.records, progress)


def _already_complete(folder: Path, plan: dict, release: Source) -> PrepResult:
    """Accept a finished dataset of the same plan, refuse any other."""
    index = read_index(folder)
    # The same tars from a URL and in a folder make the same dataset.
    source = {name: value for name, value in index.source.items() if name not in ORIGIN}
    found = {"options": index.options, "source": source}
    if found != plan:
        raise another_dataset(folder, found, plan)
    return _complete(folder, release.ignored)


def _complete(folder: Path, ignored: dict[str, int]) -> PrepResult:
    open_dataset(folder)  # every shard is there, with its size
    finish(folder)
    index = read_index(folder)
    return _result(folder, ignored, index, read_rejected(folder), [], already_complete=True)


def _publish(
    folder: Path,
    plan: dict,
    release: Source,
    tasks: list[ShardTask],
    records: dict[str, ShardRecord],
    progress: Progress,
) -> PrepResult:
    """Write the sample indexes, the rejects and, last, index.json."""
    ordered = [records[task.name] for task in tasks]
    splits, contents = {}, {}
    for split in release.images:
        mine = [r for task, r in zip(tasks, ordered, strict=True) if task.split == split]
        splits[split] = SplitIndex(
            found=len(release.images[split]),
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
    write_index(folder, index)
    finish(folder)
    duplicates = find_duplicates(list(zip(tasks, ordered, strict=True)), progress)
    if duplicates:
        progress.say(in_words(duplicates))
    return _result(folder, release.ignored, index, rejected, duplicates, already_complete=False)


def _check_no_class_was_lost(
    folder: Path,
    release: Source,
    records: dict[str, ShardRecord],
    allow_empty_class: bool,
    progress: Progress,
) -> None:
    """Publish nothing, or say which classes are empty, if a class has no training image."""
    train = [record for name, record in records.items() if name.startswith("train")]
    written = {label for record in train for _, _, label, *_ in record.samples}
    lost = [c.wnid for label, c in enumerate(release.classes) if label not in written]
    if not lost:
        return
    shown = some_names(lost)
    if allow_empty_class:
        progress.say(f"{len(lost)} classes have no training image, but keep their number: {shown}")
        return
    rows = [row for record in train for row in record.rejected]
    source, _, reason, detail = next(r for r in rows if release.classes[r[1]].wnid in lost)
    for name in records:
        (folder / name).unlink(missing_ok=True)
    forget(folder)
    raise SourceError(
        f"every training image of {len(lost)} classes was rejected: {shown}.\n"
        f"The first is {on_one_line(source)}: {reason} ({on_one_line(detail)}).\n"
        "Nothing was written."
    )


def _result(
    folder: Path,
    ignored: dict[str, int],
    index: Index,
    rejected: list[dict[str, str]],
    duplicates: list[dict[str, str]],
    *,
    already_complete: bool,
) -> PrepResult:
    return PrepResult(
        dataset=str(folder),
        layout=index.source["layout"],
        classes=len(index.classes),
        splits={name: split.counts() for name, split in index.splits.items()},
        rejected=rejected,
        reasons=dict(Counter(row["reason"] for row in rejected)),
        ignored=ignored,
        duplicates=duplicates,
        fingerprint=index.fingerprint(),
        already_complete=already_complete,
    )
