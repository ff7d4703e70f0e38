"""Makes lost or damaged files of a dataset again, to the very bytes they had, or not at all.

index.json comes from its copy, a sample index from its shards. Shards and rejected.csv are made
from the source, in a folder inside the dataset, and compared with the recorded hashes; only when
all of them are right do they replace the damaged files.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from alexnet_cli.data.shards.dataset import samples_name
from alexnet_cli.data.shards.index import (
    INDEX_COPY,
    INDEX_NAME,
    REJECTED_NAME,
    FileRecord,
    Index,
    read_index,
)
from alexnet_cli.data.shards.tar_layout import scan_samples
from alexnet_cli.data.shards.writer import RECORDS, ShardTask, make_jpeg
from alexnet_cli.data.sources.class_list import list_of
from alexnet_cli.data.sources.detect import read_source
from alexnet_cli.data.sources.source import Source, SourceOptions
from alexnet_cli.errors import AlexNetError, DatasetError, ImageError, UsageError, hint, some_names
from alexnet_cli.io.atomic import move_into_place, write_bytes
from alexnet_cli.io.progress import Progress
from alexnet_cli.io.signals import catch_signals
from alexnet_cli.prep.audit import Audit
from alexnet_cli.prep.make import PrepWork
from alexnet_cli.prep.plan import PrepOptions, plan_shards
from alexnet_cli.prep.publish import Made, Sample, rejected_csv, rejected_rows, sample_index

REPAIR_FOLDER = ".repair"
UNCHANGED = "Nothing was changed."
MAKE_AGAIN = "Put back index.json from a backup, or make the dataset again: alexnet prep"


def is_index(name: str) -> bool:
    """Return whether a file of a dataset can be made again without the source."""
    return name in (INDEX_NAME, INDEX_COPY) or name.endswith(samples_name(""))


def restore_index(folder: Path) -> list[str]:
    """Make index.json and its copy the same again, from index.json if it can be trusted.

    Returns:
        The name of the file that was written, if one was.
    """
    paths = folder / INDEX_NAME, folder / INDEX_COPY
    if not any(path.is_file() for path in paths):
        read_index(folder)  # raises the error that says how to make one
    for source, target in (paths, paths[::-1]):
        with suppress(DatasetError):
            read_index(folder, source.name)
            content = source.read_bytes()
            if target.is_file() and target.read_bytes() == content:
                return []
            write_bytes(target, content)
            return [target.name]
    raise DatasetError(
        f"{folder}: neither {INDEX_NAME} nor its copy can be trusted.",
        kept=UNCHANGED,
        hint=MAKE_AGAIN,
    )


def rebuild_samples(folder: Path, index: Index, damaged: set[str]) -> list[str]:
    """Make damaged sample indexes again where every shard of their split is whole.

    Returns:
        The names of those that got the bytes they had.
    """
    rebuilt = []
    for split, record in index.splits.items():
        name = samples_name(split)
        if name not in damaged or damaged & {shard.name for shard in record.shards}:
            continue
        content = sample_index([scan_samples(folder / shard.name) for shard in record.shards])
        if index.files.get(name) == FileRecord.of(content):
            write_bytes(folder / name, content)
            rebuilt.append(name)
    return rebuilt


def repair(
    folder: Path,
    source: Path,
    audit: Audit,
    *,
    layout: str | None,
    labels: Path | None = None,
    num_workers: int,
    progress: Progress,
) -> list[str]:
    """Make the damaged and missing files of an audit again; remove copies of shards.

    Returns:
        The names of the files that were replaced or removed.

    Raises:
        DatasetError: if the index is damaged, or the files do not get the bytes they had.
        SourceError: if the source is not the one the dataset was made of.
        MachineError: if the disk has not the room, or a worker died.
        Stopped: if a signal stopped it. After any of these, nothing has changed.
    """
    index = audit.index
    if index is None:
        raise DatasetError(
            f"{folder}: without its index it cannot be repaired.", kept=UNCHANGED, hint=MAKE_AGAIN
        )
    damaged = {finding.file for finding in audit.findings} - set(audit.copies)
    with _repair_folder(folder) as staging, catch_signals() as stop_signal:
        options = PrepOptions(**index.options)
        found = _list_images(source, layout, labels, index, options, staging, progress)
        tasks = plan_shards(found, staging, options)
        wanted = [task for task in tasks if task.name in damaged]
        work = PrepWork(staging, wanted, num_workers, stop_signal, progress)
        try:
            made = work.make_all({}, found.staged, force=False)
        except AlexNetError as error:
            raise error.replaced(kept=UNCHANGED) from error
        names = _Repair(folder, staging, index, damaged, tasks).complete(made)
        for name in names:
            move_into_place(staging / name, folder / name)
    for name in audit.copies:
        (folder / name).unlink(missing_ok=True)
    return names + list(audit.copies)


@contextmanager
def _repair_folder(folder: Path) -> Iterator[Path]:
    staging = folder / REPAIR_FOLDER
    shutil.rmtree(staging, ignore_errors=True)  # of a repair that was killed
    (staging / RECORDS).mkdir(parents=True)
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _list_images(
    source: Path,
    layout: str | None,
    labels: Path | None,
    index: Index,
    options: PrepOptions,
    staging: Path,
    progress: Progress,
) -> Source:
    """List the images of a source that must be the one the dataset was made of."""
    if labels is None and index.source.get("labels"):
        raise UsageError(
            f"{source}: the dataset was made with a file of labels, {index.source['labels']}.",
            kept=UNCHANGED,
            hint=hint("name_labels"),
        )
    how = SourceOptions(
        staging / "staging",
        layout,
        options.val_fraction,
        options.seed,
        labels=labels,
        follow_links=index.source.get("follow_links", False),
        classes=list_of(index.classes) if index.source.get("named_classes") else None,
        columns=index.source.get("columns"),
    )
    listed = read_source(source, how, progress)
    found, expected = listed.fingerprint(), index.source["fingerprint"]
    if found != expected:
        raise DatasetError(
            f"{source} is not what the dataset was made of: fingerprint {found}, recorded "
            f"{expected}.",
            kept=UNCHANGED,
            hint="Name the source it was made of.",
        )
    return listed


@dataclass(frozen=True, slots=True)
class _Repair:
    """The files to make, in a folder beside those that they replace."""

    folder: Path
    staging: Path
    index: Index
    damaged: set[str]  # names of the files to make
    tasks: list[ShardTask]  # those of all shards of the dataset

    def complete(self, made: Made) -> list[str]:
        """Make the files beside the shards; return the names of all if they have their bytes."""
        records = {task.name: record for task, record in made}
        contents = {
            samples_name(split): sample_index(self._samples(split))
            for split in self.index.splits
            if samples_name(split) in self.damaged
        }
        if REJECTED_NAME in self.damaged:
            contents[REJECTED_NAME] = self._rejected()
        expected = {shard.name: shard for s in self.index.splits.values() for shard in s.shards}
        differing = [name for name in records if records[name].shard != expected[name]]
        for name, content in contents.items():
            if self.index.files.get(name, FileRecord.of(content)) != FileRecord.of(content):
                differing.append(name)
            write_bytes(self.staging / name, content)
        if differing:
            raise DatasetError(
                f"{self.folder}: {some_names(sorted(differing))} made again from the same source "
                f"do not get the bytes they had (made by {self.index.tool}; other versions of its "
                "libraries?).",
                kept=UNCHANGED,
                hint="Make a new dataset: alexnet prep SOURCE OTHER",
            )
        return [*records, *contents]

    def _samples(self, split: str) -> list[list[Sample]]:
        """Read the samples of every shard of a split, the new ones and those that are whole."""
        shards = []
        for shard in self.index.splits[split].shards:
            folder = self.staging if shard.name in self.damaged else self.folder
            shards.append(scan_samples(folder / shard.name))
        return shards

    def _rejected(self) -> bytes:
        """Return rejected.csv: the images whose numbers are in no shard, tried once more."""
        rows = []
        for split in self.index.splits:
            written = {sample[3] for shard in self._samples(split) for sample in shard}
            for task in (task for task in self.tasks if task.split == split):
                rejected = []
                for number, image in enumerate(task.images, start=task.first_number):
                    if number not in written:
                        try:
                            make_jpeg(image, task)
                        except ImageError as error:
                            rejected.append((image.source, image.label, error.reason, error.detail))
                rows += rejected_rows(task.split, rejected)
        return rejected_csv(rows)
