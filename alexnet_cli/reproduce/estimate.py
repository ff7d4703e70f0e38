"""What a plan costs: images, hours at the rate measured here, disk."""

import statistics
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from alexnet_cli.bench.clock import Clock
from alexnet_cli.bench.stages import MARGIN, Steps, draw_batch, drawn_stats
from alexnet_cli.data.remote.files import is_url
from alexnet_cli.distributed.device_plan import Runtime
from alexnet_cli.io.progress import Progress
from alexnet_cli.model.architecture import layers_of
from alexnet_cli.recipes.recipe import Recipe
from alexnet_cli.reproduce.jobs import VIEWS, EvalJob, Job, TableDataset, TrainJob, trainings
from alexnet_cli.training.train_step import TrainStep

FORWARD_SHARE = 1 / 3  # of a training step's arithmetic
PARAMETER_BYTES = 4
COPIES = 3  # best, last, and last's momentum buffers
SHARD_BYTES = 24_000  # a 256-pixel JPEG and its labels, on average
CPU_BATCH = 32


@dataclass(frozen=True, slots=True)
class JobEstimate:
    """One job and its cost.

    Attributes:
        images: trained on, or passed forward, all views counted.
    """

    job: Job
    images: int
    hours: float
    disk_bytes: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """A plan with its cost.

    Attributes:
        rates: training images a second by recipe, measured here on random images.
        steps: the jobs in the order in which they run.
        hours: one job after the other on these devices. Replicas on several GPUs are taken to be
            as fast as that many GPUs, so their exchange of gradients is left out.
        disk_bytes: of runs and predictions.
        data_bytes: of the datasets, about.
        to_prepare: the datasets that do not exist yet.
    """

    table: str
    devices: list[str]
    rates: dict[str, float]
    steps: list[JobEstimate]
    images: int
    hours: float
    disk_bytes: int
    data_bytes: int
    to_prepare: list[TableDataset]


def estimate_plan(
    table: str, jobs: list[Job], devices: tuple[torch.device, ...], progress: Progress
) -> Estimate:
    """Measure how fast each network of a plan trains here, and add everything up."""
    trains = {_rate_key(train): train for train in trainings(jobs)}
    rates: dict[str, float] = {}
    with progress.track("measure", len(trains)) as bar:
        for key, train in trains.items():
            rates[key] = _measure_rate(train.recipe, train.dataset.classes, devices)
            bar.advance(1, note=f"{key}: {rates[key]:.0f} images/s")
    costs = [_estimate(job, rates) for job in jobs]
    datasets = {train.dataset.name: train.dataset for train in trainings(jobs)}.values()
    return Estimate(
        table=table,
        devices=[str(device) for device in devices],
        rates={name: round(rate, 1) for name, rate in rates.items()},
        steps=costs,
        images=sum(cost.images for cost in costs),
        hours=sum(cost.hours for cost in costs),
        disk_bytes=sum(cost.disk_bytes for cost in costs),
        data_bytes=sum(d.train + sum(d.held_out.values()) for d in datasets) * SHARD_BYTES,
        to_prepare=[d for d in datasets if not _exists(d)],
    )


def _estimate(job: Job, rates: dict[str, float]) -> JobEstimate:
    """Return the cost of a job; an ensemble costs nothing."""
    images, hours, disk_bytes = 0, 0.0, 0
    match job:
        case TrainJob(dataset=dataset, recipe=recipe):
            images = recipe.epochs * dataset.train
            hours = images / rates[_rate_key(job)] / 3600
            copies = COPIES + bool(recipe.ema_decay)
            layers = layers_of(recipe, dataset.classes)
            disk_bytes = copies * PARAMETER_BYTES * sum(layer.num_parameters for layer in layers)
        case EvalJob(train=TrainJob(dataset=dataset) as train):
            measured = dataset.held_out.get(dataset.split, 0)
            images = VIEWS * measured
            hours = FORWARD_SHARE * images / rates[_rate_key(train)] / 3600
            disk_bytes = 2 * 4 * dataset.classes * measured  # of all views, and of the center
    return JobEstimate(job, images, hours, disk_bytes)


def measure_training(recipe: Recipe, num_classes: int, devices: tuple[torch.device, ...]) -> float:
    """Return training images a second on one random batch: the median of three steps."""
    num = min(recipe.batch_size, CPU_BATCH) if devices[0].type == "cpu" else recipe.batch_size
    side = recipe.crop_size + MARGIN
    train_step = TrainStep(recipe, num_classes, drawn_stats(side), Runtime(devices))
    train_step.begin()
    images, labels = (torch.from_numpy(array) for array in draw_batch(num, side, num_classes))
    clock = Clock(devices, seconds=0)
    batch = (images.to(devices[0]), labels.to(devices[0]))
    step = Steps(train_step, clock, num, batch).on_drawn()
    seconds = [clock.time(step) for _ in range(4)]
    return num / statistics.median(seconds[1:])  # the first one warms up


def _measure_rate(recipe: Recipe, num_classes: int, devices: tuple[torch.device, ...]) -> float:
    """Return the rate on all devices: a column on each, or a replica with its share of a batch."""
    if len(devices) <= recipe.columns:
        return measure_training(recipe, num_classes, devices)
    share = replace(recipe, batch_size=-(-recipe.batch_size // len(devices)))
    rate = measure_training(share, num_classes, devices[:1])
    return rate * (len(devices) if devices[0].type == "cuda" else 1)  # CPU replicas share its cores


def _rate_key(train: TrainJob) -> str:
    return f"{train.recipe.name}, {train.dataset.classes} classes"


def _exists(dataset: TableDataset) -> bool:
    return is_url(dataset.path) or Path(dataset.path).exists()
