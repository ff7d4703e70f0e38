"""Makes the shards of one prep that are missing, if the disk has room for them.

The room is estimated beforehand, because a disk that fills up would stop prep hours later: some
images are made as prep would make them, and their mean size is taken for all. For 256-pixel images
of ImageNet at quality 90 that is about 24 kB per image, 32 GB in all.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING

from alexnet_cli.data.images.resize import to_jpeg, to_square
from alexnet_cli.data.shards.writer import ShardRecord, ShardTask, read_record
from alexnet_cli.data.sources.source import file_stamp
from alexnet_cli.data.sources.staging import StagedFile, fill_staging, missing_bytes
from alexnet_cli.errors import ImageError, MachineError, SourceError, Stopped, counted, hint
from alexnet_cli.io.cores import num_cores, num_workers
from alexnet_cli.io.disk import (
    FULL,
    advice_on,
    check_room,
    fault_in_words,
    free_bytes,
    size_in_words,
)
from alexnet_cli.io.progress import Progress
from alexnet_cli.io.signals import StopSignal
from alexnet_cli.io.starting import shared_memory_fault
from alexnet_cli.io.tar import BLOCK
from alexnet_cli.io.thread_map import thread_map
from alexnet_cli.prep.folder import SHARDS_KEPT, claim
from alexnet_cli.prep.workers import run_tasks

if TYPE_CHECKING:
    from alexnet_cli.prep.cluster import Cluster

NUM_SAMPLES = 32
TAR_BYTES = 5 * BLOCK + BLOCK // 2  # three headers, label and note, and padding
INDEX_BYTES = 200  # a row of the sample index, and of the record that prep works with
MARGIN = 1.05
WORKER_BYTES = 1 << 28  # of a process that decodes large photos


@dataclass(slots=True)
class PrepWork:
    """The shards of one prep: those that are done, and the making of the others."""

    folder: Path
    tasks: list[ShardTask]
    num_workers: int | None  # processes, where no cluster works; None for one per core
    stop_signal: StopSignal
    progress: Progress
    cluster: "Cluster | None" = None
    records: dict[str, ShardRecord] = field(default_factory=dict)

    def make_all(
        self, plan: dict, staged: Sequence[StagedFile], *, force: bool
    ) -> list[tuple[ShardTask, ShardRecord]]:
        """Find what is done, check that the rest fits on the disk, make it; return all."""
        paths = {image.path for task in self.tasks for image in task.images if image.offset >= 0}
        stamps = {path: file_stamp(path) for path in paths if path.exists()}
        self._find_finished()
        if not force:
            check_space(self.folder, self._missing(), missing_bytes(staged))
        try:
            claim(self.folder, plan, self.tasks)
            fill_staging(staged, self.progress, self._check_stopped, force=force)
            self._make_missing()
        except BrokenPipeError:  # of our output, not of the disk
            raise
        except OSError as error:
            raise explain_fault(error, self.folder, self._missing()) from error
        for path, stamp in stamps.items():
            # Labels of one archive must not be published with images of another.
            if not path.exists() or file_stamp(path) != stamp:
                raise SourceError(
                    f"{path}: changed while prep was at work, so its shards cannot be trusted.",
                    kept="No dataset was finished.",
                    hint=f"Remove {self.folder} and run prep again.",
                )
        return [(task, self.records[task.name]) for task in self.tasks]

    def _missing(self) -> list[ShardTask]:
        return [task for task in self.tasks if task.name not in self.records]

    def _find_finished(self) -> None:
        """Take over the shards of a prep that was stopped, if their bytes are unchanged."""
        begun = [task for task in self.tasks if task.record_path.is_file()]
        with self.progress.track("checking", len(begun)) as bar:
            for record in thread_map(read_record, begun, self.num_workers or num_cores()):
                self._check_stopped()
                bar.advance()
                if record:
                    self.records[record.shard.name] = record
        if self.records:
            done = f"{len(self.records)} of {len(self.tasks)} shards are done"
            self.progress.say(f"resuming: {done}")

    def _make_missing(self) -> None:
        missing = self._missing()
        if self.cluster:
            finished = self.cluster.run_tasks(missing, self.stop_signal)
        else:
            finished = run_tasks(missing, self._choose_workers(len(missing)), self.stop_signal)
        with self.progress.track("prep", sum(len(task.images) for task in missing)) as bar:
            for record in finished:
                self.records[record.shard.name] = record
                bar.advance(len(record.samples) + len(record.rejected), note=record.shard.name)
        if self._missing():
            self._check_stopped()

    def _choose_workers(self, num_tasks: int) -> int:
        """Return the number of worker processes, and say why so many."""
        count, why = num_workers(WORKER_BYTES)
        if self.num_workers:
            count, why = self.num_workers, "as asked"
        if count > num_tasks:
            count, why = num_tasks, f"{counted(num_tasks, 'shard')} to make"
        if count > 1 and (fault := shared_memory_fault()):
            count, why = 1, fault
        if num_tasks:
            self.progress.say(f"{counted(count, 'worker')}: {why}")
        return count

    def _check_stopped(self) -> None:
        if self.stop_signal.stop_requested:
            done = sum(task.record_path.is_file() for task in self.tasks)
            raise Stopped(
                f"stopped: {done} of {len(self.tasks)} shards are done.",
                self.stop_signal.signal_number,
                hint="Run the same command to continue.",
            )


def check_space(folder: Path, tasks: list[ShardTask], num_staged: int = 0) -> None:
    """Raise a MachineError if shards still to be made, and staged bytes, do not fit on the disk."""
    num_images = sum(len(task.images) for task in tasks)
    if not num_images:
        return
    largest = 3 * tasks[0].size ** 2 + TAR_BYTES + INDEX_BYTES  # an image that JPEG cannot compress
    if free_bytes(folder) > num_staged + num_images * largest:
        return
    check_room(
        folder,
        num_staged + needed_bytes(tasks),
        "the shards still to be made need about",
        hint("force_room"),
        kept=f"Nothing was begun. {SHARDS_KEPT}",
    )


def explain_fault(error: OSError, folder: Path, tasks: list[ShardTask]) -> MachineError:
    """Return the error for a fault of the disk while shards were made.

    Args:
        tasks: the shards that are missing; the room they need is shown if the disk is full.
    """
    missing = ""
    if error.errno in FULL and tasks:
        needed = needed_bytes(tasks)
        try:
            more = needed - free_bytes(folder)
        except OSError:
            more = 0
        missing = f": about {size_in_words(more)} more are needed"
        if more <= 0:  # a quota is used up, whose rest cannot be found out
            missing = f": the shards still to be made need about {size_in_words(needed)}"
    return MachineError(
        f"{fault_in_words(error, folder)}{missing}.", kept=SHARDS_KEPT, hint=advice_on(error)
    )


def needed_bytes(tasks: list[ShardTask]) -> int:
    """Return about how many bytes shards take, by the mean size of some of their images."""
    num_images = sum(len(task.images) for task in tasks)
    sizes = list(_sample_sizes(tasks))
    image_bytes = mean(sizes) if sizes else 3 * tasks[0].size ** 2 / 8  # 24 kB for 256 pixels
    return int(MARGIN * num_images * (image_bytes + TAR_BYTES + INDEX_BYTES))


def _sample_sizes(tasks: list[ShardTask]) -> Iterator[int]:
    step = max(1, len(tasks) // NUM_SAMPLES)
    each = max(1, NUM_SAMPLES // len(tasks))
    for task in tasks[::step]:
        for image in task.images[:each]:
            try:
                yield len(to_jpeg(to_square(image.read(), task.size, task.rules), task.quality))
            except ImageError:
                continue
