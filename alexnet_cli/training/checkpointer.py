"""Writes checkpoints in a thread while training continues."""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from alexnet_cli.errors import MachineError, hint
from alexnet_cli.model.checkpoint import Checkpoint
from alexnet_cli.training.run_directory import RunDirectory


@dataclass(frozen=True, slots=True)
class SaveInterval:
    """How often a run is saved within an epoch. The end of each epoch is always saved.

    Attributes:
        minutes: since the last checkpoint; 0 disables saving by time.
        steps: updates since the last checkpoint; 0 disables saving by steps.
    """

    minutes: float = 10.0
    steps: int = 0


class Checkpointer:
    """Writes the checkpoints of one run, one at a time and in order."""

    def __init__(self, run: RunDirectory, interval: SaveInterval):
        self.run, self.interval = run, interval
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future | None = None
        self._saved_at = time.monotonic()
        self._steps = 0

    def is_due(self) -> bool:
        """Count an update; return whether a checkpoint is due after it.

        Raises:
            MachineError: if the last checkpoint could not be written.
        """
        if self._writing and self._writing.done():
            self.wait()
        self._steps += 1
        seconds = time.monotonic() - self._saved_at
        by_time = self.interval.minutes and seconds >= 60 * self.interval.minutes
        return bool(by_time or (self.interval.steps and self._steps >= self.interval.steps))

    def save(self, checkpoint: Checkpoint, *, is_best: bool) -> None:
        """Wait for the previous checkpoint, then begin to write this one.

        Args:
            checkpoint: must not be modified afterwards.

        Raises:
            MachineError: if the previous checkpoint could not be written.
        """
        self.wait()
        self._saved_at = time.monotonic()
        self._steps = 0
        self._writing = self._pool.submit(self._write, checkpoint, is_best=is_best)

    def wait(self) -> None:
        """Return when the last checkpoint is on the disk.

        Raises:
            MachineError: if it could not be written; the checkpoint before it is kept.
        """
        writing, self._writing = self._writing, None
        if writing:
            writing.result()

    def close(self) -> None:
        """End the thread."""
        self._pool.shutdown()

    def _write(self, checkpoint: Checkpoint, *, is_best: bool) -> None:
        try:
            self.run.save(checkpoint, is_best=is_best)
        except OSError as error:
            has_last = self.run.last.exists()
            raise MachineError(
                f"{error.filename}: the checkpoint could not be written ({error.strerror}).",
                kept=f"{self.run.last} is kept." if has_last else None,
                hint=hint("free_space_and_resume") if has_last else "Free some space and restart.",
            ) from error
