"""The training loop of section 5, stopped and resumed at will.

All randomness is drawn from (seed, epoch, step), so a run stopped anywhere and resumed is, bit for
bit on a CPU, the run that was never stopped.
"""

import math
import signal
from collections.abc import Iterator, Sequence
from typing import NoReturn

import torch

from alexnet_cli.data.batches.loader import batches_of
from alexnet_cli.data.batches.readers import Reader
from alexnet_cli.data.shards.dataset import Dataset
from alexnet_cli.distributed.prefetch import OnDevice, open_reader, to_device
from alexnet_cli.distributed.replicas import in_group, num_reading_threads
from alexnet_cli.errors import AlexNetError, DatasetError, DivergedError, MachineError, Stopped
from alexnet_cli.io.progress import SILENT, Progress, Tracker
from alexnet_cli.io.signals import StopSignal, catch_signals, leave
from alexnet_cli.model.checkpoint import Checkpoint, TrainState
from alexnet_cli.model.schedule import Rates, is_finished, rates_at
from alexnet_cli.training.activations import explain_not_learning, first_crops, is_not_learning
from alexnet_cli.training.agreement import check_agreement
from alexnet_cli.training.checkpointer import Checkpointer, SaveEvery
from alexnet_cli.training.divergence import Divergence
from alexnet_cli.training.metrics_logger import MetricsLogger
from alexnet_cli.training.run_directory import RunDirectory
from alexnet_cli.training.throughput import Meter
from alexnet_cli.training.train_step import TrainStep
from alexnet_cli.training.validation import StoppedError, validate

READ_EVERY = 20  # steps on a GPU between two looks at the loss, each of which waits for it


class Trainer:
    """A run in memory: what learns, what it learns from, and how far it is."""

    def __init__(
        self,
        train_step: TrainStep,
        dataset: Dataset,
        run: RunDirectory,
        progress: Progress = SILENT,
        every: SaveEvery | None = None,
        *,
        with_curves: bool = False,
    ):
        self.train_step, self.dataset, self.run = train_step, dataset, run
        self.recipe, self.replicas = train_step.recipe, train_step.place.replicas
        self.progress = progress if self.replicas.is_main else SILENT
        self.split = dataset.split("train")
        self.num_steps = math.ceil(len(self.split) / self.recipe.batch_size)
        self.checkpointer = Checkpointer(run, every or SaveEvery())
        with_curves = with_curves and self.replicas.is_main
        self.logger = MetricsLogger(run, self.progress, with_curves=with_curves)
        self.meter = Meter(train_step.place.devices[0])
        self.at = TrainState()
        self.began_from: dict[str, str] = {}
        self.last_loss: float | None = None
        self.tally = self._begin_tally()
        self._read_every = 1 if train_step.place.devices[0].type == "cpu" else READ_EVERY
        self._reader: Reader | None = None
        self._asked = 0  # the signal that asked to stop, as all replicas know it

    def start(self, source: Checkpoint | None = None) -> None:
        """Draw the first weights; import some of `source`.

        Raises:
            CheckpointError: the source lacks a layer that the recipe imports.
            InputError: another replica begins with something else.
        """
        if source is None:
            self.train_step.begin()
        else:
            self._import(source)
        check_agreement(self.train_step, self.dataset, self.at)

    def _import(self, source: Checkpoint) -> None:
        wnids = [entry.wnid for entry in self.dataset.classes]
        same_classes = wnids == [wnid for wnid, _ in source.classes]
        imported = self.train_step.begin(source, same_classes=same_classes)
        fresh = [name for name in self.recipe.layer_names() if name not in imported]
        self.began_from = source.as_source()
        self.progress.say(f"imported: {', '.join(imported)}; fresh: {', '.join(fresh) or 'none'}")

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go back to where a checkpoint was written.

        Raises:
            CheckpointError: the checkpoint does not fit the recipe.
            InputError: another replica begins with something else.
        """
        self.train_step.restore(checkpoint)
        self.at, self.began_from = checkpoint.train_state, checkpoint.began_from
        check_agreement(self.train_step, self.dataset, self.at)  # before any file is changed
        if self.replicas.is_main:
            self.run.go_back(self.at.epoch)

    def train(self) -> None:
        """Train to the end of the recipe.

        Raises:
            Stopped: by a signal, after saving.
            DivergedError: the loss is not a number; the last checkpoint is kept.
            MachineError: a checkpoint could not be written.
        """
        again = leave if in_group() else None  # a cluster may tell us and who started us
        device = self.train_step.place.devices[0]
        with (
            catch_signals(signal.SIGUSR1, again=again) as stop_signal,
            self.logger.opened(self.at.total_steps),
            open_reader(self.split, device, num_reading_threads()) as self._reader,
        ):
            try:
                while not self.is_finished():
                    self._train_epoch(stop_signal)
                    self._stop_if_asked(stop_signal)
                    self._finish_epoch(stop_signal)
                self.checkpointer.wait()
            finally:
                self.checkpointer.close()

    def is_finished(self) -> bool:
        """Tell whether nothing is left to train."""
        train_error = self.at.train_errors[-1] if self.at.train_errors else math.inf
        return is_finished(self.recipe, self.at.epoch, self.at.val_errors, train_error)

    # --- one epoch

    def _train_epoch(self, stop_signal: StopSignal) -> None:
        done = self.at.step * self.recipe.batch_size
        what = f"epoch {self.at.epoch + 1}/{self.recipe.epochs}"
        self.tally = self._begin_tally()
        self.meter.begin_epoch()
        with self.progress.track(what, len(self.split)) as bar:
            bar.advance(min(done, len(self.split)))
            for batch in self.meter.waiting_for(self._batches(stop_signal)):
                self._stop_if_asked(stop_signal)
                self._train_step(batch, bar, stop_signal)
        self.meter.end_epoch()

    def _batches(self, stop_signal: StopSignal) -> Iterator[OnDevice]:
        """Yield this replica's shares of the epoch's remaining batches, on the device."""
        batches = batches_of(
            self.split,
            self.recipe.batch_size,
            shuffle=self.train_step.order_of(self.at.epoch),
            first_step=self.at.step,
            share=self.replicas.share,
            num_threads=num_reading_threads(),
            reader=self._reader,
        )
        try:
            yield from to_device(batches, self.train_step.place.devices[0])
        except (DatasetError, MachineError) as error:
            raise self._kept(error, stop_signal) from error

    def _train_step(self, batch: OnDevice, bar: Tracker, stop_signal: StopSignal) -> None:
        size = self.recipe.batch_size
        num = min(size, len(self.split) - self.at.step * size)
        rates = self._rates(self.at.step)
        loss = self.train_step.loss(batch, self.at, num, self.tally)
        done = self.at.step + 1
        is_read = done % self._read_every == 0 or done == self.num_steps
        if is_read:
            self._read(stop_signal)  # before the update, which must not use a loss of NaN
        self.train_step.update(loss, rates, self.at.total_steps + 1)
        at = self.at
        at.step, at.total_steps = done, at.total_steps + 1
        self.meter.count(num)
        note = ""
        if is_read:
            note = f"loss {at.train_loss:.3f}  error {at.train_error:.1%}  rate {rates.weights:.2g}"
            self.logger.note_step(at.total_steps, at.train_loss, rates.weights)
        bar.advance(num, note=note)
        if (
            self.replicas.is_main
            and self.checkpointer.is_due()
            and is_read
            and done < self.num_steps
        ):
            self.checkpointer.save(self._checkpoint(), is_best=False)

    def _begin_tally(self) -> torch.Tensor:
        """Return the epoch's sums so far, on the device; with replicas the first one keeps them."""
        at, device = self.at, self.train_step.place.devices[0]
        sums = [at.loss_sum, at.num_wrong, at.num_seen]
        if not self.replicas.is_main:
            sums = [0.0] * 3
        return torch.tensor(sums, dtype=torch.float64, device=device)

    def _read(self, stop_signal: StopSignal) -> None:
        """Take the sums, and wishes to stop, of all replicas; see that the loss is a number.

        Raises:
            DivergedError: it is not.
        """
        wish = torch.tensor([stop_signal.signal_number], dtype=torch.float64)
        mine = torch.cat([self.tally.cpu(), wish])
        rows = self.replicas.gather(mine)
        self._asked = int(rows[:, 3].max())
        loss_sum, wrong, seen = rows[:, :3].sum(dim=0).tolist()
        at = self.at
        if not math.isfinite(loss_sum):
            size = self.recipe.batch_size
            steps = range(at.num_seen // size, math.ceil(seen / size))
            raise self._diverged(f"the loss is {loss_sum}", steps)
        if seen > at.num_seen:
            self.last_loss = (loss_sum - at.loss_sum) / (seen - at.num_seen)
        at.loss_sum, at.num_wrong, at.num_seen = loss_sum, int(wrong), int(seen)

    def _rates(self, step: int) -> Rates:
        return rates_at(self.recipe, self.at.epoch + step / self.num_steps, self.at.val_errors)

    def _finish_epoch(self, stop_signal: StopSignal) -> None:
        """Validate, log, and write the checkpoints."""
        row = {
            "epoch": self.at.epoch + 1,
            "steps": self.at.total_steps,
            "learning_rate": self._rates(self.at.step - 1).weights,
            "train_loss": self.at.train_loss,
            "train_top1_error": self.at.train_error,
            **self.meter.row(),
        }
        is_best = True
        if len(self.dataset.splits.get("val", ())):
            row["val"], is_best = self._validate(stop_signal)
        self.at.next_epoch(row.get("val"), is_best=is_best)
        if self.replicas.is_main:
            checkpoint = self._checkpoint()
            self.logger.note_epoch(row)  # first: resuming drops a row too many, and adds none
            self.checkpointer.save(checkpoint, is_best=is_best)
        left = self._seconds_left()
        self.logger.say_epoch(row, self.recipe.epochs, is_best=is_best, seconds_left=left)
        if self.replicas.is_main and self._is_not_learning(row):
            crops, _ = first_crops(self.split, self.train_step.augmenter, 64)
            loss, net = row["train_loss"], self.train_step.net
            for line in explain_not_learning(loss, row["epoch"], net, crops):
                self.progress.say(line)
            check = f"alexnet check {self.run.recipe} --data {self.dataset.name}"
            self.progress.say(f"Find out whether this recipe can learn: {check}")

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
        """Return how long the rest will take at most, validation left out."""
        images = (self.recipe.epochs - self.at.epoch) * len(self.split)
        return 0.0 if self.is_finished() else self.meter.seconds_for(images)

    def _validate(self, stop_signal: StopSignal) -> tuple[dict[str, float], bool]:
        """Return the errors, and whether top-1 is the least so far."""
        try:
            row = validate(
                self.train_step,
                self.dataset,
                self.progress,
                lambda: bool(self._ask_all(stop_signal)),
            )
        except DivergedError as error:
            raise self._diverged(str(error)) from error
        except StoppedError:
            self._stop(stop_signal)
        return row, row["top1_error"] < min(self.at.val_errors, default=math.inf)

    # --- stopping and saving

    def _wish(self, stop_signal: StopSignal) -> int:
        """Return the signal that asks to stop.

        Several replicas must stop at the same step, so they heed what they read of each other.
        """
        return stop_signal.signal_number if self.replicas.count == 1 else self._asked

    def _ask_all(self, stop_signal: StopSignal) -> int:
        """As `_wish`, before a batch of validation, of which every replica has as many."""
        if self.replicas.count > 1:
            wishes = self.replicas.gather(torch.tensor([stop_signal.signal_number]))
            self._asked = int(wishes.max())
        return self._wish(stop_signal)

    def _stop_if_asked(self, stop_signal: StopSignal) -> None:
        if self._wish(stop_signal):
            self._stop(stop_signal)

    def _stop(self, stop_signal: StopSignal) -> NoReturn:
        """Save, and raise Stopped."""
        if self.replicas.is_main:
            self._save_now(stop_signal)
        self.replicas.barrier()
        raise Stopped(
            f"stopped and saved at epoch {self.at.epoch + 1}, step {self.at.step}.\n"
            "Run the same command with --resume to go on.",
            self._wish(stop_signal),
        )

    def _save_now(self, stop_signal: StopSignal) -> None:
        """Save between two steps, with the sums of all steps so far.

        Several replicas only stop at a step at which all of them have read the sums.
        """
        if self.replicas.count == 1:
            self._read(stop_signal)
        self.checkpointer.save(self._checkpoint(), is_best=False)
        self.checkpointer.wait()

    def _kept(self, error: AlexNetError, stop_signal: StopSignal) -> AlexNetError:
        """Save the last good step when the images fail; say so in the fault."""
        if self.replicas.count > 1 or not self.at.total_steps:
            return error
        self._save_now(stop_signal)
        what = "\n".join(str(error).split("\n")[:2])
        where = f"epoch {self.at.epoch + 1}, step {self.at.step}"
        return type(error)(
            f"{what}\nTraining was saved at {where}; when mended, go on with --resume."
        )

    def _checkpoint(self) -> Checkpoint:
        """Copy everything that decides how the run goes on.

        Raises:
            DivergedError: a weight is not a finite number; nothing is to be published.
        """
        checkpoint = self.train_step.checkpoint(self.dataset, self.at, self.began_from)
        if bad := checkpoint.not_finite():
            raise self._diverged(f"{bad} holds numbers that are not finite")
        return checkpoint

    def _diverged(self, what: str, steps: Sequence[int] = ()) -> DivergedError:
        rate = self._rates(self.at.step).weights
        noticed = Divergence(what, self.at, rate, self.last_loss, steps)
        return noticed.end(self.run, self.train_step, self.split)
