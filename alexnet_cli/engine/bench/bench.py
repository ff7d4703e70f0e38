"""Where the time of a training run goes on this machine, and how near the device's limits it is."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from alexnet_cli.data.shards.dataset import Dataset
from alexnet_cli.data.sources import stats_of
from alexnet_cli.engine.bench.clock import Clock
from alexnet_cli.engine.bench.peer import MIN_CROP, Peer
from alexnet_cli.engine.bench.roof import count_flops, measure_copy, measure_products, update_bytes
from alexnet_cli.engine.bench.stages import MARGIN, Steps, draw_batch, drawn_stats, measure_reading
from alexnet_cli.engine.bench.views import measure_views
from alexnet_cli.engine.training.learner import Learner, Place
from alexnet_cli.progress import Progress
from alexnet_cli.recipe import Recipe

CLASSES = 1000  # where there is no dataset


@dataclass(slots=True)
class Bench:
    """What was measured of one way to train.

    Attributes:
        batch: pictures of an update, of all replicas together.
        stages: pictures a second, by stage; a stage that was not measured is not there.
        peer: the same of torchvision's alexnet: "step" from tensors, "step from shards".
        compile_seconds: of the first step, if torch.compile made the kernels.
        flops: operations of a picture, "forward" and "step".
        roof: "products" in operations a second, "copy" in bytes a second, as measured.
        used: shares of the roof: "step" of the products, "update" of the copy.
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
    peer: dict[str, float] = field(default_factory=dict)
    compile_seconds: float | None = None
    flops: dict[str, int] = field(default_factory=dict)
    roof: dict[str, float] = field(default_factory=dict)
    used: dict[str, float] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)


class Bencher:
    """Measures one way to train, on one replica; all replicas do it at once."""

    def __init__(
        self,
        recipe: Recipe,
        dataset: Dataset | None,
        place: Place,
        seconds: float,
        progress: Progress,
    ):
        self.recipe, self.dataset, self.place, self.progress = recipe, dataset, place, progress
        self.clock = Clock(place.devices, seconds, place.replicas)
        num_classes = len(dataset.classes) if dataset else CLASSES
        stats = stats_of(dataset) if dataset else drawn_stats(recipe.crop_size + MARGIN)
        self.learner = Learner(recipe, num_classes, stats, place)
        self.learner.begin()
        share = place.replicas.share.rows(recipe.batch_size)
        batch = draw_batch(share.stop - share.start, len(stats.mean_image), num_classes)
        on_device = tuple(torch.from_numpy(array).to(place.devices[0]) for array in batch)
        self.steps = Steps(self.learner, self.clock, recipe.batch_size, on_device)
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
        """Run every measurement, one after the other."""
        works = self._works()
        with self.progress.track("bench", len(works)) as bar:
            for what, work in works.items():
                bar.advance(0, note=what)
                work()
                bar.advance(1, note=what)
        return self.found

    def _works(self) -> dict[str, Callable[[], None]]:
        """Return what there is to measure here, in order."""
        alone, has_data = self.place.replicas.count == 1, self.dataset is not None
        works: dict[str, tuple[Callable[[], None], bool]] = {
            "the first step": (self._first, True),
            "reading": (self._reading, has_data),
            "parts of a step": (self._parts, alone),
            "steps from tensors": (self._steps, True),
            "steps from shards": (self._shards, has_data),
            "ten views": (self._views, alone),
            "the device's limits": (self._roof, alone),
            "torchvision's steps from JPEGs": (self._peer_jpegs, has_data and self.has_peer()),
        }
        if not alone:
            self.found.skipped.append("parts, views and limits: measured on one replica")
        if not self.has_peer():
            self.found.skipped.append(
                f"torchvision's alexnet: needs one device and patches of {MIN_CROP} pixels"
            )
        return {what: work for what, (work, is_possible) in works.items() if is_possible}

    def has_peer(self) -> bool:
        """Tell whether torchvision's network can be trained on the same patches."""
        devices = self.place.replicas.count * len(self.place.devices)
        return devices == 1 and self.recipe.crop_size >= MIN_CROP

    def _first(self) -> None:
        step, began = self.steps.on_drawn(), time.perf_counter()
        self.clock.time(step)
        if self.place.compiled:
            self.found.compile_seconds = time.perf_counter() - began

    def _reading(self) -> None:
        split = self.dataset.split("train")
        self.found.stages |= measure_reading(split, self.clock)
        self.found.stages["reader"] = self.steps.reader(split)

    def _parts(self) -> None:
        self.found.stages |= self.steps.parts()

    def _steps(self) -> None:
        found, works = self.found, [self.steps.on_drawn()]
        if self.has_peer():
            works.append(self._new_peer().on_drawn(found.batch, self.recipe.crop_size))
        ours, *of_peer = (found.batch * rate for rate in self.clock.rates(*works))
        found.stages["step"] = ours
        if of_peer:
            found.peer["step"] = of_peer[0]

    def _new_peer(self) -> Peer:
        place = self.place
        return Peer(self.found.classes, self.clock, place.precision, compiled=place.compiled)

    def _shards(self) -> None:
        self.found.stages["step from shards"] = self.steps.from_shards(self.dataset.split("train"))

    def _views(self) -> None:
        images = self.steps.batch[0]
        self.found.stages |= measure_views(self.learner, self.clock, images, self.dataset)

    def _roof(self) -> None:
        found, precision = self.found, self.place.precision
        forward, step = count_flops(self.recipe, found.classes)
        products, copy = measure_products(self.clock, precision), measure_copy(self.clock)
        found.flops = {"forward": forward, "step": step}
        found.roof = {"products": products, "copy": copy}
        moved = update_bytes(self.recipe, found.classes)
        updates = found.stages["update"] / found.batch
        found.used = {
            "step": found.stages["step"] * step / products,
            "update": updates * moved / copy,
        }

    def _peer_jpegs(self) -> None:
        split, crop = self.dataset.split("train"), self.recipe.crop_size
        speed = self._new_peer().from_jpegs(split, self.found.batch, crop)
        self.found.peer["step from shards"] = speed


def bench(
    recipe: Recipe, dataset: Dataset | None, place: Place, seconds: float, progress: Progress
) -> Bench:
    """Measure training with a recipe at its batch size.

    Args:
        dataset: whose training pictures are read; without one pictures are noise.
        seconds: of each measurement.
    """
    return Bencher(recipe, dataset, place, seconds, progress).measure()


def name_of(device: torch.device) -> str:
    """Return what a device is sold as."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "CPU"
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "CPU")
