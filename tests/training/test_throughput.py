"""Speed, waiting and memory, by a clock set by hand."""

import resource

import pytest
import torch

from alexnet_cli.training import throughput as meter_module
from alexnet_cli.training.throughput import Meter

CPU = torch.device("cpu")


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """The seconds now."""
    now = [100.0]
    monkeypatch.setattr(meter_module.time, "perf_counter", lambda: now[0])
    return now


def slow(clock: list[float], seconds: list[float]):
    """Yield numbers, each after so many seconds."""
    for number, wait in enumerate(seconds):
        clock[0] += wait
        yield number


def test_epoch_of_steps_and_waits(clock):
    meter = Meter(CPU)
    meter.begin_epoch()
    for _ in meter.waiting_for(slow(clock, [1.0, 0.5, 0.0])):
        clock[0] += 2.0
        meter.count(16)
    meter.end_epoch()

    row = meter.row()
    assert row["images_per_second"] == pytest.approx(48 / 7.5)
    assert row["data_wait"] == pytest.approx(1.5 / 7.5)
    assert (meter.images, meter.seconds) == (48, 7.5)


def test_batches_come_as_they_are(clock):
    assert list(Meter(CPU).waiting_for(slow(clock, [1, 1, 1]))) == [0, 1, 2]
    assert list(Meter(CPU).waiting_for([])) == []


def test_what_is_between_two_epochs_does_not_count(clock):
    meter = Meter(CPU)
    for seconds in (2.0, 4.0):
        meter.begin_epoch()
        clock[0] += seconds
        meter.count(10)
        meter.end_epoch()
        clock[0] += 100.0  # validation

    assert meter.row()["images_per_second"] == pytest.approx(10 / 4.0)
    assert (meter.images, meter.seconds) == (20, 6.0)


def test_waiting_of_an_epoch_does_not_count_in_the_next(clock):
    meter = Meter(CPU)
    meter.begin_epoch()
    list(meter.waiting_for(slow(clock, [5.0])))
    meter.end_epoch()
    meter.begin_epoch()
    clock[0] += 1.0
    meter.end_epoch()

    assert meter.row()["data_wait"] == 0


def test_epoch_without_a_step_left_is_no_division_by_zero(clock):
    meter = Meter(CPU)
    meter.begin_epoch()
    meter.end_epoch()

    assert meter.row()["images_per_second"] == 0
    assert meter.row()["data_wait"] == 0
    assert meter.seconds_for(1000) == 0


def test_seconds_to_come_are_by_the_speed_so_far(clock):
    meter = Meter(CPU)
    meter.begin_epoch()
    clock[0] += 4.0
    meter.count(20)
    meter.end_epoch()

    assert meter.seconds_for(100) == pytest.approx(20.0)


def test_memory_is_the_peak_of_this_process():
    row = Meter(CPU).row()

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    assert row["memory_mb"] == pytest.approx(peak, rel=0.01)
    with open("/proc/self/status") as file:  # noqa: PTH123 - not of a disk
        high = next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))
    assert row["memory_mb"] == pytest.approx(high * 1024 / 1e6, rel=0.1)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_memory_is_that_of_the_gpu_where_there_is_one():
    device = torch.device("cuda", 0)
    torch.cuda.reset_peak_memory_stats(device)
    block = torch.zeros(64 << 20, dtype=torch.uint8, device=device)
    assert Meter(device).row()["memory_mb"] >= len(block) / 1e6
