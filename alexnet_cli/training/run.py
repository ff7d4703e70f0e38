"""`alexnet train`: a dataset and a recipe -> a run (paper section 5)."""

import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from alexnet_cli.data.batches.raw_cache import with_raw_cache
from alexnet_cli.data.dataset_ref import DatasetRef
from alexnet_cli.data.shards.dataset import Dataset
from alexnet_cli.distributed.device_plan import DevicePlan, plan_devices
from alexnet_cli.distributed.launcher import on_replicas
from alexnet_cli.distributed.oom_errors import KEPT, friendly_oom_errors
from alexnet_cli.distributed.precision import describe_precision
from alexnet_cli.distributed.replicas import place_in_group, was_restarted
from alexnet_cli.distributed.runtime_config import DEFAULT_RUNTIME, RuntimeConfig
from alexnet_cli.errors import (
    CheckpointError,
    DatasetError,
    InputError,
    LostReplicaError,
    UsageError,
    counted,
    hint,
)
from alexnet_cli.inference.class_map import first_difference
from alexnet_cli.inference.classifier import check_tensors
from alexnet_cli.inference.network import load_network
from alexnet_cli.io.progress import SILENT, Progress
from alexnet_cli.model.checkpoint import Checkpoint
from alexnet_cli.recipes.recipe import Recipe
from alexnet_cli.training.checkpointer import SaveInterval
from alexnet_cli.training.environment import describe_session
from alexnet_cli.training.loggers import check_loggers
from alexnet_cli.training.run_directory import RunDirectory
from alexnet_cli.training.train_step import TrainStep
from alexnet_cli.training.trainer import Trainer
from alexnet_cli.types import PixelStats

PART_NAMES = {"momentum_buffer": "momentum buffers", "ema": "averaged weights"}


@dataclass(frozen=True, slots=True)
class TrainRequest:
    """A run to begin or to resume.

    Attributes:
        run: the folder of the run.
        recipe: to train. For a resumed run it must be the run's own, or None.
        init_from: a checkpoint, run folder or ONNX file; the run begins with those of its layers
            that the recipe names.
        resume: whether to continue the run in the folder.
        num_epochs: a new number of epochs for a resumed run.
        allow_data_change: resume with other images of the same classes.
        save_interval: how often to save within an epoch.
        loggers: programs that draw the metrics: "tensorboard", "wandb", "mlflow".
        cache: "raw" to decode all images once into a file.
        workers: threads or processes of a replica that read images; by default one per core.
    """

    dataset: DatasetRef
    run: Path
    recipe: Recipe | None
    init_from: Path | None = None
    resume: bool = False
    num_epochs: int | None = None
    allow_data_change: bool = False
    runtime: RuntimeConfig = DEFAULT_RUNTIME
    save_interval: SaveInterval = field(default_factory=SaveInterval)
    loggers: tuple[str, ...] = ()
    cache: str | None = None
    workers: int | None = None


@dataclass(frozen=True, slots=True)
class TrainResult:
    """How a run ended.

    Attributes:
        devices: of the main replica.
        best: epoch, top1_error and top5_error (center view) of best.safetensors.
        images_per_second: of this process, without validation; None if it trained nothing.
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


def train(request: TrainRequest, progress: Progress = SILENT) -> TrainResult | None:
    """Train a run to the end of its recipe; only the main replica returns a result.

    A run that torchrun or Slurm restarted after a failure is resumed, with what its command line
    says now.

    Raises:
        AlexNetError: if the dataset, folder, checkpoint or device cannot be used, the loss
            diverges, a signal arrives, or a replica is lost.
    """
    check_loggers(request.loggers)
    run = RunDirectory(request.run)
    if was_restarted() and not request.resume and run.last.is_file():
        epochs = request.recipe.epochs if request.recipe else None
        request = replace(request, resume=True, num_epochs=epochs)
    shown = progress if place_in_group().is_main else SILENT
    recipe = _recipe_to_resume(request, shown) if request.resume else _recipe_to_begin(request)
    plan = plan_devices(request.runtime, recipe.columns, progress)
    if not request.resume and place_in_group().is_main:
        run.check_unused()
    train_here = _resume if request.resume else _begin
    try:
        return on_replicas(partial(train_here, request, recipe, plan, progress), plan, progress)
    except LostReplicaError as error:
        raise error.replaced(kept=KEPT, hint=hint("resume")) from error


def _recipe_to_begin(request: TrainRequest) -> Recipe:
    recipe = request.recipe
    if recipe is None:
        raise UsageError("a new run needs a recipe.")
    if (recipe.init_layers or recipe.frozen) and request.init_from is None:
        raise UsageError(
            f"recipe {recipe.name} begins with layers of another network: "
            f"{', '.join(recipe.init_layers or recipe.frozen)}.",
            hint=hint("name_init_from"),
        )
    return recipe


def _recipe_to_resume(request: TrainRequest, progress: Progress) -> Recipe:
    kept = RunDirectory(request.run).recipe_of_last()
    wanted = request.recipe
    if request.num_epochs and request.num_epochs != kept.epochs:
        progress.say(f"epochs of {request.run}: {request.num_epochs}, until now {kept.epochs}")
        kept = replace(kept, epochs=request.num_epochs)
    if wanted is None or replace(wanted, epochs=kept.epochs) == kept:
        return kept
    changes = replace(wanted, epochs=kept.epochs).changes_from(kept).items()
    shown = [f"{name} {_short(began)}, not {_short(asked)}" for name, (began, asked) in changes]
    shown = shown[:8] + ([f"and {len(shown) - 8} more"] if shown[8:] else [])
    raise CheckpointError(
        f"{request.run} began with another recipe: {'; '.join(shown)}.",
        kept="The run is left as it is; only its number of epochs and its devices may change.",
        hint=hint("resume_own_recipe"),
    )


def _short(value: Any) -> str:
    text = str(value) or "''"
    return text if len(text) <= 40 else f"{text[:37]}..."


def _begin(
    request: TrainRequest, recipe: Recipe, plan: DevicePlan, progress: Progress
) -> TrainResult | None:
    run = RunDirectory(request.run)
    is_main = place_in_group().is_main
    dataset, stats = _open_data(request, recipe, progress)
    source = load_network(request.init_from) if request.init_from else None
    if is_main:
        run.check_room(recipe, len(dataset.classes))
    with _open_trainer(request, recipe, dataset, stats, plan, progress) as trainer:
        try:
            trainer.start(source)
        except CheckpointError as error:
            raise error.replaced(problem=f"{request.init_from}: {error.problem}") from error
        check_agreement(trainer)
        if not is_main:
            return _finish(trainer)
        run.path.mkdir(parents=True, exist_ok=True)
        with run.locked():
            run.create(recipe)
            return _finish(trainer)


def _resume(
    request: TrainRequest, recipe: Recipe, plan: DevicePlan, progress: Progress
) -> TrainResult | None:
    run = RunDirectory(request.run)
    is_main = place_in_group().is_main
    with run.locked() if is_main else nullcontext():
        last = run.load_last()
        check_tensors(last, run.last)
        dataset, stats = _open_data(request, recipe, progress)
        _check_same_dataset(request, last, dataset)
        _check_same_start(request, last)
        if is_main:
            run.check_room(recipe, len(dataset.classes))
        with _open_trainer(request, recipe, dataset, stats, plan, progress) as trainer:
            trainer.restore(last)
            check_agreement(trainer)
            if is_main:
                run.go_back(trainer.state.epoch)
                if recipe != last.recipe:
                    run.save_recipe(recipe)
            state = last.train_state
            began = (
                f"; it began with layers of {last.init_from['recipe']}" if last.init_from else ""
            )
            trainer.progress.say(
                f"resuming {run.path} after epoch {state.epoch}, step {state.step}{began}"
            )
            return _finish(trainer)


@contextmanager
def _open_trainer(
    request: TrainRequest,
    recipe: Recipe,
    dataset: Dataset,
    stats: PixelStats,
    plan: DevicePlan,
    progress: Progress,
) -> Iterator[Trainer]:
    """Join the other replicas. Anything that can fail or take long in one of them comes before."""
    with plan.joined(progress) as runtime, friendly_oom_errors(recipe.batch_size):
        yield Trainer(
            TrainStep(recipe, len(dataset.classes), stats, runtime),
            dataset,
            RunDirectory(request.run),
            progress,
            request.save_interval,
            loggers=request.loggers,
            workers=request.workers,
        )


def _open_data(
    request: TrainRequest, recipe: Recipe, progress: Progress
) -> tuple[Dataset, PixelStats]:
    shown = progress if place_in_group().is_main else SILENT
    dataset = request.dataset.open(("train", "val"), fetch_now=True, progress=shown)
    dataset.check_crop(recipe)
    stats = dataset.load_pixel_stats()
    if request.cache == "raw":
        dataset = with_raw_cache(dataset, ("train", "val"), shown)
    return dataset, stats


def _check_same_start(request: TrainRequest, last: Checkpoint) -> None:
    """Check that a restarted run names the network whose layers it began with."""
    if request.init_from is None:
        return
    found = load_network(request.init_from).as_source()
    if found["weights"] != last.init_from.get("weights"):
        began = f"layers of {last.init_from['recipe']}" if last.init_from else "random layers"
        raise CheckpointError(
            f"{request.run} began with {began}; {request.init_from} has other weights.",
            kept="The run is left as it is.",
            hint=hint("resume_own_start"),
        )


def _check_same_dataset(request: TrainRequest, last: Checkpoint, dataset: Dataset) -> None:
    wnids = [entry.wnid for entry in dataset.classes]
    kept = [wnid for wnid, _ in last.classes]
    unchanged = "The checkpoint is left as it is."
    if differing := first_difference(kept, wnids):
        label, mine, other = differing
        raise DatasetError(
            f"{request.run} learns {counted(len(kept), 'class')}, {dataset.name} has "
            f"{len(wnids)}: class "
            f"{label} is {mine} there and {other} here.",
            kept=unchanged,
            hint=hint("begin_from_last", last=RunDirectory(request.run).last),
        )
    if last.fingerprint != dataset.fingerprint and not request.allow_data_change:
        raise DatasetError(
            f"{request.run} began with dataset {last.fingerprint}; {dataset.name} is "
            f"{dataset.fingerprint}.",
            kept=unchanged,
            hint=hint("allow_data_change"),
        )


def check_agreement(trainer: Trainer) -> None:
    """Compare the state of all replicas before the first update; a collective call.

    Each replica reads the checkpoint and the dataset itself, or draws the first weights itself. Run
    folders on the disks of several machines, or two versions of torch, make them differ, which
    averaged gradients alone do not show.

    Raises:
        InputError: in all replicas, if weights, momentum buffers, averaged weights, progress,
            dataset, pixel statistics or recipe of a replica differ from those of replica 0.
    """
    replicas = trainer.replicas
    if replicas.world_size == 1:
        return
    checksums = _checksums(trainer)
    rows = replicas.all_gather(torch.tensor(list(checksums.values())))
    differs = rows != rows[0]
    if not differs.any():
        return
    ranks = ", ".join(map(str, differs.any(dim=1).nonzero().flatten().tolist()))
    names = zip(checksums, differs.any(dim=0).tolist(), strict=True)
    parts = ", ".join(PART_NAMES.get(name, name) for name, is_other in names if is_other)
    replica = "replicas" if "," in ranks else "replica"
    raise InputError(
        f"{replica} {ranks} of {replicas.world_size} would begin with other {parts} than replica "
        "0.",
        kept="Nothing was trained, and no file was changed.",
        hint="Give all machines the same run folder, dataset and version of torch, then try again.",
    )


def _checksums(trainer: Trainer) -> dict[str, int]:
    """Return a CRC-32 of each part, the same parts in every replica."""
    train_step, dataset = trainer.train_step, trainer.dataset
    stats = train_step.stats
    pixels = [stats.mean_image, stats.eigenvalues, stats.eigenvectors]
    contents = {
        "progress": json.dumps(asdict(trainer.state)).encode(),
        "dataset": json.dumps([dataset.fingerprint, *dataset.classes], default=str).encode(),
        "pixel statistics": b"".join(array.tobytes() for array in pixels),
        "recipe": train_step.recipe.to_json().encode(),
    }
    parts = {"weights": 0, "momentum_buffer": 0, "ema": 0} | train_step.checksums()
    return parts | {name: zlib.crc32(content) for name, content in contents.items()}


def _finish(trainer: Trainer) -> TrainResult | None:
    runtime = trainer.train_step.runtime
    if runtime.precision != "fp32":
        trainer.progress.say(describe_precision(runtime.precision, runtime.device))
    if not len(trainer.dataset.splits.get("val", ())):
        trainer.progress.say("no validation images: the last epoch counts as the best")
    if runtime.replicas.is_main and trainer.state.epoch < trainer.recipe.epochs:
        session = describe_session(runtime.devices, runtime.replicas.world_size)
        with suppress(OSError):  # what no checkpoint needs stops no run
            trainer.run.add_session(session)
    trainer.train()
    if not runtime.replicas.is_main:
        return None
    throughput = trainer.throughput
    speed = throughput.images / throughput.seconds if throughput.images else None
    return TrainResult(
        run=str(trainer.run.path),
        recipe=trainer.recipe.name,
        devices=[str(device) for device in runtime.devices],
        replicas=runtime.replicas.world_size,
        precision=runtime.precision,
        epochs=trainer.state.epoch,
        steps=trainer.state.total_steps,
        best=trainer.state.best or {},
        images_per_second=speed and round(speed, 1),
    )
