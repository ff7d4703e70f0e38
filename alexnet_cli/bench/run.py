"""`alexnet bench`: how fast each stage of training is on this machine, and what limits it."""

import gc
import json
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import product
from pathlib import Path

import torch

from alexnet_cli.bench.measure import MEASUREMENTS, Bench, Extent
from alexnet_cli.bench.measure import bench as measure
from alexnet_cli.bench.summary import kernels_text, limits, markdown, name_of_way, ratios
from alexnet_cli.data.dataset_ref import DatasetRef
from alexnet_cli.data.shards.dataset import Dataset
from alexnet_cli.distributed.device_plan import DevicePlan, plan_devices
from alexnet_cli.distributed.launcher import on_replicas
from alexnet_cli.distributed.oom_errors import friendly_oom_errors
from alexnet_cli.distributed.precision import PRECISIONS, describe_precision, warn_of_slow_bf16
from alexnet_cli.distributed.replicas import place_in_group
from alexnet_cli.errors import AlexNetError, MachineError, UsageError
from alexnet_cli.io.atomic import write_bytes
from alexnet_cli.io.progress import SILENT, Progress
from alexnet_cli.recipes.recipe import Recipe
from alexnet_cli.training.train_step import Place

CPU_BATCH = 16
GRID_BATCHES = (128, 512, 2048)
EVERYTHING = Extent()


@dataclass(frozen=True, slots=True)
class Ways:
    """The ways to train that are to be measured, each with each; None for what is usual.

    Attributes:
        batches: images of an update; usually the recipe's, and 16 on a CPU.
        precisions: usually fp32.
        compiled: whether torch.compile makes the kernels; usually not.
    """

    batches: tuple[int, ...] | None = None
    precisions: tuple[str, ...] | None = None
    compiled: tuple[bool, ...] | None = None

    def filled(self, recipe: Recipe, kind: str, *, every: bool) -> "Ways":
        """Return what is meant on a kind of device; `every`: all the ways there are."""
        usual = min(recipe.batch_size, CPU_BATCH) if kind == "cpu" else recipe.batch_size
        return Ways(
            self.batches or (GRID_BATCHES if every else (usual,)),
            self.precisions or (PRECISIONS if every else ("fp32",)),
            self.compiled or ((False, True) if every else (False,)),
        )


@dataclass(slots=True)
class BenchResult:
    """Everything that was measured.

    Attributes:
        benches: a `Bench` for each way to train, with "ratios" and "limits".
        failures: ways that could not be measured, and why.
        report: the files that were written.
    """

    benches: list[dict] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    report: list[str] = field(default_factory=list)


def bench(
    location: DatasetRef | Path | None,
    recipe: Recipe,
    ways: Ways,
    *,
    every: bool = False,
    device: str = "auto",
    num_devices: int | None = None,
    columns: int | None = None,
    extent: Extent = EVERYTHING,
    out: Path | None = None,
    progress: Progress = SILENT,
) -> BenchResult | None:
    """Measure ways to train, one after the other; only the first replica has a result.

    Args:
        location: a dataset; without one, images are noise and nothing is read.
        every: measure all the ways; one that fails is noted, and the others go on.
        extent: what is measured of each way, and for how long.
        out: folder for bench.json and bench.md, and for kernels.txt and kernels.json if kernels
            are measured.

    Raises:
        AlexNetError: the dataset or device cannot be used, or the only way failed.
        UsageError: there is no measurement of a name in `extent.only`.
    """
    _check_names(extent)
    layout = plan_devices(device, num_devices, columns, net_columns=recipe.columns)
    ways = ways.filled(recipe, layout.kind, every=every)
    all_ways = list(product(ways.batches, ways.precisions, ways.compiled))
    first_bf16 = next((i for i, (_, name, _) in enumerate(all_ways, 1) if name == "bf16"), 0)
    found, failures = [], []
    for number, (batch, precision, compiled) in enumerate(all_ways, 1):
        what = f"batch {batch}, {precision}{', compiled' * compiled}"
        if len(all_ways) > 1:
            progress.say(f"{number}/{len(all_ways)}: {what}")
        resized = replace(recipe, batch_size=batch)
        way = _Way(location, resized, precision, compiled, extent, warns=number == first_bf16)
        try:
            found.append(on_replicas(partial(_measure, way, layout, progress), layout))
        except (AlexNetError, RuntimeError) as error:
            if len(all_ways) == 1 or isinstance(error, UsageError):
                raise
            failures.append(f"{what}: {str(error).splitlines()[0][:200]}")
            progress.say(failures[-1])
        _tidy(compiled=compiled)
    return _finish([entry for entry in found if entry], failures, out)


@dataclass(frozen=True, slots=True)
class _Way:
    location: DatasetRef | Path | None
    recipe: Recipe
    precision: str
    compiled: bool
    extent: Extent
    warns: bool = False


def _check_names(extent: Extent) -> None:
    """Refuse measurements that do not exist."""
    unknown = [name for name in extent.only if name not in MEASUREMENTS]
    if unknown:
        raise UsageError(f"--only {unknown[0]}: choose from {', '.join(MEASUREMENTS)}.")


def _measure(way: _Way, layout: DevicePlan, progress: Progress) -> Bench | None:
    shown = progress if place_in_group().is_main else SILENT
    dataset = _open(way, shown) if way.location else None
    with layout.taken() as (devices, replicas):
        place = Place(devices, way.precision, way.compiled, replicas)
        shown.say(describe_precision(way.precision, devices[0]))
        if way.warns:
            warn_of_slow_bf16(way.precision, devices[0], shown)
        smaller = f"Try --batch {max(1, way.recipe.batch_size // 2)}"
        try:
            with friendly_oom_errors(way.recipe.batch_size, smaller):
                found = measure(way.recipe, dataset, place, way.extent, shown)
        except RuntimeError as error:
            if not way.compiled:
                raise
            what = str(error).strip().splitlines()[0][:160]
            raise MachineError(f"torch.compile failed: {what}\nTry --no-compile") from error
        return found if replicas.is_main else None


def _open(way: _Way, progress: Progress) -> Dataset:
    dataset = DatasetRef.parse(way.location).open(("train",), fetch_now=True, progress=progress)
    dataset.check_crop(way.recipe)
    if len(dataset.split("train")) < way.recipe.batch_size:
        raise UsageError(
            f"--batch {way.recipe.batch_size}: {dataset.name} has "
            f"{len(dataset.split('train'))} training images only."
        )
    return dataset


def _tidy(*, compiled: bool) -> None:
    """Give back what one way held, before the next one begins."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if compiled:
        torch.compiler.reset()


def _finish(found: list[Bench], failures: list[str], out: Path | None) -> BenchResult | None:
    if not found and not failures:
        return None  # a replica that is not the first
    rows = [{**asdict(b), "ratios": ratios(b), "limits": limits(b)} for b in found]
    result = BenchResult(rows, failures)
    if out:
        out.mkdir(parents=True, exist_ok=True)
        files = {"bench.md": markdown(found, failures)}
        if profiled := [b for b in found if b.kernels]:
            files["kernels.txt"] = kernels_text(profiled)
            tables = {name_of_way(b): [asdict(kernel) for kernel in b.kernels] for b in profiled}
            files["kernels.json"] = _as_json(tables)
        result.report = [str(out / name) for name in ("bench.json", *files)]
        for name, text in {**files, "bench.json": _as_json(asdict(result))}.items():
            write_bytes(out / name, text.encode())
    return result


def _as_json(content: dict) -> str:
    return json.dumps(content, indent=1) + "\n"
