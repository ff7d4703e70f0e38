"""The training loop of section 5, which can be stopped and resumed after any step.

All randomness is drawn from (seed, epoch, step), so a run that was stopped and resumed is, bit for
bit on a CPU, the run that was never stopped.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, NoReturn

import torch

from alexnet_cli.data.batches.loader import batches_of
from alexnet_cli.data.batches.readers import Reader
from alexnet_cli.data.shards.dataset import Dataset
from alexnet_cli.distributed.precision import sums_dtype
from alexnet_cli.distributed.prefetch import OnDevice, open_reader, to_device
from alexnet_cli.distributed.replicas import in_group, num_reading_threads
from alexnet_cli.errors import (
    AlexNetError,
    DatasetError,
    DivergedError,
    MachineError,
    Stopped,
    hint,
)
from alexnet_cli.inference.classifier import Classifier
from alexnet_cli.inference.predict_split import score_split
from alexnet_cli.io.progress import SILENT, Progress, Tracker
from alexnet_cli.io.signals import SAVE_AND_STOP, StopSignal, catch_signals, leave
from alexnet_cli.model.checkpoint import Checkpoint, TrainState
from alexnet_cli.model.schedule import LearningRates, is_finished, learning_rates_at
from alexnet_cli.training.activations import explain_not_learning, first_crops, is_not_learning
from alexnet_cli.training.checkpointer import Checkpointer, SaveInterval
from alexnet_cli.training.divergence import Divergence
from alexnet_cli.training.metrics_logger import MetricsLogger, Throughput
from alexnet_cli.training.run_directory import RunDirectory
from alexnet_cli.training.train_step import TrainStep

READ_EVERY = 20  # steps between two readings of the loss on a GPU; each one waits for the GPU


class StoppedError(Exception):
    """A signal arrived during validation, whose weights may be the averaged ones."""


class Trainer:
    """A run in memory: the network in training, its data, and the state of training."""

    def __init__(
        self,
        train_step: TrainStep,
        dataset: Dataset,
        run: RunDirectory,
        progress: Progress = SILENT,
        save_interval: SaveInterval | None = None,
        *,
        loggers: tuple[str, ...] = (),
        workers: int | None = None,
    ):
        self.train_step, self.dataset, self.run = train_step, dataset, run
        self.recipe, self.device = train_step.recipe, train_step.runtime.device
        self.replicas = train_step.runtime.replicas
        self.progress = progress if self.replicas.is_main else SILENT
        self.split = dataset.split("train")
        if self.recipe.class_weights == "balanced":
            train_step.balance_classes(self.split.labels)
        self.num_steps = math.ceil(len(self.split) / self.recipe.batch_size)
        self.checkpointer = Checkpointer(run, save_interval or SaveInterval())
        drawing = loggers if self.replicas.is_main else ()
        self.logger = MetricsLogger(run, self.progress, drawing, self.recipe.flat())
        self.num_readers = workers or num_reading_threads()
        self.throughput = Throughput(self.device)
        self.state = TrainState()
        self.init_from: dict[str, str] = {}
        self.last_loss: float | None = None
        self.tally = self._begin_tally()
        self.stop_signal = StopSignal()
        self._agreed_signal = 0  # the signal that all replicas know of
        self._read_every = 1 if self.device.type == "cpu" else READ_EVERY
        self._reader: Reader | None = None

    def start(self, source: Checkpoint | None = None) -> None:
        """Draw the first weights; copy the layers that the recipe names from `source`.

        Raises:
            CheckpointError: if the source lacks a layer that the recipe names.
        """
        if source is None:
            self.train_step.begin()
            return
        wnids = [entry.wnid for entry in self.dataset.classes]
        same_classes = wnids == [wnid for wnid, _ in source.classes]
        imported = self.train_step.begin(source, same_classes=same_classes)
        fresh = [name for name in self.recipe.layer_names() if name not in imported]
        self.init_from = source.as_source()
        self.progress.say(f"imported: {', '.join(imported)}; fresh: {', '.join(fresh) or 'none'}")

    def restore(self, checkpoint: Checkpoint) -> None:
        """Return to the state in which a checkpoint was written.

        Raises:
            CheckpointError: if the checkpoint does not fit the recipe.
        """
        self.train_step.restore(checkpoint)
        self.state, self.init_from = checkpoint.train_state, checkpoint.init_from

    def train(self) -> None:
        """Train to the end of the recipe.

        Raises:
            Stopped: after a signal; the run is saved.
            DivergedError: if the loss is not finite; the last checkpoint is kept.
            MachineError: if a checkpoint cannot be written.
        """
        again = leave if in_group() else None  # a cluster may signal this process and its parent
        with (
            catch_signals(SAVE_AND_STOP, again=again) as self.stop_signal,
            self.logger.opened(self.state.total_steps),
            open_reader(self.split, self.device, self.num_readers) as self._reader,
        ):
            try:
                while not self.is_finished():
                    self._train_epoch()
                    self._stop_if_requested()
                    self._finish_epoch()
                self.checkpointer.wait()
            finally:
                self.checkpointer.close()

    def is_finished(self) -> bool:
        """Return whether the recipe is complete."""
        state = self.state
        train_error = state.train_errors[-1] if state.train_errors else math.inf
        return is_finished(self.recipe, state.epoch, state.val_errors, train_error)

    # --- one epoch

    def _train_epoch(self) -> None:
        done = self.state.step * self.recipe.batch_size
        what = f"epoch {self.state.epoch + 1}/{self.recipe.epochs}"
        self.tally = self._begin_tally()
        self.throughput.begin_epoch()
        with self.progress.track(what, len(self.split)) as bar:
            bar.advance(min(done, len(self.split)))
            for batch in self.throughput.timed(self._batches()):
                self._stop_if_requested()
                self._train_step(batch, bar)
        self.throughput.end_epoch()

    def _batches(self) -> Iterator[OnDevice]:
        """Yield this replica's shares of the epoch's remaining batches, on the device."""
        batches = batches_of(
            self.split,
            self.recipe.batch_size,
            shuffle=self.train_step.order_of(self.state.epoch),
            first_step=self.state.step,
            share=self.replicas.share,
            num_threads=self.num_readers,
            reader=self._reader,
        )
        try:
            yield from to_device(batches, self.device)
        except (DatasetError, MachineError) as error:
            raise self._save_after(error) from error

    def _train_step(self, batch: OnDevice, bar: Tracker) -> None:
        state, size = self.state, self.recipe.batch_size
        num = min(size, len(self.split) - state.step * size)
        rates = self._rates(state.step)
        loss = self.train_step.loss(batch, state, num, self.tally)
        done = state.step + 1
        is_read = done % self._read_every == 0 or done == self.num_steps
        if is_read:
            self._read_tally()  # before the update, which must not use a loss of NaN
        self.train_step.update(loss, rates, state.total_steps + 1)
        state.step = done
        state.total_steps += 1
        self.throughput.count(num)
        note = ""
        if is_read:
            loss_text = f"loss {state.train_loss:.3f}  error {state.train_error:.1%}"
            note = f"{loss_text}  lr {rates.weights:.2g}"
            self.logger.log_step(state.total_steps, state.train_loss, rates.weights)
        bar.advance(num, note=note)
        if (
            self.replicas.is_main
            and self.checkpointer.is_due()
            and is_read
            and done < self.num_steps
        ):
            self.checkpointer.save(self._checkpoint(), is_best=False)

    def _begin_tally(self) -> torch.Tensor:
        """Return the epoch's sums so far, on the device; the main replica holds those of all."""
        state = self.state
        sums = [state.loss_sum, state.num_wrong, state.num_seen]
        if not self.replicas.is_main:
            sums = [0.0] * 3
        return torch.tensor(sums, dtype=sums_dtype(self.device)).to(self.device)

    def _read_tally(self) -> None:
        """Add up the sums of all replicas and exchange stop requests; check the loss.

        Raises:
            DivergedError: if the loss is not finite.
        """
        requested = torch.tensor([self.stop_signal.signal_number], dtype=torch.float64)
        rows = self.replicas.all_gather(torch.cat([self.tally.cpu().double(), requested]))
        self._agreed_signal = int(rows[:, 3].max())
        loss_sum, wrong, seen = rows[:, :3].sum(dim=0).tolist()
        state = self.state
        if not math.isfinite(loss_sum):
            size = self.recipe.batch_size
            steps = range(state.num_seen // size, math.ceil(seen / size))
            raise self._diverged(f"the loss is {loss_sum}", steps)
        if seen > state.num_seen:
            self.last_loss = (loss_sum - state.loss_sum) / (seen - state.num_seen)
        state.loss_sum, state.num_wrong, state.num_seen = loss_sum, int(wrong), int(seen)

    def _rates(self, step: int) -> LearningRates:
        return learning_rates_at(
            self.recipe, self.state.epoch + step / self.num_steps, self.state.val_errors
        )

    def _finish_epoch(self) -> None:
        """Validate, log, and write the checkpoints."""
        state = self.state
        row: dict[str, Any] = {
            "epoch": state.epoch + 1,
            "steps": state.total_steps,
            "learning_rate": self._rates(state.step - 1).weights,
            "train_loss": state.train_loss,
            "train_top1_error": state.train_error,
            **self.throughput.row(),
        }
        is_best = True
        if len(self.dataset.splits.get("val", ())):
            row["val"], is_best = self._validate()
        state.next_epoch(row.get("val"), is_best=is_best)
        if self.replicas.is_main:
            checkpoint = self._checkpoint()
            self.logger.log_epoch(row)  # first: resuming can drop a row, but not add one
            self.checkpointer.save(checkpoint, is_best=is_best)
        left = self._seconds_left()
        self.logger.report_epoch(row, self.recipe.epochs, is_best=is_best, seconds_left=left)
        if self.replicas.is_main and self._is_not_learning(row):
            crops, _ = first_crops(self.split, self.train_step.augmenter, 64)
            loss = row["train_loss"]
            net = self.train_step.net
            for line in explain_not_learning(loss, row["epoch"], net, crops):
                self.progress.say(line)
            recipe, data = self.run.recipe, self.dataset.name
            self.progress.say(hint("check_recipe", recipe=recipe, data=data))

    def _is_not_learning(self, row: dict) -> bool:
        epoch = row["epoch"]
        if epoch <= self.recipe.warmup_epochs:
            return False
        losses = {past["epoch"]: past["train_loss"] for past in self.run.rows()}
        return is_not_learning(
            row["train_loss"],
            losses.get(epoch - 1),
            len(self.dataset.classes),
            share_done=1.0 if self.is_finished() else epoch / self.recipe.epochs,
            num_updates=row["steps"],
        )

    def _seconds_left(self) -> float:
        """Return the longest time that the rest can take, without validation."""
        images = (self.recipe.epochs - self.state.epoch) * len(self.split)
        return 0.0 if self.is_finished() else self.throughput.seconds_for(images)

    def _validate(self) -> tuple[dict[str, float], bool]:
        """Return the errors of the center view, and whether top-1 is the lowest so far."""

        def stop_if_requested() -> None:
            self._exchange_signals()
            if self.stop_requested():
                raise StoppedError

        try:
            with self.train_step.ema.swapped():
                (scores,) = score_split(
                    Classifier(self.train_step.net, self.train_step.augmenter),
                    self.dataset,
                    "val",
                    num_views=1,
                    replicas=self.replicas,
                    progress=self.progress,
                    before_batch=stop_if_requested,
                )
        except DivergedError as error:
            raise self._diverged(error.problem) from error
        except StoppedError:
            self._stop()
        return asdict(scores), scores.top1_error < min(self.state.val_errors, default=math.inf)

    # --- stopping and saving

    def stop_requested(self) -> int:
        """Return the signal that requests a stop, or 0.

        Several replicas must stop at the same step, so only a signal that all of them know counts.
        """
        if self.replicas.world_size == 1:
            return self.stop_signal.signal_number
        return self._agreed_signal

    def _exchange_signals(self) -> None:
        """Agree on a stop request before a batch of validation; all replicas have as many."""
        if self.replicas.world_size > 1:
            rows = self.replicas.all_gather(torch.tensor([self.stop_signal.signal_number]))
            self._agreed_signal = int(rows.max())

    def _stop_if_requested(self) -> None:
        if self.stop_requested():
            self._stop()

    def _stop(self) -> NoReturn:
        """Save, and raise Stopped."""
        if self.replicas.is_main:
            self._save_now()
        self.replicas.barrier()
        raise Stopped(
            f"stopped and saved at {self._where()}.", self.stop_requested(), hint=hint("resume")
        )

    def _where(self) -> str:
        return f"epoch {self.state.epoch + 1}, step {self.state.step}"

    def _save_now(self) -> None:
        """Save between two steps, with the sums of all steps so far.

        Several replicas only stop at a step at which all of them have read the sums.
        """
        if self.replicas.world_size == 1:
            self._read_tally()
        self.checkpointer.save(self._checkpoint(), is_best=False)
        self.checkpointer.wait()

    def _save_after(self, error: AlexNetError) -> AlexNetError:
        """Save the last complete step after an error of the dataset; return what to raise."""
        if self.replicas.world_size > 1 or not self.state.total_steps:
            return error
        self._save_now()
        return error.replaced(
            kept=f"Training was saved at {self._where()}.",
            hint=hint("repair_and_resume", repair=error.hint or error.kept or ""),
        )

    def _checkpoint(self) -> Checkpoint:
        """Return a copy of everything that a resumed run needs.

        Raises:
            DivergedError: if a weight is not finite; nothing is published.
        """
        checkpoint = self.train_step.checkpoint(self.dataset, self.state, self.init_from)
        if bad := checkpoint.not_finite():
            raise self._diverged(f"{bad} contains numbers that are not finite")
        return checkpoint

    def _diverged(self, what: str, steps: Sequence[int] = ()) -> DivergedError:
        lr = self._rates(self.state.step).weights
        found = Divergence(what, self.state, lr, self.last_loss, steps)
        return found.report(self.run, self.train_step, self.split)
