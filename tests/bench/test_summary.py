"""What a bench says about its figures."""

from dataclasses import replace

import pytest

from alexnet_cli.bench.kernels import Kernel
from alexnet_cli.bench.measure import Bench
from alexnet_cli.bench.summary import kernels_text, limits, markdown, ratios

STAGES = {
    "reader": 5600.0, "augment": 400.0, "forward": 100.0, "backward": 50.0, "update": 400.0,
    "step": 30.0, "step from shards": 29.0, "ten views": 9.0, "ten views, passes alone": 10.0,
}  # fmt: skip
FOUND = Bench(
    device="a GPU", replicas=1, split_over=1, threads=2, torch="2.15", recipe="paper",
    classes=1000, dataset="shards/a", batch=128, precision="bf16", compiled=True,
    stages=STAGES, baseline={"step": 20.0, "step from shards": 10.0}, compile_seconds=17.4,
    used={"step": 0.25, "update": 0.8},
)  # fmt: skip

MEMORY = {"allocated": 3 << 29, "reserved": 2 << 30}


def with_stages(**changes: float) -> Bench:
    return replace(FOUND, stages={**STAGES, **{k.replace("_", " "): v for k, v in changes.items()}})


def test_slower_of_reader_and_step_is_named_with_both_figures():
    assert limits(FOUND)[0] == "the step: it takes 30 images/s, the reader gives 5,600"
    line = limits(with_stages(reader=20.0, step=5000.0, step_from_shards=20.0))[0]
    assert line == "decode: the reader gives 20 images/s, the step could take 5,000"


def test_loss_between_the_two_is_told():
    assert limits(with_stages(step_from_shards=15.0))[0].endswith("together they reach 50%")


def test_shares_of_a_step_are_of_its_time():
    # 1/400, 1/100, 1/50, 1/400 of a second an image
    assert limits(FOUND)[1] == "of a step: augment 7%, forward 29%, backward 57%, update 7%"


def test_shares_of_the_limits_are_named():
    assert "25% of the matrix products this device can do in bf16, updates 80%" in limits(FOUND)[2]


def test_memory_and_what_was_timed_of_the_loader_are_named():
    loader = {"workers": 16, "ready": 32, "batches": 128, "seconds": 9.87}
    lines = limits(replace(FOUND, memory=MEMORY, baseline_loader=loader))
    assert lines[3] == "GPU memory of a step at its peak: 1.50 GiB allocated, 2.00 GiB reserved"
    assert lines[4] == (
        "torchvision's loader: 16 workers, 128 batches timed in 9.9 s, "
        "4 times the 32 it keeps ready"
    )


def test_kernels_are_a_table_for_each_way_that_was_profiled():
    kernels = [Kernel("gemm", 2.0, 0.0015, 0.75), Kernel("memset", 3.0, 0.0005, 0.25)]

    lines = kernels_text([replace(FOUND, kernels=kernels), FOUND]).splitlines()

    assert lines == [
        "batch 128, bf16, compiled, a GPU",
        " share   ms/step  calls  kernel",
        " 75.0%     1.500      2  gemm",
        " 25.0%     0.500      3  memset",
    ]


def test_nothing_is_said_of_what_was_not_measured():
    assert limits(replace(FOUND, stages={"step": 3.0}, used={})) == []
    assert ratios(replace(FOUND, stages={"step": 3.0}, baseline={})) == {}


def test_ratios_are_ours_over_the_other():
    assert ratios(FOUND) == pytest.approx(
        {
            "step / torchvision's": 1.5,
            "step from shards / torchvision's": 2.9,
            "step from shards / step": 29 / 30,
            "ten views / passes alone": 0.9,
        }
    )


def test_report_has_a_row_for_each_way_and_the_failures():
    eager = replace(FOUND, compiled=False, compile_seconds=None, baseline={}, used={})
    measured = replace(FOUND, memory=MEMORY, skipped=["ten views: would take 99 s"])

    text = markdown([measured, eager], ["batch 2048, fp32: out of memory"])

    rows = [line for line in text.splitlines() if line.startswith("| 128")]
    assert rows == [
        "| 128 | bf16 | 17 s | 30 | 29 | 5,600 | 9 | 20 | 10 | 25% | 1.50 | 2.00 |",
        "| 128 | bf16 | no | 30 | 29 | 5,600 | 9 |  |  |  |  |  |",
    ]
    cells = {line.count("|") for line in text.splitlines() if line.startswith("|")}
    assert len(cells) == 1
    for words in ("a GPU x 1", "batch 128, bf16, compiled:", "* not measured: batch 2048, fp32",
                  "* not measured: ten views: would take 99 s"):  # fmt: skip
        assert words in text


def test_report_of_nothing_but_failures_is_still_one():
    assert "* not measured: batch 1" in markdown([], ["batch 1, fp32: no"])
