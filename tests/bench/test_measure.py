"""The stages of training measured from end to end, on a tiny network."""

from dataclasses import replace

import pytest
import torch

from alexnet_cli.bench import measure as measure_module
from alexnet_cli.bench.measure import (
    CLASSES,
    MEASUREMENTS,
    Bencher,
    BenchResult,
    name_of,
    peak_memory,
)
from alexnet_cli.data.shards.dataset import open_dataset
from alexnet_cli.distributed.device_plan import Runtime
from alexnet_cli.distributed.replicas import Replicas
from alexnet_cli.io.progress import SILENT
from alexnet_cli.recipes.overrides import widen

CPU = torch.device("cpu")
ON_CPU = Runtime((CPU,))
PARTS = ["augment", "forward", "backward", "update"]
VIEWS = ["ten views", "ten views, passes alone"]


@pytest.fixture(autouse=True)
def small_limits(monkeypatch):
    monkeypatch.setattr("alexnet_cli.bench.roofline.SIDE", {"cpu": 128})
    monkeypatch.setattr("alexnet_cli.bench.roofline.COPIED", {"cpu": 1 << 20})


def measure(
    recipe, dataset, runtime=ON_CPU, seconds=0.01, only=MEASUREMENTS, **options
) -> BenchResult:
    opened = open_dataset(dataset) if dataset else None
    return Bencher(recipe, opened, runtime, seconds, SILENT).measure(only, **options)


@pytest.fixture
def recipe(tiny_recipe):
    """Crops too small for torchvision's network."""
    return replace(widen(tiny_recipe, 1 / 2), crop_size=59, batch_size=4)


def test_everything_is_measured_with_a_dataset(recipe, dataset):
    found = measure(recipe, dataset)

    reading = ["read", "decode", "reader"]
    assert list(found.stages) == [*reading, *PARTS, "step", "step from shards", *VIEWS]
    assert all(speed > 0 for speed in found.stages.values())
    assert found.used.keys() == {"step", "update"}
    assert found.flops["step"] > 2 * found.flops["forward"]
    assert (found.classes, found.batch, found.dataset) == (10, 4, str(dataset))
    assert "crops of 63 pixels" in found.skipped[0]


def test_without_a_dataset_nothing_is_read(recipe):
    found = measure(recipe, None, Runtime((CPU,), "bf16"))

    assert list(found.stages) == [*PARTS, "step", *VIEWS]
    assert (found.classes, found.dataset, found.precision) == (CLASSES, "", "bf16")
    assert found.compile_seconds is None


def test_split_network_is_measured_too(recipe):
    found = measure(recipe, None, Runtime((CPU, CPU)))

    assert found.split_over == 2
    assert found.stages["step"] > 0


def test_replicas_that_share_a_batch_time_whole_steps_only(recipe, dataset):
    bencher = Bencher(recipe, open_dataset(dataset), ON_CPU, 0.01, SILENT)
    bencher.runtime = Runtime((CPU,), replicas=Replicas(0, 2))

    works = bencher._works({*MEASUREMENTS})

    assert list(works) == ["reading", "step", "shards"]
    assert "measured on one replica" in bencher.found.skipped[0]


def test_only_requested_measurements_are_made(recipe, dataset):
    found = measure(recipe, dataset, only=("step",))

    assert list(found.stages) == ["step"]
    assert found.roofline == found.used == {}
    assert found.kernels == []


def test_kernels_of_a_whole_step_are_profiled_on_request(recipe):
    found = measure(recipe, None, only=(), with_kernels=True)

    names = " ".join(kernel.name for kernel in found.kernels)
    assert "convolution" in names
    assert "backward" in names
    assert "sgd" in names.lower()


def test_measurements_of_steps_that_are_too_slow_are_skipped_with_the_reason(
    recipe, dataset, monkeypatch
):
    monkeypatch.setattr(measure_module, "LIMIT_SECONDS", 1e-6)

    found = measure(recipe, dataset, seconds=1e-7)

    assert not found.stages
    reasons = "\n".join(found.skipped)
    for what in ("reading", "parts of a step", "steps from shards", "ten views"):
        assert f"{what}: would take 0 s or more, the limit is 0 s" in reasons


def test_failed_loader_is_noted_and_other_errors_are_raised(recipe, dataset, monkeypatch):
    bencher = Bencher(recipe, open_dataset(dataset), ON_CPU, 0.01, SILENT)

    class Failing:
        def __init__(self, message: str):
            self.message = message

        def from_jpegs(self, *_):
            raise RuntimeError(self.message)

    monkeypatch.setattr(bencher, "baseline", Failing("DataLoader timed out after 60 seconds"))
    bencher._baseline_from_jpegs()
    assert "its loader failed (DataLoader timed out" in bencher.found.skipped[-1]

    monkeypatch.setattr(bencher, "baseline", Failing("CUDA error: illegal memory access"))
    with pytest.raises(RuntimeError, match="illegal"):
        bencher._baseline_from_jpegs()


def test_gpu_memory_of_a_cpu_is_unknown():
    assert peak_memory((CPU, CPU)) == {}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_gpu_memory_of_a_step_is_measured(recipe):
    found = measure(recipe, None, Runtime((torch.device("cuda", 0),)), only=())

    assert 0 < found.memory["allocated"] <= found.memory["reserved"]


def test_cpu_has_a_name():
    assert name_of(CPU)
