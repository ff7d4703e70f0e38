"""Where the time of a training run goes on this machine, and how near the device's limits it is."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

import torch

from alexnet_cli.bench.baseline import MIN_CROP, Baseline
from alexnet_cli.bench.clock import FEWEST, LIMIT_SECONDS, Clock, TooSlowError
from alexnet_cli.bench.kernels import Kernel, measure_kernels
from alexnet_cli.bench.roofline import count_flops, measure_copy, measure_products, update_bytes
from alexnet_cli.bench.stages import MARGIN, Steps, draw_batch, drawn_stats, measure_reading
from alexnet_cli.bench.views import measure_views
from alexnet_cli.data.shards.dataset import Dataset
from alexnet_cli.io.cores import num_cores
from alexnet_cli.io.progress import Progress
from alexnet_cli.recipes.recipe import Recipe
from alexnet_cli.training.train_step import Place, TrainStep

CLASSES = 1000  # where there is no dataset
STEPS_TO_FILL = 2  # after the first step; then gradients and momentum buffers have their memory
OF_STEPS = ("parts", "step", "shards", "views", "baseline", "kernels")
LOADER_FAULTS = ("DataLoader", "Pin memory thread")  # a worker ended, or hangs
MEASUREMENTS = ("reading", "parts", "step", "shards", "views", "roofline", "baseline")


@dataclass(slots=True)
class Bench:
    """What was measured of one way to train.

    Attributes:
        batch: images of an update, of all replicas together.
        stages: images per second, by stage; a stage that was not measured is not there.
        baseline: the same of torchvision's alexnet: "step" from tensors, "step from shards".
        baseline_loader: of the latter: "workers", "ready" and timed "batches", and "seconds".
        compile_seconds: of the first step, if torch.compile made the kernels.
        flops: operations per image, "forward" and "step".
        roofline: "products" in operations per second, "copy" in bytes per second, as measured.
        used: shares of the roofline: "step" of the products, "update" of the copy.
        memory: bytes of GPU memory, peaks of whole steps from tensors: "allocated", "reserved".
        kernels: of a step from tensors, if asked for.
        skipped: what was not measured, and why.
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


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is measured.

    Attributes:
        seconds: of each measurement.
        only: names out of `MEASUREMENTS`.
        with_kernels: whether a step is profiled as well.
    """

    seconds: float = 2.0
    only: Collection[str] = MEASUREMENTS
    with_kernels: bool = False


class Bencher:
    """Measures one way to train, on one replica; all replicas do it at once."""

    def __init__(
        self,
        recipe: Recipe,
        dataset: Dataset | None,
        place: Place,
        extent: Extent,
        progress: Progress,
    ):
        self.recipe, self.dataset, self.place, self.progress = recipe, dataset, place, progress
        self.extent = extent
        limit = max(LIMIT_SECONDS, 2 * extent.seconds)
        self.clock = Clock(place.devices, extent.seconds, place.replicas, limit)
        self._baseline: Baseline | None = None
        for device in _gpus(place.devices):
            torch.cuda.reset_peak_memory_stats(device)
        num_classes = len(dataset.classes) if dataset else CLASSES
        stats = dataset.load_pixel_stats() if dataset else drawn_stats(recipe.crop_size + MARGIN)
        self.train_step = TrainStep(recipe, num_classes, stats, place)
        self.train_step.begin()
        share = place.replicas.share.rows(recipe.batch_size)
        batch = draw_batch(share.stop - share.start, len(stats.mean_image), num_classes)
        on_device = tuple(torch.from_numpy(array).to(place.devices[0]) for array in batch)
        self.steps = Steps(self.train_step, self.clock, recipe.batch_size, on_device)
        self.found = self._begin(num_classes)

    def _begin(self, num_classes: int) -> Bench:
        place = self.place
        return Bench(
            device=name_of(place.devices[0]),
            replicas=place.replicas.count,
            split_over=len(place.devices),
            threads=torch.get_num_threads(),
            torch=torch.__version__,
            recipe=self.recipe.name,
            classes=num_classes,
            dataset=self.dataset.name if self.dataset else "",
            batch=self.recipe.batch_size,
            precision=place.precision,
            compiled=place.compiled,
        )

    def measure(self) -> Bench:
        """Run every measurement, one after the other; note those that would take too long."""
        works = self._works()
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
        return self.found

    def _works(self) -> dict[str, tuple[str, Callable[[], None]]]:
        """Return what there is to measure here, in order: words for it and a call."""
        alone, has_data = self.place.replicas.count == 1, self.dataset is not None
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
        wanted = {*self.extent.only, *(["kernels"] if self.extent.with_kernels else [])}
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
        """Tell whether torchvision's network can be trained on the same crops."""
        devices = self.place.replicas.count * len(self.place.devices)
        return devices == 1 and self.recipe.crop_size >= MIN_CROP

    def _first(self) -> float:
        """Make the first steps, note the GPU memory they take, and return the seconds of one."""
        step = self.steps.on_drawn()
        first = self.clock.time(step)
        if self.place.compiled:
            self.found.compile_seconds = first
        seconds = self.clock.of_slowest(self.clock.time(step, STEPS_TO_FILL) / STEPS_TO_FILL)
        self.found.memory = peak_memory(self.place.devices)
        return seconds

    def _reading(self) -> None:
        split = self.dataset.split("train")
        self.found.stages |= measure_reading(split, self.clock)
        self.found.stages["reader"] = self.steps.reader(split)

    def _parts(self) -> None:
        self.found.stages |= self.steps.parts()

    def _steps(self) -> None:
        found, works = self.found, [self.steps.on_drawn()]
        if self.has_baseline():
            works.append(self.baseline().on_drawn(found.batch, self.recipe.crop_size))
        ours, *of_baseline = (found.batch * rate for rate in self.clock.rates(*works))
        found.stages["step"] = ours
        if of_baseline:
            found.baseline["step"] = of_baseline[0]

    def baseline(self) -> Baseline:
        """Return torchvision's network in training, always the same one."""
        if self._baseline is None:
            place, num_classes = self.place, self.found.classes
            self._baseline = Baseline(
                num_classes, self.clock, place.precision, compiled=place.compiled
            )
        return self._baseline

    def _shards(self) -> None:
        self.found.stages["step from shards"] = self.steps.from_shards(self.dataset.split("train"))

    def _views(self) -> None:
        images = self.steps.batch[0]
        self.found.stages |= measure_views(self.train_step, self.clock, images, self.dataset)

    def _roofline(self) -> None:
        found, precision = self.found, self.place.precision
        forward, step = count_flops(self.recipe, found.classes)
        products, copy = measure_products(self.clock, precision), measure_copy(self.clock)
        found.flops = {"forward": forward, "step": step}
        found.roofline = {"products": products, "copy": copy}

    def _compare_with_roofline(self) -> None:
        """Note the shares of the roofline that steps and updates reach, where both are known."""
        found, stages = self.found, self.found.stages
        if not found.roofline:
            return
        if "step" in stages:
            flops = stages["step"] * found.flops["step"]
            found.used["step"] = flops / found.roofline["products"]
        if "update" in stages:
            moved = stages["update"] / found.batch * update_bytes(self.recipe, found.classes)
            found.used["update"] = moved / found.roofline["copy"]

    def _kernels(self) -> None:
        self.found.kernels = measure_kernels(self.steps.on_drawn(), self.place.devices[0])

    def _baseline_from_jpegs(self) -> None:
        found, split = self.found, self.dataset.split("train")
        try:
            taken = self.baseline().from_jpegs(split, found.batch, self.recipe.crop_size)
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


def bench(
    recipe: Recipe, dataset: Dataset | None, place: Place, extent: Extent, progress: Progress
) -> Bench:
    """Measure training with a recipe at its batch size.

    Args:
        dataset: whose training images are read; without one images are noise.
    """
    return Bencher(recipe, dataset, place, extent, progress).measure()


def peak_memory(devices: tuple[torch.device, ...]) -> dict[str, int]:
    """Return the most bytes that tensors took, and that torch kept for them, on all GPUs together.

    On CPUs nothing is known, and the answer is empty.
    """
    if not (gpus := _gpus(devices)):
        return {}
    return {
        "allocated": sum(torch.cuda.max_memory_allocated(device) for device in gpus),
        "reserved": sum(torch.cuda.max_memory_reserved(device) for device in gpus),
    }


def _gpus(devices: tuple[torch.device, ...]) -> set[torch.device]:
    return {device for device in devices if device.type == "cuda"}


def name_of(device: torch.device) -> str:
    """Return what a device is sold as."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "CPU"
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "CPU")
