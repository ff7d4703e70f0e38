"""One way to train measured from end to end, on a tiny network."""

from dataclasses import replace

import pytest
import torch

from alexnet_cli.data.shards.dataset import open_dataset
from alexnet_cli.engine.bench.bench import CLASSES, Bencher, bench, name_of
from alexnet_cli.engine.devices.replicas import Replicas
from alexnet_cli.engine.training.learner import Place
from alexnet_cli.progress import SILENT
from alexnet_cli.settings import widen

CPU = torch.device("cpu")
PARTS = ["augment", "forward", "backward", "update"]
VIEWS = ["ten views", "ten views, passes alone"]


@pytest.fixture(autouse=True)
def small_limits(monkeypatch):
    monkeypatch.setattr("alexnet_cli.engine.bench.roof.SIDE", {"cpu": 128})
    monkeypatch.setattr("alexnet_cli.engine.bench.roof.COPIED", {"cpu": 1 << 20})


@pytest.fixture
def recipe(tiny_recipe):
    """Patches too small for torchvision's network."""
    return replace(widen(tiny_recipe, 1 / 2), crop_size=59, batch_size=4)


def test_everything_is_measured_with_a_dataset(recipe, dataset):
    found = bench(recipe, open_dataset(dataset), Place((CPU,)), 0.01, SILENT)

    reading = ["read", "decode", "reader"]
    assert list(found.stages) == [*reading, *PARTS, "step", "step from shards", *VIEWS]
    assert all(speed > 0 for speed in found.stages.values())
    assert found.used.keys() == {"step", "update"}
    assert found.flops["step"] > 2 * found.flops["forward"]
    assert (found.classes, found.batch, found.dataset) == (10, 4, str(dataset))
    assert "patches of 63 pixels" in found.skipped[0]


def test_without_a_dataset_nothing_is_read(recipe):
    found = bench(recipe, None, Place((CPU,), "bf16"), 0.01, SILENT)

    assert list(found.stages) == [*PARTS, "step", *VIEWS]
    assert (found.classes, found.dataset, found.precision) == (CLASSES, "", "bf16")
    assert found.compile_seconds is None


def test_split_network_is_measured_too(recipe):
    found = bench(recipe, None, Place((CPU, CPU)), 0.01, SILENT)

    assert found.split_over == 2
    assert found.stages["step"] > 0


def test_replicas_that_share_a_batch_time_whole_steps_only(recipe, dataset):
    bencher = Bencher(recipe, open_dataset(dataset), Place((CPU,)), 0.01, SILENT)
    bencher.place = Place((CPU,), replicas=Replicas(0, 2))

    works = bencher._works()

    assert list(works) == ["the first step", "reading", "steps from tensors", "steps from shards"]
    assert "measured on one replica" in bencher.found.skipped[0]


def test_cpu_has_a_name():
    assert name_of(CPU)
