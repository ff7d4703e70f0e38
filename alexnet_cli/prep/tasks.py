"""The shards of one prep, made wherever they are missing, through every way of being stopped."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from alexnet_cli.data.shards.writer import ShardRecord, ShardTask, read_record
from alexnet_cli.data.sources.source import Source
from alexnet_cli.data.sources.staging import fill_staging, missing_bytes
from alexnet_cli.errors import SourceError, Stopped
from alexnet_cli.io.progress import Progress
from alexnet_cli.io.stop_signal import StopSignal
from alexnet_cli.io.thread_map import thread_map
from alexnet_cli.prep.cluster import Cluster
from alexnet_cli.prep.disk_space import check_space, explain_fault
from alexnet_cli.prep.folder import claim
from alexnet_cli.prep.workers import run_tasks


@dataclass(slots=True)
class PrepWork:
    """The shards of one prep: those that are done, and the making of the others."""

    folder: Path
    tasks: list[ShardTask]
    num_workers: int
    stop_signal: StopSignal
    progress: Progress
    cluster: Cluster | None = None
    records: dict[str, ShardRecord] = field(default_factory=dict)

    def make_all(self, plan: dict, release: Source, *, force: bool) -> None:
        """Find what is done, see that the rest fits on the disk, make it.

        Raises:
            DatasetError, MachineError, SourceError: as `prep`.
            Stopped: by a signal.
        """
        archives = _archives(self.tasks)
        self._find_finished()
        if not force:
            check_space(self.folder, self._missing(), missing_bytes(release.spool))
        try:
            claim(self.folder, plan, self.tasks)
            fill_staging(release.spool, self.progress, self._stop_if_asked, force=force)
            self._make_missing()
        except BrokenPipeError:  # of our output, not of the disk
            raise
        except OSError as error:
            raise explain_fault(error, self.folder, self._missing()) from error
        _check_unchanged(archives, self.folder)

    def _missing(self) -> list[ShardTask]:
        return [task for task in self.tasks if task.name not in self.records]

    def _find_finished(self) -> None:
        """Take the shards of a prep that was stopped, if they still have the bytes they had."""
        begun = [task for task in self.tasks if task.record_path.is_file()]
        with self.progress.track("checking", len(begun)) as bar:
            for record in thread_map(read_record, begun, self.num_workers):
                self._stop_if_asked()
                bar.advance()
                if record:
                    self.records[record.shard.name] = record
        if self.records:
            done = f"{len(self.records)} of {len(self.tasks)} shards are done"
            self.progress.say(f"resuming: {done}")

    def _make_missing(self) -> None:
        missing = self._missing()
        with self.progress.track("prep", sum(len(task.images) for task in missing)) as bar:
            for record in self._run(missing):
                self.records[record.shard.name] = record
                bar.advance(len(record.samples) + len(record.rejected), note=record.shard.name)
        if self._missing():
            self._stop_if_asked()

    def _run(self, tasks: list[ShardTask]) -> Iterator[ShardRecord]:
        if self.cluster:
            return self.cluster.run_tasks(tasks, self.stop_signal)
        return run_tasks(tasks, min(self.num_workers, len(tasks)), self.stop_signal)

    def _stop_if_asked(self) -> None:
        """Raise Stopped, with what is done, if a signal asked for it."""
        if self.stop_signal.signal_number:
            done = sum(task.record_path.is_file() for task in self.tasks)
            raise Stopped(
                f"stopped: {done} of {len(self.tasks)} shards are done; "
                "run the same command to go on.",
                self.stop_signal.signal_number,
            )


Stamps = dict[Path, tuple[int, int]]


def _archives(tasks: list[ShardTask]) -> Stamps:
    """Return size and time of every file that holds many images."""
    paths = {p.path for task in tasks for p in task.images if p.offset >= 0}
    return {path: _stamp(path) for path in paths if path.exists()}


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _check_unchanged(archives: Stamps, folder: Path) -> None:
    """Refuse to publish labels listed from one archive with images read from another."""
    for path, stamp in archives.items():
        if not path.exists() or _stamp(path) != stamp:
            raise SourceError(
                f"{path}: changed while prep was at work, so its shards cannot be trusted.\n"
                f"No dataset was finished. Remove {folder} and run prep again."
            )
