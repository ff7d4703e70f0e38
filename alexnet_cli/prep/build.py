"""`alexnet prep`: a source of images -> 256x256 JPEG shards (paper section 2)."""

from collections import Counter
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from alexnet_cli.data.remote.tar_set import TarSet
from alexnet_cli.data.shards.dataset import open_dataset
from alexnet_cli.data.shards.index import INDEX_NAME, Index, read_index
from alexnet_cli.data.shards.writer import RECORDS
from alexnet_cli.data.sources.class_list import read_class_list
from alexnet_cli.data.sources.detect import read_source
from alexnet_cli.data.sources.source import Source, SourceOptions
from alexnet_cli.errors import UsageError, counted
from alexnet_cli.io.disk import free_bytes
from alexnet_cli.io.progress import SILENT, Progress
from alexnet_cli.io.signals import catch_signals
from alexnet_cli.prep.cluster import Cluster, connected
from alexnet_cli.prep.fetch import ORIGIN, fetch_source
from alexnet_cli.prep.folder import another_dataset, entered, finish
from alexnet_cli.prep.make import PrepWork, needed_bytes
from alexnet_cli.prep.plan import PrepRequest, plan_shards
from alexnet_cli.prep.publish import (
    check_no_class_was_lost,
    find_duplicates,
    publish,
    read_rejected,
)


@dataclass(frozen=True, slots=True)
class PrepResult:
    """What prep found, wrote and rejected."""

    dataset: str
    layout: str
    classes: int
    splits: dict[str, dict[str, int]]  # numbers found, written, rejected, ignored, and of shards
    rejected: list[dict[str, str]]
    reasons: dict[str, int]  # rejected images by reason
    ignored: dict[str, int]  # entries that are not read, by reason
    ignored_by_split: dict[str, dict[str, int]]
    noted: dict[str, int]  # images that other rules of decoding would change, in a new dataset
    duplicates: list[dict[str, str]]  # the same JPEG as of another class, in a new dataset
    overlap: list[dict[str, str]]  # the same JPEG as of another split, in a new dataset
    fingerprint: str
    already_complete: bool  # the dataset was there, nothing was done


def prep(request: PrepRequest, progress: Progress = SILENT) -> PrepResult:
    """Write the shards and indexes of a source into a folder.

    Their bytes do not depend on the number of workers, nor on how often prep was stopped.

    Raises:
        SourceError, UsageError: if the source, or the scheduler's address, cannot be used.
        DatasetError: if the folder holds something else, or no tar is found at a URL.
        MachineError: if the folder is in use or cannot be written, the disk is full or will be,
            the network fails, a worker died, or the cluster is lost or does not fit.
        Stopped: if a signal stopped it. Finished tars and shards are kept after any of these.
    """
    if request.scheduler:  # its workers run in other folders
        request = replace(request, folder=request.folder.absolute())
    folder = request.folder
    with entered(folder):
        origin: dict[str, str] = {}
        path: Path | None
        if isinstance(request.source, TarSet):
            path, origin = fetch_source(request.source, request, progress)
            if path is None:
                return _complete(folder, {})
        else:
            path = request.source
        if request.scheduler:
            path = path.absolute()
        with _cluster(request, path, progress) as cluster:
            source = _list_images(request, path, progress)
            plan = _plan(request, source, origin)
            if (folder / INDEX_NAME).exists():
                return _already_complete(folder, plan, source)
            tasks = plan_shards(source, folder, request.options)
            with catch_signals() as stop_signal:
                work = PrepWork(folder, tasks, request.workers, stop_signal, progress, cluster)
                made = work.make_all(plan, source.staged, force=request.force)
                check_no_class_was_lost(source, made, request.allow_empty_class, progress)
                index, rejected = publish(folder, plan, source, made)
                finish(folder)
                duplicates = find_duplicates(made, progress)
            noted = sum((Counter(record.noted) for _, record in made), Counter())
            result = _result(folder, index, rejected, source.ignored_by_split)
            return replace(
                result, noted=dict(noted), duplicates=duplicates[0], overlap=duplicates[1]
            )


@dataclass(frozen=True, slots=True)
class PrepPlan:
    """What prep would make of a source. Which images cannot be decoded is not known yet."""

    source: str
    dataset: str
    exists: bool  # whether the dataset is there already
    layout: str
    classes: int
    empty_classes: list[str]  # wnids of classes without a training image
    splits: dict[str, dict[str, int]]  # numbers found, ignored, and of shards
    ignored: dict[str, int]  # entries that would not be read, by reason
    ignored_by_split: dict[str, dict[str, int]]
    notes: list[str]  # what was taken for what
    needed_bytes: int  # about, of the shards
    staging_bytes: int  # about, of copies until prep is done
    free_bytes: int


def plan(request: PrepRequest, progress: Progress = SILENT) -> PrepPlan:
    """Find what prep would make, without writing anything.

    Raises:
        SourceError, UsageError: if the source cannot be used, or its tars must be fetched first.
    """
    if isinstance(request.source, TarSet):
        raise UsageError(
            "tars at URLs are counted only after they were fetched.",
            hint="Copy them into a folder and name it.",
        )
    source = _list_images(replace(request, allow_empty_class=True), request.source, progress)
    tasks = plan_shards(source, request.folder, request.options)
    shards = Counter(task.split for task in tasks)
    folder = request.folder.absolute()
    disk = next(path for path in (folder, *folder.parents) if path.is_dir())
    splits = {}
    for name in {**source.images, **source.ignored_by_split}:
        ignored = sum(source.ignored_by_split.get(name, {}).values())
        found = len(source.images.get(name, ())) + ignored
        if found:
            splits[name] = {"found": found, "ignored": ignored, "shards": shards[name]}
    return PrepPlan(
        source=str(request.source),
        dataset=str(request.folder),
        exists=(request.folder / INDEX_NAME).exists(),
        layout=source.layout,
        classes=len(source.classes),
        empty_classes=source.empty_classes(),
        splits=splits,
        ignored=source.ignored,
        ignored_by_split={name: dict(why) for name, why in source.ignored_by_split.items() if why},
        notes=list(source.notes),
        needed_bytes=needed_bytes(tasks) if tasks else 0,
        staging_bytes=sum(file.num_bytes for file in source.staged),
        free_bytes=free_bytes(disk),
    )


def _cluster(
    request: PrepRequest, path: Path, progress: Progress
) -> AbstractContextManager[Cluster | None]:
    if request.scheduler:
        return connected(request.scheduler, path, request.folder, progress)
    return nullcontext()


def _list_images(request: PrepRequest, path: Path, progress: Progress) -> Source:
    options = SourceOptions(
        request.folder / RECORDS / "staging",
        request.layout,
        request.options.val_fraction,
        request.options.seed,
        request.check_md5,
        request.labels,
        request.follow_links,
        read_class_list(request.classes) if request.classes else None,
        request.columns,
    )
    source = read_source(path, options, progress)
    counts = ", ".join(f"{len(source.images[s]):,} {s}" for s in source.images)
    progress.say(f"{path}: {source.layout}, {counted(len(source.classes), 'class')}, {counts}")
    if not request.allow_empty_class:
        source.check_classes()
    return source


def _plan(request: PrepRequest, source: Source, origin: dict) -> dict:
    """Return what index.json records of a dataset's origin."""
    given = {
        "follow_links": request.follow_links,
        "labels": request.labels.name if request.labels else None,
        "named_classes": request.classes is not None,
        "columns": request.columns,
    }
    given = {name: value for name, value in given.items() if value}
    about = {"layout": source.layout, "fingerprint": source.fingerprint(), **given, **origin}
    return {"options": request.options.to_json(), "source": about}


def _already_complete(folder: Path, plan: dict, source: Source) -> PrepResult:
    """Accept a finished dataset of the same plan, refuse any other."""
    index = read_index(folder)
    # The same tars from a URL and in a folder make the same dataset.
    recorded = {name: value for name, value in index.source.items() if name not in ORIGIN}
    found = {"options": index.options, "source": recorded}
    if found != plan:
        raise another_dataset(folder, found, plan)
    return _complete(folder, source.ignored_by_split)


def _complete(folder: Path, ignored: dict[str, dict[str, int]]) -> PrepResult:
    open_dataset(folder)  # every shard is there, with its size
    finish(folder)
    result = _result(folder, read_index(folder), read_rejected(folder), ignored)
    return replace(result, already_complete=True)


def _result(
    folder: Path,
    index: Index,
    rejected: list[dict[str, str]],
    ignored: dict[str, dict[str, int]],
) -> PrepResult:
    """Return what the finished dataset says; what only its making shows is left empty."""
    splits = {name: {**split.counts(), "ignored": 0} for name, split in index.splits.items()}
    ignored = {name: dict(reasons) for name, reasons in ignored.items() if reasons}
    for name, reasons in ignored.items():
        counts = splits.setdefault(
            name, dict.fromkeys(("found", "written", "rejected", "shards"), 0)
        )
        counts["ignored"] = sum(reasons.values())
        counts["found"] += counts["ignored"]
    return PrepResult(
        dataset=str(folder),
        layout=index.source["layout"],
        classes=len(index.classes),
        splits=splits,
        rejected=rejected,
        reasons=dict(Counter(row["reason"] for row in rejected)),
        ignored=dict(sum(map(Counter, ignored.values()), Counter())),
        ignored_by_split=ignored,
        noted={},
        duplicates=[],
        overlap=[],
        fingerprint=index.fingerprint(),
        already_complete=False,
    )
