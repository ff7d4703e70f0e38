"""Checkpoints while training goes on: copied first, written by a thread, published when whole."""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from alexnet_cli.errors import MachineError
from alexnet_cli.model.checkpoint import Checkpoint
from alexnet_cli.training.run_directory import RunDirectory


@dataclass(frozen=True, slots=True)
class SaveEvery:
    """How often a run is saved within an epoch; each epoch's end is saved anyway.

    Attributes:
        minutes: since the last checkpoint; 0 for not by time.
        steps: updates since the last checkpoint; 0 for not by steps.
    """

    minutes: float = 10.0
    steps: int = 0


class Checkpointer:
    """Writes the checkpoints of one run, one at a time, in the order given."""

    def __init__(self, run: RunDirectory, every: SaveEvery):
        self.run, self.every = run, every
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future | None = None
        self._saved_at, self._steps = time.monotonic(), 0

    def is_due(self) -> bool:
        """Count an update, and tell whether a checkpoint is due after it.

        Raises:
            MachineError: the last one could not be written.
        """
        if self._writing and self._writing.done():
            self.wait()
        self._steps += 1
        seconds = time.monotonic() - self._saved_at
        by_time = self.every.minutes and seconds >= 60 * self.every.minutes
        return bool(by_time or (self.every.steps and self._steps >= self.every.steps))

    def save(self, checkpoint: Checkpoint, *, is_best: bool) -> None:
        """Begin to write a checkpoint that nothing else will change; wait for the one before.

        Raises:
            MachineError: that one could not be written.
        """
        self.wait()
        self._saved_at, self._steps = time.monotonic(), 0
        self._writing = self._pool.submit(self._write, checkpoint, is_best=is_best)

    def wait(self) -> None:
        """Return when everything is on the disk.

        Raises:
            MachineError: it could not be written; the checkpoint before it is kept.
        """
        writing, self._writing = self._writing, None
        if writing:
            writing.result()

    def close(self) -> None:
        """Let the thread end."""
        self._pool.shutdown()

    def _write(self, checkpoint: Checkpoint, *, is_best: bool) -> None:
        try:
            self.run.save(checkpoint, is_best=is_best)
        except OSError as error:
            advice = "Make room, and begin again"
            if self.run.last.exists():
                advice = f"{self.run.last} is kept. Make room, then the same command with --resume"
            raise MachineError(
                f"{error.filename}: a checkpoint could not be written to this disk "
                f"({error.strerror}).\n{advice}."
            ) from error
