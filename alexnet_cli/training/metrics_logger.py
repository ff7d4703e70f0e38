"""Per-epoch metrics: throughput, log.jsonl, and curves in other programs."""

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

from alexnet_cli.errors import brief
from alexnet_cli.io.process import peak_memory
from alexnet_cli.io.progress import Progress
from alexnet_cli.io.terminal import shows_blocks, spark_line
from alexnet_cli.training.loggers import LOGGERS, Logger
from alexnet_cli.training.run_directory import RunDirectory

CURVE_EVERY = 20  # steps
EPOCHS_DRAWN = 16  # in the line of an epoch
Item = TypeVar("Item")


class MetricsLogger:
    """Writes the metrics of one run. A metric that cannot be written does not stop training."""

    def __init__(
        self,
        run: RunDirectory,
        progress: Progress,
        loggers: tuple[str, ...] = (),
        config: dict | None = None,
    ):
        self.run, self.progress, self.names = run, progress, loggers
        self._config = config or {}
        self._loggers: dict[str, Logger] = {}
        self._last_drawn = 0

    @contextmanager
    def opened(self, num_updates: int) -> Iterator[None]:
        """Draw curves in the programs that were asked for, until the block ends.

        Args:
            num_updates: done before; a number above 0 continues the curves of a resumed run.
        """
        self._last_drawn = num_updates
        for name in self.names:
            with self._dropping(name):
                self._loggers[name] = LOGGERS[name](self.run, self._config, num_updates)
        try:
            yield
        finally:
            for name, logger in list(self._loggers.items()):
                with self._dropping(name):
                    logger.close()
            self._loggers = {}

    @contextmanager
    def _dropping(self, name: str) -> Iterator[None]:
        """Leave out a program from here on if it fails in the block, whatever it raises."""
        try:
            yield
        except Exception as error:
            self._loggers.pop(name, None)
            what = brief(error) or type(error).__name__
            self.progress.say(f"{name}: {what}; training continues without it")

    def log_step(self, step: int, loss: float, lr: float) -> None:
        """Draw the mean loss of the epoch so far, once in every `CURVE_EVERY` updates.

        Call this after each update at which the loss was read.
        """
        if step // CURVE_EVERY > self._last_drawn // CURVE_EVERY:
            self.draw(step, {"loss": loss, "lr": lr})
            self._last_drawn = step

    def log_epoch(self, row: dict) -> None:
        """Append the metrics of a finished epoch to the log and the curves."""
        try:
            self.run.add_row(row)
            self.draw(row["steps"], row)
        except OSError as error:
            self.progress.say(
                f"{self.run.log}: could not be written ({error.strerror}); training continues"
            )

    def draw(self, step: int, values: dict) -> None:
        """Draw the numbers among values; those of a nested object, such as `val`, as `val/NAME`."""
        numbers = dict(_numbers(values))
        for name, logger in list(self._loggers.items()):
            with self._dropping(name):
                logger.log(step, numbers)

    def report_epoch(
        self, row: dict, num_epochs: int, *, is_best: bool, seconds_left: float
    ) -> None:
        """Show a finished epoch, which is in the log already, in one line."""
        text = f"epoch {row['epoch']}/{num_epochs}: train loss {row['train_loss']:.3f}"
        if errors := row.get("val"):
            top1, top5 = errors["top1_error"], errors["top5_error"]
            text += f", val top-1 {top1:.1%}, top-5 {top5:.1%}"
        text += f", {row['images_per_second']:.0f} images/s" + (", best" if is_best else "")
        self.progress.say(text + _time_left(seconds_left) + self._trend())

    def _trend(self) -> str:
        """Return the training losses of the last epochs as blocks, where a terminal shows them."""
        if not shows_blocks(sys.stderr):
            return ""
        losses = [row["train_loss"] for row in self.run.rows()[-EPOCHS_DRAWN:]]
        return f"  {spark_line(losses)}" if len(losses) > 1 else ""


def _numbers(values: dict, prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _numbers(value, f"{prefix}{name}/")
        elif isinstance(value, (int, float)):
            yield f"{prefix}{name}", value


def _time_left(seconds: float) -> str:
    if seconds < 60:
        return ""
    hours, minutes = divmod(round(seconds / 60), 60)
    return f", {hours} h {minutes} min left" if hours else f", {minutes} min left"


class Throughput:
    """Counts images and seconds of training, without validation.

    Attributes:
        images: trained on in all epochs of this process.
        seconds: spent on them.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self.images = 0
        self.seconds = 0.0
        self._began = 0.0
        self._images = 0
        self._waited = 0.0
        self._elapsed = 0.0

    def begin_epoch(self) -> None:
        """Begin an epoch, or the rest of one."""
        self._began = time.perf_counter()
        self._images = 0
        self._waited = 0.0

    def count(self, num_images: int) -> None:
        """Count the images of a step."""
        self._images += num_images

    def timed(self, batches: Iterable[Item]) -> Iterator[Item]:
        """Yield the batches and measure how long the loop waits for each."""
        iterator = iter(batches)
        while True:
            began = time.perf_counter()
            batch = next(iterator, None)
            self._waited += time.perf_counter() - began
            if batch is None:
                return
            yield batch

    def end_epoch(self) -> None:
        """Add the epoch to the totals."""
        self._elapsed = time.perf_counter() - self._began
        self.images += self._images
        self.seconds += self._elapsed

    def row(self) -> dict[str, float | None]:
        """Return the last epoch's images per second, share of waiting for data, and peak memory."""
        peak = self._peak_memory()
        elapsed = max(self._elapsed, 1e-9)
        return {
            "images_per_second": round(self._images / elapsed, 1),
            "data_wait": round(self._waited / elapsed, 4),
            "memory_mb": None if peak is None else round(peak / 1e6),
        }

    def seconds_for(self, num_images: int) -> float:
        """Return how long a number of images takes at the average speed so far."""
        return num_images * self.seconds / max(self.images, 1)

    def _peak_memory(self) -> int | None:
        """Return the peak bytes of the GPU, or of this process; None where nothing is known."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        return peak_memory()
