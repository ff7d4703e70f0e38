"""The sentences and ratios of a benchmark."""

import pytest

from alexnet_cli.bench.summary import describe_loader, limits, ratios

STAGES = {
    "reader": 5600.0, "augment": 400.0, "forward": 100.0, "backward": 50.0, "update": 400.0,
    "step": 30.0, "step from shards": 29.0, "ten views": 9.0, "ten views, passes alone": 10.0,
}  # fmt: skip
BASELINE = {"step": 20.0, "step from shards": 10.0}
USED = {"step": 0.25, "update": 0.8}
MEMORY = {"allocated": 3 << 29, "reserved": 2 << 30}


def limits_of(**changes: float) -> list[str]:
    changed = {name.replace("_", " "): value for name, value in changes.items()}
    return limits(STAGES | changed, USED, {}, "bf16")


def test_slower_of_reader_and_step_is_named_with_both_figures():
    assert limits_of()[0] == "the step: it uses 30 images/s, 5,600 could be read"
    line = limits_of(reader=20.0, step=5000.0, step_from_shards=20.0)[0]
    assert line == "decoding: 20 images/s are read, the step could use 5,000"


def test_loss_between_reader_and_step_is_reported():
    assert limits_of(step_from_shards=15.0)[0].endswith("together they reach 50%")


def test_shares_of_a_step_are_of_its_time():
    # 1/400, 1/100, 1/50, 1/400 of a second per image
    assert limits_of()[1] == "of a step: augment 7%, forward 29%, backward 57%, update 7%"


def test_shares_of_the_roofline_are_named():
    assert "25% of the matrix products this device can do in bf16, updates 80%" in limits_of()[2]


def test_memory_and_the_measurement_of_the_loader_are_described():
    lines = limits(STAGES, USED, MEMORY, "bf16")
    assert lines[3] == "GPU memory of a step at its peak: 1.50 GiB allocated, 2.00 GiB reserved"
    loader = {"workers": 16, "ready": 32, "batches": 128, "seconds": 9.87}
    assert describe_loader(loader) == (
        "torchvision's loader: 16 workers, 128 batches timed in 9.9 s, "
        "4 times the 32 it keeps ready"
    )


def test_missing_measurements_are_not_described():
    assert limits({"step": 3.0}, {}, {}, "fp32") == []
    assert ratios({"step": 3.0}, {}) == {}


def test_ratios_are_ours_over_the_other():
    assert ratios(STAGES, BASELINE) == pytest.approx(
        {
            "step / torchvision's": 1.5,
            "step from shards / torchvision's": 2.9,
            "step from shards / step": 29 / 30,
            "ten views / passes alone": 0.9,
        }
    )
