"""What a plan costs: images, hours at the rate measured here, disk."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F

from alexnet_cli.data.remote import is_url
from alexnet_cli.engine.devices.precision import allow_tf32
from alexnet_cli.engine.tables.plan import Source, Step, waves
from alexnet_cli.model.alexnet import RGB, AlexNet, describe_layers, initialize
from alexnet_cli.model.parallel import build_network, load_whole_state, whole_state
from alexnet_cli.model.sgd import PaperSGD
from alexnet_cli.progress import Progress
from alexnet_cli.recipe import Recipe
from alexnet_cli.recipes.tables import OFFICIAL_SETS

VIEWS = 10
FORWARD_SHARE = 1 / 3  # of a training step's arithmetic
PARAMETER_BYTES = 4
COPIES = 3  # best, last, and last's velocity
SHARD_BYTES = 24_000  # a 256-pixel JPEG and its labels, on average
CPU_BATCH = 32
GPUS = 8


@dataclass(frozen=True, slots=True)
class StepEstimate:
    """One command line and its cost.

    Attributes:
        images: trained on, or passed forward, all views counted.
        wave: steps of one wave can run at once, after those before.
    """

    name: str
    wave: int
    command: list[str]
    images: int
    hours: float
    disk_bytes: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """A plan with its cost.

    Attributes:
        rates: training images a second by recipe, measured here on random pictures.
        hours: one step after the other on these devices. Replicas on several GPUs are taken to be
            as fast as that many GPUs, so their exchange of gradients is left out.
        hours_on_8_gpus: if as many steps run at once as 8 such devices hold.
        disk_bytes: of runs and predictions.
        data_bytes: of the data sets, about.
        to_prepare: of data sets that are not there yet, the commands that make them.
    """

    table: str
    devices: list[str]
    rates: dict[str, float]
    steps: list[StepEstimate]
    images: int
    hours: float
    hours_on_8_gpus: float
    disk_bytes: int
    data_bytes: int
    to_prepare: dict[str, str]


def estimate_plan(
    table: str,
    steps: list[Step],
    command_line: Callable[[Step], list[str]],
    devices: tuple[torch.device, ...],
    progress: Progress,
) -> Estimate:
    """Measure how fast each network of a plan trains here, and add everything up."""
    rates = _measure_rates(steps, devices, progress)
    rows = []
    for wave, group in enumerate(waves(steps)):
        for step in group:
            images, speed = _images(step), rates.get(_rate_key(step), math.inf)
            hours = images / speed / 3600 * (1 if step.kind == "train" else FORWARD_SHARE)
            line = command_line(step)
            rows.append(StepEstimate(step.name, wave + 1, line, images, hours, _disk(step)))
    sources = list({step.source.name: step.source for step in steps}.values())
    return Estimate(
        table=table,
        devices=[str(device) for device in devices],
        rates={name: round(rate, 1) for name, rate in rates.items()},
        steps=rows,
        images=sum(row.images for row in rows),
        hours=sum(row.hours for row in rows),
        hours_on_8_gpus=_makespan(steps, rows, max(1, GPUS // len(devices)))
        * max(1.0, len(devices) / GPUS),
        disk_bytes=sum(row.disk_bytes for row in rows),
        data_bytes=sum(_num_images(source) * SHARD_BYTES for source in sources),
        to_prepare={s.name: _prepare(s) for s in sources if not _is_there(s)},
    )


def measure_training(recipe: Recipe, num_classes: int, devices: tuple[torch.device, ...]) -> float:
    """Return training images a second on random pictures: the median of three steps."""
    allow_tf32("fp32")  # as `alexnet train` without --precision
    whole = AlexNet(recipe, num_classes)
    initialize(whole, recipe.seed)
    net = build_network(recipe, num_classes, devices)
    load_whole_state(net, whole_state(whole))
    sgd = PaperSGD(net, recipe)
    on_cpu = devices[0].type == "cpu"
    size = min(recipe.batch_size, CPU_BATCH) if on_cpu else recipe.batch_size
    shape = (size, RGB, recipe.crop_size, recipe.crop_size)
    patches = 50 * torch.randn(shape, device=devices[0])
    labels = torch.randint(num_classes, (size,), device=devices[0])
    seconds = []
    for _ in range(4):
        began = time.perf_counter()
        sgd.zero_grad()
        F.cross_entropy(net(patches), labels).backward()
        sgd.step(recipe.learning_rate)
        if not on_cpu:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return size / sorted(seconds[1:])[1]


def _measure_rates(
    steps: list[Step], devices: tuple[torch.device, ...], progress: Progress
) -> dict[str, float]:
    """Return the rate of each recipe with as many classes."""
    rates: dict[str, float] = {}
    wanted = {_rate_key(step): step for step in steps if step.recipe is not None}
    with progress.track("measure", len(wanted)) as bar:
        for key, step in wanted.items():
            rates[key] = _measure_rate(step.recipe, step.source.classes, devices)
            bar.advance(1, note=f"{key}: {rates[key]:.0f} images/s")
    return rates


def _measure_rate(recipe: Recipe, num_classes: int, devices: tuple[torch.device, ...]) -> float:
    """Return the rate on all devices: a column on each, or a replica with its share of a batch."""
    if len(devices) <= recipe.columns:
        return measure_training(recipe, num_classes, devices)
    share = replace(recipe, batch_size=-(-recipe.batch_size // len(devices)))
    rate = measure_training(share, num_classes, devices[:1])
    return rate * (len(devices) if devices[0].type == "cuda" else 1)  # CPU replicas share its cores


def _rate_key(step: Step) -> str:
    return f"{step.recipe.name}, {step.source.classes} classes" if step.recipe else ""


def _images(step: Step) -> int:
    if step.kind == "train":
        return step.recipe.epochs * step.source.train
    return VIEWS * step.source.held_out.get(step.source.split, 0) if step.kind == "eval" else 0


def _disk(step: Step) -> int:
    if step.kind == "train":
        layers = describe_layers(step.recipe, step.source.classes)
        copies = COPIES + bool(step.recipe.average_decay)
        return copies * PARAMETER_BYTES * sum(layer.parameters for layer in layers)
    if step.kind == "eval":  # all views' average and the centre's
        return 2 * 4 * step.source.classes * step.source.held_out.get(step.source.split, 0)
    return 0


def _is_there(source: Source) -> bool:
    return is_url(source.path) or Path(source.path).exists()


def _prepare(source: Source) -> str:
    options = OFFICIAL_SETS[source.name].prep
    prep = f"alexnet prep SOURCE {source.path}" + (f" {options}" if options else "")
    return f"{prep} && alexnet pca {source.path}"


def _num_images(source: Source) -> int:
    return source.train + sum(source.held_out.values())


def _makespan(steps: list[Step], rows: list[StepEstimate], lanes: int) -> float:
    """Return the hours until all is done if each step takes the lane that is free first."""
    hours = {row.name: row.hours for row in rows}
    needs = {step.name: step.needs for step in steps}
    free, done = [0.0] * lanes, {}
    for row in rows:  # by waves
        lane = min(range(lanes), key=lambda i: free[i])
        begin = max([free[lane], *(done[need] for need in needs[row.name])])
        free[lane] = done[row.name] = begin + hours[row.name]
    return max(done.values(), default=0.0)
