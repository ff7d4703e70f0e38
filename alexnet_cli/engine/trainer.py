"""The training loop of section 5.

All randomness is drawn from (seed, epoch, step), so a run stopped anywhere and resumed is, bit for
bit on a CPU, the run that was never stopped.
"""

import math
import time
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from alexnet_cli.data.augment import Augmenter
from alexnet_cli.data.dataset import Dataset
from alexnet_cli.data.loader import Batch, epoch_order, load_batches
from alexnet_cli.data.pixel_stats import PixelStats
from alexnet_cli.engine.classifier import Classifier
from alexnet_cli.engine.inference import predict_split
from alexnet_cli.engine.interrupt import Interrupt, catch_signals
from alexnet_cli.engine.probe import first_patches, is_stuck, signals_of, weakest
from alexnet_cli.engine.run_folder import RunFolder
from alexnet_cli.errors import DivergedError, Stopped
from alexnet_cli.metrics import score
from alexnet_cli.model.alexnet import AlexNet, initialize
from alexnet_cli.model.checkpoint import Checkpoint, Progressed
from alexnet_cli.model.parallel import build_network, load_whole_state, whole_state
from alexnet_cli.model.sgd import PaperSGD, Rates, is_finished, rates_at
from alexnet_cli.model.transfer import import_layers
from alexnet_cli.progress import Progress, Tracker
from alexnet_cli.recipe import Recipe


@dataclass
class Trainer:
    """A run in memory: the network, its velocity, and how far it is."""

    recipe: Recipe
    dataset: Dataset
    stats: PixelStats
    run: RunFolder
    devices: tuple[torch.device, ...]
    progress: Progress

    def __post_init__(self) -> None:
        self.split = self.dataset.split("train")
        self.net = build_network(self.recipe, len(self.dataset.classes), self.devices)
        self.sgd = PaperSGD(self.net, self.recipe)
        self.augmenter = Augmenter(self.recipe, self.stats, self.devices[0])
        self.at = Progressed()
        self.began_from: dict[str, str] = {}
        self.train_seconds, self.train_images, self.epoch_speed = 0.0, 0, 0.0

    def start(self, source: Checkpoint | None = None) -> None:
        """Draw the first weights, the same ones on one device and on two; import some of `source`.

        Raises:
            CheckpointError: the source lacks a layer that the recipe imports.
        """
        whole = AlexNet(self.recipe, len(self.dataset.classes))
        initialize(whole, self.recipe.seed)
        if source is not None:
            self._import(whole, source)
        load_whole_state(self.net, whole_state(whole))

    def _import(self, whole: AlexNet, source: Checkpoint) -> None:
        wnids = [entry.wnid for entry in self.dataset.classes]
        same_classes = wnids == [wnid for wnid, _ in source.classes]
        imported = import_layers(whole, source.weights, same_classes=same_classes)
        fresh = [name for name in self.recipe.layer_names() if name not in imported]
        self.began_from = {
            "recipe": source.recipe.name,
            "dataset": source.fingerprint,
            "weights": source.weights_hash(),
        }
        self.progress.say(f"imported: {', '.join(imported)}; fresh: {', '.join(fresh) or 'none'}")

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go back to where a checkpoint was written."""
        for source, target in (
            (checkpoint.weights, None),
            (checkpoint.velocity, self.sgd.velocity),
        ):
            state = {name: torch.from_numpy(tensor) for name, tensor in source.items()}
            load_whole_state(self.net, state, target)
        self.at, self.began_from = checkpoint.progressed, checkpoint.began_from
        self.run.keep_rows(self.at.epoch)

    def train(self) -> None:
        """Train to the end of the recipe.

        Raises:
            Stopped: by a signal, after saving.
            DivergedError: the loss is not a number; the last checkpoint is kept.
        """
        with catch_signals() as interrupt:
            while not self.is_finished():
                self._train_epoch(interrupt)
                self._stop_if_asked(interrupt)
                self._finish_epoch()

    def is_finished(self) -> bool:
        """Tell whether nothing is left to train."""
        train_error = self.at.train_errors[-1] if self.at.train_errors else math.inf
        return is_finished(self.recipe, self.at.epoch, self.at.val_errors, train_error)

    # --- one epoch

    def _train_epoch(self, interrupt: Interrupt) -> None:
        order = np.arange(len(self.split))
        if self.recipe.reshuffle:
            order = epoch_order(len(self.split), self.recipe.seed, self.at.epoch)
        remaining = order[self.at.step * self.recipe.batch_size :]
        began, images_before = time.perf_counter(), self.train_images
        with self.progress.track(
            f"epoch {self.at.epoch + 1}/{self.recipe.epochs}", len(order)
        ) as bar:
            bar.advance(len(order) - len(remaining))
            for batch in load_batches(self.split, remaining, self.recipe.batch_size):
                self._stop_if_asked(interrupt)
                self._train_step(batch, bar)
        elapsed = time.perf_counter() - began
        self.train_seconds += elapsed
        self.epoch_speed = (self.train_images - images_before) / elapsed

    def _train_step(self, batch: Batch, bar: Tracker) -> None:
        rates = self._rates(self.at.step)
        rng = np.random.default_rng([self.recipe.seed, self.at.epoch, self.at.step, 0xA06])
        torch.manual_seed(int(rng.integers(1 << 62)))  # dropout
        self.net.train()
        images = torch.from_numpy(batch.images).to(self.devices[0], non_blocking=True)
        labels = torch.from_numpy(batch.labels).to(self.devices[0], non_blocking=True)
        patches = self.augmenter.random(images, rng, with_noise=self._has_noise())
        scores = self.net(patches)
        loss = F.cross_entropy(scores, labels)
        loss_value = loss.item()  # host sync: the update must not happen if it is not finite
        if not math.isfinite(loss_value):
            raise self._diverged(f"the loss is {loss_value}")
        self.sgd.zero_grad()
        loss.backward()
        self.sgd.step(rates)

        num_wrong = int((scores.detach().argmax(dim=1) != labels).sum())
        self.at.count(len(batch.labels), loss_value, num_wrong)
        self.train_images += len(batch.labels)
        at = self.at
        note = f"loss {at.train_loss:.3f}  error {at.train_error:.1%}  rate {rates.weights:.2g}"
        bar.advance(len(batch.labels), note=note)

    def _has_noise(self) -> bool:
        last = self.recipe.colour_noise_epochs
        return not last or self.at.epoch < last

    def _rates(self, step: int) -> Rates:
        steps = math.ceil(len(self.split) / self.recipe.batch_size)
        return rates_at(self.recipe, self.at.epoch + step / steps, self.at.val_errors)

    def _finish_epoch(self) -> None:
        """Validate, log, and write the checkpoints."""
        row = {
            "epoch": self.at.epoch + 1,
            "steps": self.at.total_steps,
            "learning_rate": self._rates(self.at.step - 1).weights,
            "train_loss": self.at.train_loss,
            "train_top1_error": self.at.train_error,
            "images_per_second": round(self.epoch_speed, 1),
        }
        is_best = True
        if len(self.dataset.splits.get("val", ())):
            row["val"], is_best = self._validate()
        self.at.next_epoch(row.get("val"), is_best=is_best)
        checkpoint = self._checkpoint()
        self.run.add_row(row)  # before the checkpoint: resuming drops a row too many, adds none
        self.run.save(checkpoint, is_best=is_best)
        self.progress.say(_describe(row, self.recipe.epochs, is_best=is_best))
        warmed_up = row["epoch"] > self.recipe.warmup_epochs
        if warmed_up and is_stuck(row["train_loss"], len(self.dataset.classes)):
            self._explain_stuck(row["train_loss"])

    def _validate(self) -> tuple[dict[str, float], bool]:
        classifier = Classifier(self.net, self.augmenter)
        try:
            found = predict_split(
                classifier, self.dataset, "val", num_views=1, progress=self.progress
            )
        except DivergedError as error:
            raise self._diverged(str(error)) from error
        scores = score(found.probs, found.labels)
        row = {
            "top1_error": scores.top1_error,
            "top5_error": scores.top5_error,
            "log_loss": scores.log_loss,
        }
        return row, scores.top1_error < min(self.at.val_errors, default=math.inf)

    def _explain_stuck(self, loss: float) -> None:
        """Say that the network still guesses, and after which layer its pictures look alike."""
        patches, _ = first_patches(self.split, self.augmenter, 64)
        signals = signals_of(self.net, patches)
        weak, scores = weakest(signals), signals[-1]
        num_classes = len(self.dataset.classes)
        self.progress.say(
            f"the loss, {loss:.3f}, is still that of a guess, ln({num_classes}) = "
            f"{math.log(num_classes):.3f}: scores differ by {scores.spread:.2g} from picture to "
            f"picture; least is left after {weak.name} ({weak.spread:.2g} of {weak.scale:.2g})"
        )
        self.progress.say(
            "A large set can begin like this for some epochs. If it stays: "
            f"alexnet check {self.run.recipe} --data {self.dataset.folder}"
        )

    # --- stopping and saving

    def _stop_if_asked(self, interrupt: Interrupt) -> None:
        if interrupt.signal_number:
            self.run.save(self._checkpoint(), is_best=False)
            raise Stopped(
                f"stopped and saved at epoch {self.at.epoch + 1}, step {self.at.step}.\n"
                "Run the same command with --resume to go on.",
                interrupt.signal_number,
            )

    def _checkpoint(self) -> Checkpoint:
        weights, velocity = (
            {name: tensor.numpy() for name, tensor in whole_state(self.net, tensors).items()}
            for tensors in (None, self.sgd.velocity)
        )
        bad = [name for name, tensor in weights.items() if not np.isfinite(tensor).all()]
        if bad:
            raise self._diverged(f"{bad[0]} holds numbers that are not finite")
        return Checkpoint(
            recipe=self.recipe,
            weights=weights,
            velocity=velocity,
            pixels={
                "mean_image": self.stats.mean_image,
                "eigenvalues": self.stats.eigenvalues,
                "eigenvectors": self.stats.eigenvectors,
            },
            classes=[(entry.wnid, entry.name) for entry in self.dataset.classes],
            fingerprint=self.dataset.fingerprint,
            progressed=self.at,
            began_from=self.began_from,
        )

    def _diverged(self, what: str) -> DivergedError:
        rate = self._rates(self.at.step).weights
        kept = f"{self.run.last} is kept" if self.run.last.exists() else "No checkpoint was written"
        return DivergedError(
            f"{what} at epoch {self.at.epoch + 1}, step {self.at.step} (rate {rate:.3g}, "
            f"mean loss before {self.at.train_loss:.4g}).\n"
            f"{kept}. Try --set learning_rate={self.recipe.learning_rate / 3:.2g} in another --run."
        )


def _describe(row: dict, num_epochs: int, *, is_best: bool) -> str:
    text = f"epoch {row['epoch']}/{num_epochs}: train loss {row['train_loss']:.3f}"
    if "val" in row:
        text += f", val top-1 {row['val']['top1_error']:.1%}, top-5 {row['val']['top5_error']:.1%}"
    return text + f", {row['images_per_second']:.0f} images/s" + (", best" if is_best else "")
