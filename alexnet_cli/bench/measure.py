"""Measures the stages of training on this machine, and the limits of the device."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch

from alexnet_cli.bench.baseline import MIN_CROP, Baseline
from alexnet_cli.bench.clock import FEWEST, LIMIT_SECONDS, Clock, TooSlowError
from alexnet_cli.bench.kernels import Kernel, measure_kernels
from alexnet_cli.bench.roofline import count_flops, measure_copy, measure_products, update_bytes
from alexnet_cli.bench.stages import MARGIN, Steps, draw_batch, drawn_stats, measure_reading
from alexnet_cli.bench.summary import describe_loader, limits, ratios
from alexnet_cli.bench.views import measure_views
from alexnet_cli.data.shards.dataset import Dataset, Split
from alexnet_cli.distributed.device_plan import Runtime
from alexnet_cli.io.cores import num_cores
from alexnet_cli.io.progress import Progress
from alexnet_cli.recipes.recipe import Recipe
from alexnet_cli.training.train_step import TrainStep

CLASSES = 1000  # without a dataset
STEPS_TO_FILL = 2  # after the first step; then gradients and momentum buffers are allocated
OF_STEPS = ("parts", "step", "shards", "views", "baseline", "kernels")
LOADER_FAULTS = ("DataLoader", "Pin memory thread")  # a worker ended, or hangs
MEASUREMENTS = ("reading", "parts", "step", "shards", "views", "roofline", "baseline")


@dataclass(slots=True)
class BenchResult:
    """What was measured.

    Attributes:
        batch: images per update, of all replicas together.
        stages: images per second, by stage; stages that were not measured are missing.
        baseline: the same for torchvision's alexnet: "step" from tensors, "step from shards".
        baseline_loader: of the latter: "workers", "ready" and timed "batches", and "seconds".
        compile_seconds: of the first step, if torch.compile builds the kernels.
        flops: operations per image, "forward" and "step".
        roofline: "products" in operations per second, "copy" in bytes per second, as measured.
        used: shares of the roofline: "step" of the products, "update" of the copy.
        memory: bytes of GPU memory, peaks of whole steps from tensors: "allocated", "reserved".
        kernels: of a step from tensors, if requested.
        skipped: what was not measured, and why.
        ratios: comparisons of speeds.
        limits: what limits the speed, in sentences.
    """

    device: str
    replicas: int
    split_over: int
    threads: int
    torch: str
    recipe: str
    classes: int
    dataset: str
    batch: int
    precision: str
    compiled: bool
    stages: dict[str, float] = field(default_factory=dict)
    baseline: dict[str, float] = field(default_factory=dict)
    baseline_loader: dict[str, float] = field(default_factory=dict)
    compile_seconds: float | None = None
    flops: dict[str, int] = field(default_factory=dict)
    roofline: dict[str, float] = field(default_factory=dict)
    used: dict[str, float] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)
    kernels: list[Kernel] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    ratios: dict[str, float] = field(default_factory=dict)
    limits: list[str] = field(default_factory=list)


class Bencher:
    """Measures training on one replica; all replicas do it at once."""

    def __init__(
        self,
        recipe: Recipe,
        dataset: Dataset | None,
        runtime: Runtime,
        seconds: float,
        progress: Progress,
    ):
        """Build the network.

        Args:
            dataset: whose training images are read; None for random images.
            seconds: per measurement.
        """
        self.recipe, self.dataset, self.runtime = recipe, dataset, runtime
        self.progress = progress
        limit = max(LIMIT_SECONDS, 2 * seconds)
        self.clock = Clock(runtime.devices, seconds, runtime.replicas, limit)
        for device in _gpus(runtime.devices):
            torch.cuda.reset_peak_memory_stats(device)
        num_classes = len(dataset.classes) if dataset else CLASSES
        stats = dataset.load_pixel_stats() if dataset else drawn_stats(recipe.crop_size + MARGIN)
        self.train_step = TrainStep(recipe, num_classes, stats, runtime)
        self.train_step.begin()
        share = runtime.replicas.share.rows(recipe.batch_size)
        images, labels = draw_batch(share.stop - share.start, len(stats.mean_image), num_classes)
        device = runtime.device
        on_device = torch.from_numpy(images).to(device), torch.from_numpy(labels).to(device)
        self.steps = Steps(self.train_step, self.clock, recipe.batch_size, on_device)
        self.found = BenchResult(
            device=name_of(runtime.device),
            replicas=runtime.replicas.world_size,
            split_over=len(runtime.devices),
            threads=torch.get_num_threads(),
            torch=torch.__version__,
            recipe=recipe.name,
            classes=num_classes,
            dataset=dataset.name if dataset else "",
            batch=recipe.batch_size,
            precision=runtime.precision,
            compiled=runtime.compiled,
        )

    def measure(
        self, only: Collection[str] = MEASUREMENTS, *, with_kernels: bool = False
    ) -> BenchResult:
        """Run the measurements, and note those that would take too long.

        Args:
            with_kernels: whether to profile the kernels of a step.
        """
        works = self._works({*only, "kernels"} if with_kernels else {*only})
        with self.progress.track("bench", len(works) + 1) as bar:
            bar.advance(0, note="the first step")
            step_seconds = self._first()
            bar.advance(1, note="the first step")
            for name, (what, work) in works.items():
                bar.advance(0, note=what)
                try:
                    if name in OF_STEPS:
                        self.clock.check_limit(FEWEST, step_seconds)
                    work()
                except TooSlowError as error:
                    self.found.skipped.append(f"{what}: {error}")
                bar.advance(1, note=what)
        self._compare_with_roofline()
        found = self.found
        found.ratios = ratios(found.stages, found.baseline)
        found.limits = limits(found.stages, found.used, found.memory, found.precision)
        if found.baseline_loader:
            found.limits.append(describe_loader(found.baseline_loader))
        return found

    def _works(self, wanted: set[str]) -> dict[str, tuple[str, Callable[[], None]]]:
        """Return the measurements that are wanted and possible: a description and a call."""
        alone = self.runtime.replicas.world_size == 1
        has_data = self.dataset is not None
        works: dict[str, tuple[str, Callable[[], None], bool]] = {
            "reading": ("reading", self._reading, has_data),
            "parts": ("parts of a step", self._parts, alone),
            "step": ("steps from tensors", self._steps, True),
            "shards": ("steps from shards", self._shards, has_data),
            "views": ("ten views", self._views, alone),
            "roofline": ("the device's limits", self._roofline, alone),
            "kernels": ("kernels of a step", self._kernels, alone),
            "baseline": (
                "torchvision's steps from JPEGs",
                self._baseline_from_jpegs,
                has_data and self.has_baseline(),
            ),
        }
        if not alone and wanted & {"parts", "views", "roofline", "kernels"}:
            self.found.skipped.append("parts, views, limits, kernels: measured on one replica")
        if not self.has_baseline() and wanted & {"step", "baseline"}:
            self.found.skipped.append(
                f"torchvision's alexnet: needs one device and crops of {MIN_CROP} pixels"
            )
        return {
            name: (what, work)
            for name, (what, work, is_possible) in works.items()
            if is_possible and name in wanted
        }

    def has_baseline(self) -> bool:
        """Return whether torchvision's network can be trained on the same crops."""
        devices = self.runtime.replicas.world_size * len(self.runtime.devices)
        return devices == 1 and self.recipe.crop_size >= MIN_CROP

    def _first(self) -> float:
        """Run the first steps, note their GPU memory, and return the seconds of one."""
        step = self.steps.on_drawn()
        first = self.clock.time(step)
        if self.runtime.compiled:
            self.found.compile_seconds = first
        seconds = self.clock.of_slowest(self.clock.time(step, STEPS_TO_FILL) / STEPS_TO_FILL)
        self.found.memory = peak_memory(self.runtime.devices)
        return seconds

    @property
    def split(self) -> Split:
        """The training images of the dataset, for measurements that need one."""
        assert self.dataset is not None
        return self.dataset.split("train")

    def _reading(self) -> None:
        self.found.stages |= measure_reading(self.split, self.clock)
        self.found.stages["reader"] = self.steps.reader(self.split)

    def _parts(self) -> None:
        self.found.stages |= self.steps.parts()

    def _steps(self) -> None:
        found = self.found
        works = [self.steps.on_drawn()]
        if self.has_baseline():
            works.append(self.baseline.on_drawn(found.batch, self.recipe.crop_size))
        ours, *of_baseline = (found.batch * rate for rate in self.clock.rates(*works))
        found.stages["step"] = ours
        if of_baseline:
            found.baseline["step"] = of_baseline[0]

    @cached_property
    def baseline(self) -> Baseline:
        """Torchvision's network in training."""
        precision, compiled = self.runtime.precision, self.runtime.compiled
        return Baseline(self.found.classes, self.clock, precision, compiled=compiled)

    def _shards(self) -> None:
        self.found.stages["step from shards"] = self.steps.from_shards(self.split)

    def _views(self) -> None:
        images = self.steps.batch[0]
        self.found.stages |= measure_views(self.train_step, self.clock, images, self.dataset)

    def _roofline(self) -> None:
        found = self.found
        forward, step = count_flops(self.recipe, found.classes)
        found.flops = {"forward": forward, "step": step}
        found.roofline = {
            "products": measure_products(self.clock, found.precision),
            "copy": measure_copy(self.clock),
        }

    def _compare_with_roofline(self) -> None:
        """Note the shares of the roofline that steps and updates reach, if both were measured."""
        found = self.found
        stages = self.found.stages
        if not found.roofline:
            return
        if "step" in stages:
            flops = stages["step"] * found.flops["step"]
            found.used["step"] = flops / found.roofline["products"]
        if "update" in stages:
            moved = stages["update"] / found.batch * update_bytes(self.recipe, found.classes)
            found.used["update"] = moved / found.roofline["copy"]

    def _kernels(self) -> None:
        self.found.kernels = measure_kernels(self.steps.on_drawn(), self.runtime.device)

    def _baseline_from_jpegs(self) -> None:
        found = self.found
        try:
            taken = self.baseline.from_jpegs(self.split, found.batch, self.recipe.crop_size)
        except RuntimeError as error:
            if not any(what in str(error) for what in LOADER_FAULTS):
                raise
            reason = str(error).strip().splitlines()[0][:160]
            found.skipped.append(f"torchvision's steps from JPEGs: its loader failed ({reason})")
            return
        found.baseline["step from shards"] = found.batch * taken.rate
        found.baseline_loader = {
            "workers": num_cores(),
            "ready": taken.ahead,
            "batches": taken.calls,
            "seconds": taken.seconds,
        }


def peak_memory(devices: tuple[torch.device, ...]) -> dict[str, int]:
    """Return the peak bytes of tensors, and of what torch reserved, on all GPUs; empty on CPUs."""
    if not (gpus := _gpus(devices)):
        return {}
    return {
        "allocated": sum(torch.cuda.max_memory_allocated(device) for device in gpus),
        "reserved": sum(torch.cuda.max_memory_reserved(device) for device in gpus),
    }


def _gpus(devices: tuple[torch.device, ...]) -> set[torch.device]:
    return {device for device in devices if device.type == "cuda"}


def name_of(device: torch.device) -> str:
    """Return the product name of a device."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "mps":
        return "GPU of Apple"
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return "CPU"
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "CPU")
