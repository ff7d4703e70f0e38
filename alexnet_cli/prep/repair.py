"""Damaged files of a dataset, made again from its source to the very bytes they had, or not at all.

Everything is made in a folder of its own inside the dataset and compared with the recorded hashes;
only when all of it is right do the files change places.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alexnet_cli.data.shards.dataset import samples_name
from alexnet_cli.data.shards.index import REJECTED_NAME, FileRecord, Index
from alexnet_cli.data.shards.tar_layout import scan_samples
from alexnet_cli.data.shards.writer import RECORDS, ShardRecord, ShardTask, make_jpeg
from alexnet_cli.data.sources.detect import read_source
from alexnet_cli.data.sources.source import Source
from alexnet_cli.data.sources.staging import fill_staging
from alexnet_cli.errors import DatasetError, ImageError, Stopped
from alexnet_cli.io.atomic import move_into_place, write_bytes
from alexnet_cli.io.disk import check_room
from alexnet_cli.io.progress import Progress
from alexnet_cli.io.stop_signal import StopSignal, catch_signals
from alexnet_cli.prep.audit import Audit
from alexnet_cli.prep.plan import PrepOptions, plan_shards
from alexnet_cli.prep.side_files import Sample, rejected_csv, rejected_rows, sample_index
from alexnet_cli.prep.workers import run_tasks

STAGING = ".repair"


def repair(
    folder: Path,
    source: Path,
    audit: Audit,
    *,
    layout: str | None,
    num_workers: int,
    progress: Progress,
) -> list[str]:
    """Make the damaged and missing files of an audit again; remove copies of shards.

    Returns:
        The names of the files that were replaced or removed.

    Raises:
        DatasetError: the index is damaged, or the files do not get the bytes they had.
        SourceError: the source is not the one the dataset was made of.
        MachineError: the disk has not the room, or a worker died.
        Stopped: by a signal. Whatever is raised, nothing has changed.
    """
    index = audit.index
    if index is None:
        raise DatasetError(
            f"{folder}: without its index there is nothing to repair it by; nothing was changed.\n"
            "Put a copy of index.json back, or make the dataset again: alexnet prep"
        )
    damaged = {finding.file for finding in audit.findings} - set(audit.copies)
    with _staging(folder) as staging, catch_signals() as stop_signal:
        release = _read_source(source, layout, index, staging, progress)
        job = _Repair(folder, staging, index, release, damaged, num_workers, stop_signal, progress)
        names = job.make()
        for name in names:
            move_into_place(staging / name, folder / name)
    for name in audit.copies:
        (folder / name).unlink(missing_ok=True)
    return names + list(audit.copies)


@contextmanager
def _staging(folder: Path) -> Iterator[Path]:
    staging = folder / STAGING
    shutil.rmtree(staging, ignore_errors=True)  # of a repair that was killed
    (staging / RECORDS).mkdir(parents=True)
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _read_source(
    source: Path, layout: str | None, index: Index, staging: Path, progress: Progress
) -> Source:
    options = PrepOptions(**index.options)
    release = read_source(
        source,
        staging / "spool",
        layout=layout,
        val_fraction=options.val_fraction,
        seed=options.seed,
        follow_links=index.source.get("follow_links", False),
        progress=progress,
    )
    found, expected = release.fingerprint(), index.source["fingerprint"]
    if found != expected:
        raise DatasetError(
            f"{source} is not what the dataset was made of: fingerprint {found}, recorded "
            f"{expected}.\nNothing was changed. Name the source it was made of."
        )
    return release


class _Repair:
    """The files to make, in a folder beside those they shall replace."""

    def __init__(
        self,
        folder: Path,
        staging: Path,
        index: Index,
        release: Source,
        damaged: set[str],
        num_workers: int,
        stop_signal: StopSignal,
        progress: Progress,
    ):
        self.folder, self.staging, self.index, self.release = folder, staging, index, release
        self.damaged, self.num_workers = damaged, num_workers
        self.stop_signal, self.progress = stop_signal, progress
        self.tasks = plan_shards(release, staging, PrepOptions(**index.options))
        self.expected = {s.name: s for split in index.splits.values() for s in split.shards}

    def make(self) -> list[str]:
        """Make every file and return their names; none of them is in its place yet."""
        tasks = [task for task in self.tasks if task.name in self.damaged]
        self._check_space(tasks)
        fill_staging(self.release.spool, self.progress)
        records = self._make_shards(tasks)
        contents = {
            samples_name(split): sample_index(self._samples(split))
            for split in self.index.splits
            if samples_name(split) in self.damaged
        }
        if REJECTED_NAME in self.damaged:
            contents[REJECTED_NAME] = self._rejected()
        differing = [name for name in records if records[name].shard != self.expected[name]]
        for name, content in contents.items():
            if self.index.files.get(name, FileRecord.of(content)) != FileRecord.of(content):
                differing.append(name)
            write_bytes(self.staging / name, content)
        if differing:
            raise self._differs(differing)
        return [*records, *contents]

    def _check_space(self, tasks: list[ShardTask]) -> None:
        needed = sum(self.expected[task.name].num_bytes for task in tasks)
        advice = "Nothing was changed. Make room and run the same command again."
        check_room(self.folder, needed, "the repair needs", advice)

    def _make_shards(self, tasks: list[ShardTask]) -> dict[str, ShardRecord]:
        records = {}
        num_workers = min(self.num_workers, len(tasks))
        with self.progress.track("repair", sum(len(task.images) for task in tasks)) as bar:
            for record in run_tasks(tasks, num_workers, self.stop_signal):
                records[record.shard.name] = record
                bar.advance(len(record.samples) + len(record.rejected), note=record.shard.name)
        if self.stop_signal.signal_number:
            raise Stopped(
                f"stopped: nothing in {self.folder} was changed. Run the same command again.",
                self.stop_signal.signal_number,
            )
        return records

    def _samples(self, split: str) -> list[list[Sample]]:
        """Read the samples of every shard of a split, the new ones and those that are whole."""
        shards = []
        for shard in self.index.splits[split].shards:
            folder = self.staging if shard.name in self.damaged else self.folder
            shards.append(scan_samples(folder / shard.name))
        return shards

    def _rejected(self) -> bytes:
        """Return rejected.csv: the images whose numbers are in no shard, tried once more."""
        written = {
            split: {sample[3] for shard in self._samples(split) for sample in shard}
            for split in self.index.splits
        }
        rows = []
        for task in self.tasks:
            record = ShardRecord(self.expected[task.name], [], [])
            for number, image in enumerate(task.images, start=task.first_number):
                if number not in written[task.split]:
                    try:
                        make_jpeg(image, task.size, task.quality)
                    except ImageError as error:
                        fault = (image.source, image.label, error.reason, error.detail)
                        record.rejected.append(fault)
            rows += rejected_rows(task, record)
        return rejected_csv(rows)

    def _differs(self, names: list[str]) -> DatasetError:
        shown = ", ".join(sorted(names)[:3]) + (", ..." if len(names) > 3 else "")
        return DatasetError(
            f"{self.folder}: {shown} made again from the same source do not get the bytes they had "
            f"(made by {self.index.tool}; other versions of its libraries?).\n"
            "Everything is left as it was. Make a new dataset: alexnet prep SOURCE OTHER"
        )
