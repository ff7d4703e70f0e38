"""`alexnet bench` on a network of a sixteenth of the kernels."""

import pickle
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from helpers import Listener

from alexnet_cli.bench import run as bench_module
from alexnet_cli.bench.measure import Bencher
from alexnet_cli.bench.run import BenchRequest, bench
from alexnet_cli.distributed.device_plan import DevicePlan, plan_devices
from alexnet_cli.distributed.precision import SLOW_BF16
from alexnet_cli.distributed.runtime_config import RuntimeConfig
from alexnet_cli.io.progress import SILENT
from alexnet_cli.recipes.recipe import PAPER

SMALL = ("--set", "width=0.03125", "--set", "crop_size=59", "--device", "cpu", "--seconds", 0.01)


@pytest.fixture(autouse=True)
def small_limits(monkeypatch):
    monkeypatch.setattr("alexnet_cli.bench.roofline.SIDE", {"cpu": 128})
    monkeypatch.setattr("alexnet_cli.bench.roofline.COPIED", {"cpu": 1 << 20})


def test_figures_of_a_dataset_are_one_json_object(answer, dataset):
    found = answer("bench", dataset, *SMALL, "--batch-size", 4)

    assert {"read", "decode", "reader", "step", "step from shards"} <= found["stages"].keys()
    assert found["dataset"] == str(dataset)
    assert found["ratios"].keys() == {"step from shards / step", "ten views / passes alone"}
    assert len(found["limits"]) == 3


def test_table_and_what_limits_it_are_shown(alexnet):
    result = alexnet("bench", *SMALL, "--batch-size", 2)

    assert result.exit_code == 0, result.output
    text = " ".join(result.stdout.split())
    for words in ("batches of 2, fp32", "backward", "of a step: ", "matrix products"):
        assert words in text
    assert "precision fp32: float32 throughout" in result.stderr


def test_kernels_are_sorted_and_the_slowest_fifteen_are_shown(answer, shown):
    command = ("bench", *SMALL, "--batch-size", 2, "--only", "step", "--kernels")

    kernels, text = answer(*command)["kernels"], shown(*command)

    assert sum(kernel["share"] for kernel in kernels) == pytest.approx(1)
    seconds = [kernel["seconds"] for kernel in kernels]
    assert seconds == sorted(seconds, reverse=True)
    assert f"in {len(kernels) - 15} more" in text
    assert text.count("ms/step") == 1


def test_unknown_measurement_is_refused(fails):
    assert "choose from reading, parts" in fails(2, "bench", *SMALL, "--only", "speed").message


def test_batch_that_does_not_fit_is_an_error(fails, monkeypatch):
    def fail(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Bencher, "measure", fail)

    message = fails(4, "bench", *SMALL, "--batch-size", 6).message

    assert "out of memory with batches of 6" in message
    assert "--batch-size 3" in message


def test_missing_compiler_is_an_error_that_names_the_alternative(fails, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("InductorError: no C++ compiler found\nand more")

    monkeypatch.setattr(Bencher, "measure", fail)

    message = fails(4, "bench", *SMALL, "--compile").message

    assert "no C++ compiler found\n" in message
    assert "without --compile" in message


def tiny():
    from alexnet_cli.recipes.overrides import widen

    return replace(widen(PAPER, 1 / 32), crop_size=59)


@pytest.mark.parametrize(("kind", "batch"), [("cpu", 16), ("cuda", 128)])
def test_batch_is_small_on_a_cpu_and_the_recipes_on_a_gpu(monkeypatch, kind, batch):
    plan = DevicePlan(kind, 1, 1)
    monkeypatch.setattr(bench_module, "plan_devices", lambda *_: plan)
    monkeypatch.setattr(bench_module, "on_replicas", lambda target, *_: target.args[0])

    assert bench(BenchRequest(PAPER)).recipe.batch_size == batch
    assert bench(BenchRequest(PAPER, batch_size=3)).recipe.batch_size == 3


def test_work_of_a_replica_can_be_sent_to_its_process():
    request = BenchRequest(tiny(), Path("shards"), kernels=True)
    plan = plan_devices(RuntimeConfig("cpu", 2, 1), 2)

    sent = pickle.loads(pickle.dumps(partial(bench_module._bench, request, plan, SILENT)))

    assert sent.args[:2] == (request, plan)


def test_batch_larger_than_the_dataset_is_refused(fails, dataset):
    assert (
        "60 training images only" in fails(2, "bench", dataset, *SMALL, "--batch-size", 61).message
    )


def test_images_smaller_than_the_crops_are_refused(fails, dataset):
    assert "crops of 224" in fails(3, "bench", dataset, "--device", "cpu").message


def test_missing_dataset_is_an_error(fails):
    assert "index.json" in fails(3, "bench", Path("nowhere"), *SMALL).message


def test_cpu_without_bfloat16_instructions_is_reported_once(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    monkeypatch.setattr(Bencher, "measure", lambda *_, **__: None)
    said = Listener()

    bench(BenchRequest(tiny(), runtime=RuntimeConfig("cpu", precision="bf16")), said)

    assert said.lines.count(SLOW_BF16) == 1
