"""`alexnet bench` on a network of a sixteenth of the kernels."""

import json
import pickle
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from helpers import Listener

from alexnet_cli.bench import run as verb
from alexnet_cli.distributed.device_plan import plan_devices
from alexnet_cli.distributed.precision import SLOW_BF16
from alexnet_cli.io.progress import SILENT
from alexnet_cli.recipes.recipe import PAPER

SMALL = ("--set", "width=0.03125", "--set", "crop_size=59", "--device", "cpu", "--seconds", 0.01)


@pytest.fixture(autouse=True)
def small_limits(monkeypatch):
    monkeypatch.setattr("alexnet_cli.bench.roofline.SIDE", {"cpu": 128})
    monkeypatch.setattr("alexnet_cli.bench.roofline.COPIED", {"cpu": 1 << 20})


def test_figures_of_a_dataset_are_one_json_object(answer, dataset):
    (found,) = answer("bench", dataset, *SMALL, "--batch", 4)["benches"]

    assert {"read", "decode", "reader", "step", "step from shards"} <= found["stages"].keys()
    assert found["dataset"] == str(dataset)
    assert found["ratios"].keys() == {"step from shards / step", "ten views / passes alone"}
    assert len(found["limits"]) == 3


def test_table_and_what_limits_it_are_shown(alexnet):
    result = alexnet("bench", *SMALL, "--batch", 2)

    assert result.exit_code == 0, result.output
    text = " ".join(result.stdout.split())
    for words in ("batches of 2, fp32", "backward", "of a step: ", "matrix products"):
        assert words in text
    assert "precision fp32: float32 throughout" in result.stderr


def test_all_measures_every_way_that_is_not_ruled_out(answer, tmp_path):
    out = tmp_path / "made" / "here"

    result = answer("bench", *SMALL, "--all", "--batch", 2, "--no-compile", "--out", out)

    assert [row["precision"] for row in result["benches"]] == ["fp32", "tf32", "bf16"]
    assert result["report"] == [str(out / "bench.json"), str(out / "bench.md")]
    written = json.loads((out / "bench.json").read_text())
    assert written["benches"] == result["benches"]
    assert (out / "bench.md").read_text().count("\n| 2 |") == 3


def test_kernels_are_written_and_the_first_fifteen_printed(alexnet, tmp_path):
    command = ("bench", *SMALL, "--batch", 2, "--only", "step", "--kernels", "--out", tmp_path)

    result = alexnet(*command)

    assert result.exit_code == 0, result.output
    (kernels,) = json.loads((tmp_path / "kernels.json").read_text()).values()
    assert sum(kernel["share"] for kernel in kernels) == pytest.approx(1)
    seconds = [kernel["seconds"] for kernel in kernels]
    assert seconds == sorted(seconds, reverse=True)
    table = (tmp_path / "kernels.txt").read_text()
    assert all(kernel["name"] in table for kernel in kernels)
    assert "batch 2, fp32, " in table
    assert f"in {len(kernels) - 15} more" in result.stdout
    assert kernels[0]["name"] in result.stdout


def test_unknown_measurement_is_refused(fails):
    assert "choose from reading, parts" in fails(2, "bench", *SMALL, "--only", "speed").message


def test_way_that_fails_is_noted_and_the_others_go_on(monkeypatch):
    measure = verb.measure

    def fail_once(recipe, dataset, place, *rest):
        if place.precision == "tf32":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return measure(recipe, dataset, place, *rest)

    monkeypatch.setattr(verb, "measure", fail_once)
    ways = verb.Ways((2,), compiled=(False,))

    result = verb.bench(None, tiny(), ways, every=True, device="cpu", extent=verb.Extent(0.0))

    assert [row["precision"] for row in result.benches] == ["fp32", "bf16"]
    assert result.failures == ["batch 2, tf32: out of memory with batches of 2."]


def test_only_way_that_does_not_fit_is_an_error(fails, monkeypatch):
    def fail(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(verb, "measure", fail)

    message = fails(4, "bench", *SMALL, "--batch", 6).message

    assert "out of memory with batches of 6" in message
    assert "--batch 3" in message


def test_missing_compiler_is_an_error_that_names_the_way_without(fails, monkeypatch):
    def fail(*_):
        raise RuntimeError("InductorError: no C++ compiler found\nand more")

    monkeypatch.setattr(verb, "measure", fail)

    message = fails(4, "bench", *SMALL, "--compile").message

    assert "no C++ compiler found\n" in message
    assert "--no-compile" in message


def tiny():
    from alexnet_cli.recipes.overrides import widen

    return replace(widen(PAPER, 1 / 32), crop_size=59)


def test_usual_ways_are_one_small_batch_on_a_cpu_and_the_recipe_s_on_a_gpu():
    usual = verb.Ways().filled(PAPER, "cpu", every=False)

    assert usual == verb.Ways((16,), ("fp32",), (False,))
    assert verb.Ways().filled(PAPER, "cuda", every=False).batches == (128,)


def test_all_the_ways_on_a_gpu_are_eighteen():
    ways = verb.Ways().filled(PAPER, "cuda", every=True)

    assert ways.batches == (128, 512, 2048)
    assert len(ways.batches) * len(ways.precisions) * len(ways.compiled) == 18


def test_work_of_a_replica_can_be_sent_to_its_process():
    way = verb._Way(Path("shards"), tiny(), "bf16", True, verb.Extent())
    layout = plan_devices("cpu", 2, 1, net_columns=2)

    sent = pickle.loads(pickle.dumps(partial(verb._measure, way, layout, SILENT)))

    assert sent.args[:2] == (way, layout)


def test_batch_larger_than_the_dataset_is_refused(fails, dataset):
    assert "60 training images only" in fails(2, "bench", dataset, *SMALL, "--batch", 61).message


def test_images_smaller_than_the_patches_are_refused(fails, dataset):
    assert "crops of 224" in fails(3, "bench", dataset, "--device", "cpu").message


def test_missing_dataset_is_an_error(fails):
    assert "index.json" in fails(3, "bench", Path("nowhere"), *SMALL).message


def test_cpu_without_bfloat16_instructions_is_warned_of_in_one_way_only(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    monkeypatch.setattr(verb, "measure", lambda *_: None)
    said = Listener()

    verb.bench(None, tiny(), verb.Ways((2, 4)), every=True, device="cpu", progress=said)

    assert said.lines.count(SLOW_BF16) == 1
    at = said.lines.index(SLOW_BF16)
    assert said.lines[at - 2] == "5/12: batch 2, bf16"
