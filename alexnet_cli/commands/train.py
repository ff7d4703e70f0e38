"""`alexnet train`: a dataset and a recipe -> a run (paper section 5)."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from alexnet_cli.data.dataset import Dataset, open_dataset
from alexnet_cli.data.pixel_stats import PixelStats, load_pixel_stats
from alexnet_cli.engine.devices import choose_devices
from alexnet_cli.engine.run_folder import RunFolder
from alexnet_cli.engine.trainer import Trainer
from alexnet_cli.errors import DatasetError, UsageError
from alexnet_cli.model.checkpoint import Checkpoint, load_checkpoint
from alexnet_cli.progress import SILENT, Progress
from alexnet_cli.recipe import Recipe


@dataclass(frozen=True, slots=True)
class TrainResult:
    """How a run ended.

    Attributes:
        best: epoch, top1_error and top5_error (centre view) of best.safetensors.
        images_per_second: of this call, without validation; None if it trained nothing.
    """

    run: str
    recipe: str
    devices: list[str]
    epochs: int
    steps: int
    best: dict
    images_per_second: float | None


def train(
    folder: Path,
    run_path: Path,
    recipe: Recipe,
    *,
    init_from: Path | None = None,
    device: str = "auto",
    num_devices: int | None = None,
    progress: Progress = SILENT,
) -> TrainResult:
    """Begin a run and train it to the end of its recipe.

    Args:
        init_from: a checkpoint whose layers this run begins with, those of `recipe.imports`.

    Raises:
        AlexNetError: the dataset, run folder, checkpoint or device cannot be used; the loss
            diverged; a signal.
    """
    devices = choose_devices(device, num_devices)
    _check_begins(recipe, init_from)
    dataset, stats = _open(folder, recipe)
    source = load_checkpoint(init_from) if init_from else None
    run = RunFolder(run_path)
    trainer = Trainer(recipe, dataset, stats, run, devices, progress)
    trainer.start(source)
    run.check_unused()
    with run.locked():
        run.create(recipe)
        return _finish(trainer)


def resume(
    folder: Path,
    run_path: Path,
    recipe: Recipe | None,
    num_epochs: int | None = None,
    *,
    device: str = "auto",
    num_devices: int | None = None,
    progress: Progress = SILENT,
) -> TrainResult:
    """Go on with a run where its last checkpoint was written, on any devices.

    Args:
        recipe: what the command line names, to compare with the run's own; None if it names none.
        num_epochs: a new end for the run.

    Raises:
        AlexNetError: as `train`; or the dataset or the recipe is not the run's.
    """
    devices = choose_devices(device, num_devices)
    run = RunFolder(run_path)
    with run.locked():
        last = run.load_last()
        return _resume(folder, run, last, recipe, num_epochs, devices, progress)


def _resume(
    folder: Path,
    run: RunFolder,
    last: Checkpoint,
    recipe: Recipe | None,
    num_epochs: int | None,
    devices: tuple[torch.device, ...],
    progress: Progress,
) -> TrainResult:
    kept = replace(last.recipe, epochs=num_epochs) if num_epochs else last.recipe
    _check_same_recipe(kept, recipe, run.path)
    dataset, stats = _open(folder, kept)
    _check_same_dataset(last, dataset, run.path)
    trainer = Trainer(kept, dataset, stats, run, devices, progress)
    if kept != last.recipe:
        run.save_recipe(kept)
    trainer.restore(last)
    at = last.progressed
    progress.say(f"resuming {run.path} after epoch {at.epoch}, step {at.step}")
    return _finish(trainer)


def _check_begins(recipe: Recipe, init_from: Path | None) -> None:
    if recipe.imports and init_from is None:
        raise UsageError(
            f"recipe {recipe.name} begins with layers of another network: "
            f"{', '.join(recipe.imports)}.\nSay whose: --init-from CKPT"
        )


def _open(folder: Path, recipe: Recipe) -> tuple[Dataset, PixelStats]:
    dataset = open_dataset(folder)
    dataset.check_crop(recipe)
    return dataset, load_pixel_stats(folder, dataset.fingerprint)


def _check_same_recipe(kept: Recipe, wanted: Recipe | None, run_path: Path) -> None:
    if wanted is not None and replace(wanted, epochs=kept.epochs) != kept:
        raise UsageError(
            f"{run_path} began with another recipe ({kept.name}).\n"
            "Leave --recipe and --set out to go on with it; only --epochs may change."
        )


def _check_same_dataset(last: Checkpoint, dataset: Dataset, run_path: Path) -> None:
    if last.fingerprint != dataset.fingerprint:
        raise DatasetError(
            f"{run_path} began with dataset {last.fingerprint}; {dataset.folder} is "
            f"{dataset.fingerprint}. The checkpoint is left as it is."
        )


def _finish(trainer: Trainer) -> TrainResult:
    trainer.train()
    speed = trainer.train_images / trainer.train_seconds if trainer.train_images else None
    return TrainResult(
        run=str(trainer.run.path),
        recipe=trainer.recipe.name,
        devices=[str(device) for device in trainer.devices],
        epochs=trainer.at.epoch,
        steps=trainer.at.total_steps,
        best=trainer.at.best or {},
        images_per_second=speed and round(speed, 1),
    )
