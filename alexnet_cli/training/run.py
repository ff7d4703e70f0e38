"""`alexnet train`: a dataset and a recipe -> a run (paper section 5)."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

from alexnet_cli.data.batches.raw_cache import with_raw_cache
from alexnet_cli.data.dataset_ref import DatasetRef
from alexnet_cli.data.shards.dataset import Dataset
from alexnet_cli.distributed.device_plan import DevicePlan, plan_devices
from alexnet_cli.distributed.launcher import on_replicas
from alexnet_cli.distributed.oom_errors import friendly_oom_errors
from alexnet_cli.distributed.precision import describe_precision, warn_of_slow_bf16
from alexnet_cli.distributed.replicas import place_in_group, was_restarted
from alexnet_cli.errors import CheckpointError, DatasetError, UsageError
from alexnet_cli.inference.classifier import check_tensors
from alexnet_cli.io.progress import SILENT, Progress
from alexnet_cli.model.checkpoint import Checkpoint, load_checkpoint
from alexnet_cli.recipes.recipe import Recipe
from alexnet_cli.training.checkpointer import SaveEvery
from alexnet_cli.training.run_directory import RunDirectory
from alexnet_cli.training.train_step import Place, TrainStep
from alexnet_cli.training.trainer import Trainer
from alexnet_cli.types import PixelStats

__all__ = ["SaveEvery", "TrainResult", "Where", "resume", "train"]


@dataclass(frozen=True, slots=True)
class Where:
    """Where and how a run computes; none of it decides what is learned, beyond rounding.

    Attributes:
        device: "auto", "cuda" or "cpu".
        num_devices: GPUs of this machine; 2 split the network, 4 are two replicas of that.
        columns: 1 for replicas of the network on one device each.
        precision: "fp32", "tf32" or "bf16".
        compiled: let torch.compile make the kernels.
        every: how often to save within an epoch.
        with_curves: also write curves for TensorBoard.
        cache: "raw" to read images that were decoded once.
    """

    device: str = "auto"
    num_devices: int | None = None
    columns: int | None = None
    precision: str = "fp32"
    compiled: bool = False
    every: SaveEvery = field(default_factory=SaveEvery)
    with_curves: bool = False
    cache: str | None = None


@dataclass(frozen=True, slots=True)
class TrainResult:
    """How a run ended.

    Attributes:
        devices: of the first replica.
        best: epoch, top1_error and top5_error (center view) of best.safetensors.
        images_per_second: of this call, without validation; None if it trained nothing.
    """

    run: str
    recipe: str
    devices: list[str]
    replicas: int
    precision: str
    epochs: int
    steps: int
    best: dict
    images_per_second: float | None


def train(
    location: DatasetRef | Path,
    run_path: Path,
    recipe: Recipe,
    *,
    init_from: Path | None = None,
    progress: Progress = SILENT,
    **choices: Any,
) -> TrainResult | None:
    """Begin a run and train it to the end of its recipe; only the first replica has a result.

    A run that torchrun or Slurm started anew after a loss goes on.

    Args:
        init_from: a checkpoint whose layers this run begins with, those of `recipe.imports`.
        choices: fields of `Where`.

    Raises:
        AlexNetError: the dataset, run folder, checkpoint or device cannot be used; the loss
            diverged; a signal; a replica was lost.
    """
    where = Where(**choices)
    _check_begins(recipe, init_from)
    if was_restarted() and RunDirectory(run_path).last.is_file():
        return resume(location, run_path, recipe, progress=progress, **choices)
    layout = _layout(recipe, where)
    if place_in_group().is_main:
        RunDirectory(run_path).check_unused()
    here = partial(_train_here, location, run_path, recipe, init_from, where, layout, progress)
    return on_replicas(here, layout)


def resume(
    location: DatasetRef | Path,
    run_path: Path,
    recipe: Recipe | None,
    num_epochs: int | None = None,
    *,
    allow_data_change: bool = False,
    progress: Progress = SILENT,
    **choices: Any,
) -> TrainResult | None:
    """Go on with a run where its last checkpoint was written, on any devices, as `train`.

    Args:
        recipe: what the command line names, to compare with the run's own; None if it names none.
        num_epochs: a new end for the run.
        allow_data_change: go on with other images of the same classes.
        choices: fields of `Where`.

    Raises:
        AlexNetError: as `train`; or the dataset or the recipe is not the run's.
    """
    where = Where(**choices)
    kept = RunDirectory(run_path).recipe_of_last()
    kept = replace(kept, epochs=num_epochs) if num_epochs else kept
    _check_same_recipe(kept, recipe, run_path)
    layout, change = _layout(kept, where), allow_data_change
    here = partial(_resume_here, location, run_path, kept, change, where, layout, progress)
    return on_replicas(here, layout)


def _layout(recipe: Recipe, where: Where) -> DevicePlan:
    return plan_devices(where.device, where.num_devices, where.columns, net_columns=recipe.columns)


def _train_here(
    location: DatasetRef | Path,
    run_path: Path,
    recipe: Recipe,
    init_from: Path | None,
    where: Where,
    layout: DevicePlan,
    progress: Progress,
) -> TrainResult | None:
    dataset, stats = _open(location, recipe, where, progress)
    source = load_checkpoint(init_from) if init_from else None
    run = RunDirectory(run_path)
    if place_in_group().is_main:
        run.check_room(recipe, len(dataset.classes))
    with _placed(recipe, where, layout) as place:
        train_step = TrainStep(recipe, len(dataset.classes), stats, place)
        trainer = Trainer(
            train_step, dataset, run, progress, where.every, with_curves=where.with_curves
        )
        try:
            trainer.start(source)
        except CheckpointError as error:
            raise CheckpointError(f"{init_from}: {error}") from error
        if not place.replicas.is_main:
            return _finish(trainer)
        run.path.mkdir(parents=True, exist_ok=True)
        with run.locked():
            run.create(recipe)
            return _finish(trainer)


def _resume_here(
    location: DatasetRef | Path,
    run_path: Path,
    kept: Recipe,
    allow_data_change: bool,
    where: Where,
    layout: DevicePlan,
    progress: Progress,
) -> TrainResult | None:
    run, is_main = RunDirectory(run_path), place_in_group().is_main
    with run.locked() if is_main else nullcontext():
        last = run.load_last()
        check_tensors(last, run.last)
        dataset, stats = _open(location, kept, where, progress)
        _check_same_dataset(last, dataset, run.path, allow_change=allow_data_change)
        if is_main:
            run.check_room(kept, len(dataset.classes))
        with _placed(kept, where, layout) as place:
            train_step = TrainStep(kept, len(dataset.classes), stats, place)
            trainer = Trainer(
                train_step, dataset, run, progress, where.every, with_curves=where.with_curves
            )
            trainer.restore(last)
            if kept != last.recipe and is_main:
                run.save_recipe(kept)
            at = last.train_state
            trainer.progress.say(f"resuming {run.path} after epoch {at.epoch}, step {at.step}")
            return _finish(trainer)


@contextmanager
def _placed(recipe: Recipe, where: Where, layout: DevicePlan) -> Iterator[Place]:
    """Join the other replicas. Whatever can fail, or take long, in one of them belongs before."""
    with layout.taken() as (devices, replicas), friendly_oom_errors(recipe.batch_size):
        yield Place(devices, where.precision, where.compiled, replicas)


def _check_begins(recipe: Recipe, init_from: Path | None) -> None:
    if recipe.imports and init_from is None:
        raise UsageError(
            f"recipe {recipe.name} begins with layers of another network: "
            f"{', '.join(recipe.imports)}.\nSay whose: --init-from CKPT"
        )


def _open(
    location: DatasetRef | Path, recipe: Recipe, where: Where, progress: Progress
) -> tuple[Dataset, PixelStats]:
    shown = progress if place_in_group().is_main else SILENT
    dataset = DatasetRef.parse(location).open(("train", "val"), fetch_now=True, progress=shown)
    dataset.check_crop(recipe)
    stats = dataset.load_pixel_stats()
    if where.cache == "raw":
        dataset = with_raw_cache(dataset, ("train", "val"), shown)
    return dataset, stats


def _check_same_recipe(kept: Recipe, wanted: Recipe | None, run_path: Path) -> None:
    if wanted is None or replace(wanted, epochs=kept.epochs) == kept:
        return
    mine, theirs = kept.flat(), wanted.flat()
    others = [name for name in mine if name != "epochs" and mine[name] != theirs[name]]
    shown = [f"{name} {_short(mine[name])}, not {_short(theirs[name])}" for name in others[:3]]
    end = "; ..." if others[3:] else "."
    raise CheckpointError(
        f"{run_path} began with another recipe: {'; '.join(shown)}{end}\n"
        "The run is left as it is; only --epochs may change, and where it runs.\n"
        "To go on with it: --resume without --recipe and --set. Another recipe: another --run."
    )


def _short(value: Any) -> str:
    text = str(value) or "''"
    return text if len(text) <= 40 else f"{text[:37]}..."


def _check_same_dataset(
    last: Checkpoint, dataset: Dataset, run_path: Path, *, allow_change: bool
) -> None:
    wnids = [entry.wnid for entry in dataset.classes]
    kept = [wnid for wnid, _ in last.classes]
    if kept != wnids:
        pairs = zip_longest(kept, wnids, fillvalue="none")
        label, (mine, other) = next((i, pair) for i, pair in enumerate(pairs) if len({*pair}) > 1)
        raise DatasetError(
            f"{run_path} learns {len(kept)} classes, {dataset.name} has {len(wnids)}: class "
            f"{label} is {mine} there and {other} here.\nThe checkpoint is left as it is.\n"
            f"To begin with its layers: another --run with --init-from {run_path}/last.safetensors"
        )
    if last.fingerprint != dataset.fingerprint and not allow_change:
        raise DatasetError(
            f"{run_path} began with dataset {last.fingerprint}; {dataset.name} is "
            f"{dataset.fingerprint}. The checkpoint is left as it is.\n"
            "To go on with these images: --allow-data-change"
        )


def _finish(trainer: Trainer) -> TrainResult | None:
    place = trainer.train_step.place
    if place.precision != "fp32":
        trainer.progress.say(describe_precision(place.precision, place.devices[0]))
        warn_of_slow_bf16(place.precision, place.devices[0], trainer.progress)
    trainer.train()
    if not place.replicas.is_main:
        return None
    meter = trainer.meter
    speed = meter.images / meter.seconds if meter.images else None
    return TrainResult(
        run=str(trainer.run.path),
        recipe=trainer.recipe.name,
        devices=[str(device) for device in place.devices],
        replicas=place.replicas.count,
        precision=place.precision,
        epochs=trainer.at.epoch,
        steps=trainer.at.total_steps,
        best=trainer.at.best or {},
        images_per_second=speed and round(speed, 1),
    )
