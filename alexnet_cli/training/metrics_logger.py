"""What a run tells while it trains: log.jsonl, one line an epoch, and curves for TensorBoard."""

from collections.abc import Iterator
from contextlib import contextmanager

from alexnet_cli.io.progress import Progress
from alexnet_cli.training.run_directory import RunDirectory
from alexnet_cli.training.tensorboard import TensorBoardLogger

CURVE_EVERY = 20  # steps


class MetricsLogger:
    """The records of one run; what cannot be written is said, and training goes on."""

    def __init__(self, run: RunDirectory, progress: Progress, *, with_curves: bool = False):
        self.run, self.progress, self.with_curves = run, progress, with_curves
        self.board = TensorBoardLogger(None)
        self._drawn = 0  # the last step that is in the curves

    @contextmanager
    def opened(self, num_updates: int) -> Iterator[None]:
        """Draw curves, if they are wanted, from an update on until the block ends.

        Raises:
            UsageError: TensorBoard is missing.
        """
        self.board = TensorBoardLogger(self.run.curves if self.with_curves else None, num_updates)
        self._drawn = num_updates
        try:
            yield
        finally:
            self.board.close()

    def note_step(self, step: int, loss: float, rate: float) -> None:
        """Draw the mean loss of the epoch so far, once in every `CURVE_EVERY` updates.

        To be called after those updates at which the loss was read, which need not be all.
        """
        if step // CURVE_EVERY > self._drawn // CURVE_EVERY:
            self.board.add(step, {"loss": loss, "rate": rate})
            self._drawn = step

    def note_epoch(self, row: dict) -> None:
        """Keep a finished epoch's numbers."""
        try:
            self.run.add_row(row)
            self.board.add(row["steps"], row)
        except OSError as error:
            self.progress.say(f"{self.run.log}: could not be written ({error.strerror}); going on")

    def say_epoch(self, row: dict, num_epochs: int, *, is_best: bool, seconds_left: float) -> None:
        """Show a finished epoch in one line."""
        text = f"epoch {row['epoch']}/{num_epochs}: train loss {row['train_loss']:.3f}"
        if errors := row.get("val"):
            top1, top5 = errors["top1_error"], errors["top5_error"]
            text += f", val top-1 {top1:.1%}, top-5 {top5:.1%}"
        text += f", {row['images_per_second']:.0f} images/s" + (", best" if is_best else "")
        self.progress.say(text + _time_left(seconds_left))


def _time_left(seconds: float) -> str:
    if seconds < 60:
        return ""
    hours, minutes = divmod(round(seconds / 60), 60)
    return f", {hours} h {minutes} min left" if hours else f", {minutes} min left"
