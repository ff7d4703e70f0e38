"""tools/bench/grid.py: a report of several ways to train."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

GRID = Path(__file__).parents[2] / "tools" / "bench" / "grid.py"
FOUND = {
    "device": "a GPU", "replicas": 1, "split_over": 1, "torch": "2.15", "recipe": "paper",
    "classes": 1000, "dataset": "shards/a", "batch": 128, "precision": "bf16", "compiled": True,
    "stages": {"reader": 5600.0, "step": 30.0, "step from shards": 29.0, "ten views": 9.0},
    "baseline": {"step": 20.0, "step from shards": 10.0}, "compile_seconds": 17.4,
    "used": {"step": 0.25, "update": 0.8}, "memory": {"allocated": 3 << 29, "reserved": 2 << 30},
    "skipped": ["ten views: would take 99 s"], "limits": ["the step"], "kernels": [],
}  # fmt: skip
EAGER = {"compiled": False, "compile_seconds": None, "baseline": {}, "used": {}, "memory": {}}


@pytest.fixture
def grid():
    spec = importlib.util.spec_from_file_location("grid", GRID)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_report_has_a_row_for_each_way_and_the_failures(grid):
    text = grid.markdown([FOUND, FOUND | EAGER], ["batch 2048, fp32: out of memory"])

    rows = [line for line in text.splitlines() if line.startswith("| 128")]
    assert rows == [
        "| 128 | bf16 | 17 s | 30 | 29 | 5,600 | 9 | 20 | 10 | 25% | 1.50 | 2.00 |",
        "| 128 | bf16 | no | 30 | 29 | 5,600 | 9 |  |  |  |  |  |",
    ]
    assert len({line.count("|") for line in text.splitlines() if line.startswith("|")}) == 1
    for words in ("a GPU x 1", "batch 128, bf16, compiled:", "* not measured: batch 2048, fp32",
                  "* not measured: ten views: would take 99 s"):  # fmt: skip
        assert words in text


def test_report_of_failures_only_is_complete(grid):
    assert "* not measured: batch 1" in grid.markdown([], ["batch 1, fp32: no"])


def test_way_that_fails_is_noted_and_the_others_follow(grid, monkeypatch, tmp_path):
    kernel = {"name": "gemm", "calls": 2.0, "seconds": 0.0015, "share": 0.75}

    def measure(arguments):
        assert arguments[:3] == ["shards/a", "--batch-size", "2"]
        assert arguments[-2:] == ["--device", "cpu"]
        if "tf32" in arguments:
            return None, "out of memory with batches of 2."
        return FOUND | {"batch": 2, "kernels": [kernel]}, ""

    monkeypatch.setattr(grid, "measure", measure)
    options = ["--batches", "2", "--precisions", "fp32,tf32", "--compile", "yes"]
    command = ["grid", "shards/a", *options, "--out", str(tmp_path), "--", "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", command)
    grid.main()

    content = json.loads((tmp_path / "bench.json").read_text())
    assert content["failures"] == [
        "--batch-size 2 --precision tf32 --compile: out of memory with batches of 2."
    ]
    assert len(content["results"]) == 1
    assert (tmp_path / "kernels.txt").read_text().splitlines() == [
        "batch 2, bf16, compiled, a GPU",
        " share   ms/step  calls  kernel",
        " 75.0%     1.500      2  gemm",
    ]


def test_grid_measures_this_machine(grid):
    small = ["--set", "width=0.03125", "--set", "crop_size=59", "--device", "cpu"]
    found, reason = grid.measure(
        [*small, "--batch-size", "2", "--only", "step", "--seconds", "0.01"]
    )
    assert (found["batch"], reason) == (2, "")
    found, reason = grid.measure([*small, "--only", "speed"])
    assert found is None
    assert "'speed': choose from reading" in reason
