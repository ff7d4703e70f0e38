"""`alexnet bench`: how fast each stage of training is on this machine, and what limits it."""

from dataclasses import dataclass, replace
from functools import partial

from alexnet_cli.bench.measure import MEASUREMENTS, Bencher, BenchResult
from alexnet_cli.data.dataset_ref import DatasetRef
from alexnet_cli.data.shards.dataset import Dataset
from alexnet_cli.distributed.device_plan import DevicePlan, plan_devices
from alexnet_cli.distributed.launcher import on_replicas
from alexnet_cli.distributed.oom_errors import friendly_oom_errors
from alexnet_cli.distributed.precision import describe_precision
from alexnet_cli.distributed.replicas import place_in_group
from alexnet_cli.distributed.runtime_config import DEFAULT_RUNTIME, RuntimeConfig
from alexnet_cli.errors import MachineError, UsageError, hint
from alexnet_cli.io.progress import SILENT, Progress
from alexnet_cli.recipes.recipe import Recipe

CPU_BATCH = 16


@dataclass(frozen=True, slots=True)
class BenchRequest:
    """What to measure.

    Attributes:
        dataset: whose training images are read; None for random images, which are not read.
        batch_size: images per update; by default the recipe's, but at most 16 on a CPU.
        seconds: per measurement.
        only: names out of `MEASUREMENTS`.
        kernels: whether to profile the kernels of a step.
    """

    recipe: Recipe
    dataset: DatasetRef | None = None
    batch_size: int | None = None
    runtime: RuntimeConfig = DEFAULT_RUNTIME
    seconds: float = 2.0
    only: tuple[str, ...] = MEASUREMENTS
    kernels: bool = False


def bench(request: BenchRequest, progress: Progress = SILENT) -> BenchResult | None:
    """Measure training in one way; only the main replica returns a result.

    Raises:
        AlexNetError: if the dataset or device cannot be used, or memory is full.
        UsageError: if a measurement is unknown, or the dataset is smaller than a batch.
    """
    for name in request.only:
        if name not in MEASUREMENTS:
            raise UsageError(f"measurement {name!r}: choose from {', '.join(MEASUREMENTS)}.")
    plan = plan_devices(request.runtime, request.recipe.columns, progress)
    size = request.batch_size or request.recipe.batch_size
    if plan.kind == "cpu" and request.batch_size is None:
        size = min(size, CPU_BATCH)
    recipe = replace(request.recipe, batch_size=size)
    return on_replicas(
        partial(_bench, replace(request, recipe=recipe), plan, progress), plan, progress
    )


def _bench(request: BenchRequest, plan: DevicePlan, progress: Progress) -> BenchResult | None:
    shown = progress if place_in_group().is_main else SILENT
    recipe = request.recipe
    dataset = _open(request.dataset, recipe, shown) if request.dataset else None
    smaller = hint("smaller_bench_batch", batch=max(1, recipe.batch_size // 2))
    with plan.joined(progress) as runtime:
        shown.say(describe_precision(runtime.precision, runtime.device))
        try:
            with friendly_oom_errors(recipe.batch_size, smaller):
                bencher = Bencher(recipe, dataset, runtime, request.seconds, shown)
                found = bencher.measure(request.only, with_kernels=request.kernels)
        except RuntimeError as error:
            if not runtime.compiled:
                raise
            what = str(error).strip().splitlines()[0][:160]
            raise MachineError(
                f"torch.compile failed: {what}", hint=hint("without_compile")
            ) from error
        return found if runtime.replicas.is_main else None


def _open(ref: DatasetRef, recipe: Recipe, progress: Progress) -> Dataset:
    dataset = ref.open(("train",), fetch_now=True, progress=progress)
    dataset.check_crop(recipe)
    if (num := len(dataset.split("train"))) < recipe.batch_size:
        raise UsageError(
            f"batches of {recipe.batch_size}: {dataset.name} has {num} training images only."
        )
    return dataset
