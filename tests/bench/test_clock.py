"""Timing repeated work, with work that takes a known time."""

import time

import pytest
import torch

from alexnet_cli.bench.clock import CHUNKS, FEWEST, STRETCH, Clock, TooSlowError
from alexnet_cli.distributed.replicas import Replicas

CPU = (torch.device("cpu"),)


def test_rate_is_how_often_a_second_work_is_done():
    rate = Clock(CPU, seconds=0.1).rate(lambda: time.sleep(0.005))

    assert 20 < rate <= 200


def test_first_call_does_not_count():
    pauses = iter([0.5])

    rate = Clock(CPU, seconds=0.05).rate(lambda: time.sleep(next(pauses, 0.001)))

    assert rate > 20


def test_work_is_done_though_there_is_no_time_for_it():
    calls = []

    Clock(CPU, seconds=0.0).rate(lambda: calls.append(1))

    assert len(calls) == 2 + FEWEST


def test_works_to_compare_take_turns():
    seen = []
    works = (lambda: seen.append("a"), lambda: seen.append("b"))

    rates = Clock(CPU, seconds=0.0).rates(*works)

    assert seen == ["a", "a", "b", "b"] + FEWEST * ["a", "b"]
    assert all(rate > 0 for rate in rates)


def test_phases_are_run_in_order_round_by_round_and_timed_apart():
    seen = []

    def first() -> None:
        seen.append("first")
        time.sleep(0.004)

    seconds = Clock(CPU, seconds=0.05).phases(first, lambda: seen.append("second"))

    assert len(seen) >= 2 * (FEWEST + 1)
    assert seen == ["first", "second"] * (len(seen) // 2)
    assert seconds[0] >= 0.004
    assert seconds[0] > 10 * seconds[1]


def test_replicas_repeat_as_often_as_the_slowest_of_them(monkeypatch):
    monkeypatch.setattr(Replicas, "all_gather", lambda _, row: torch.stack([row, row * 0 + 0.019]))
    calls = []

    Clock(CPU, 0.3, Replicas(0, 2)).rate(lambda: calls.append(1))

    assert len(calls) == 2 + 3 * CHUNKS


def test_batches_that_were_ready_before_the_clock_began_do_not_count():
    """A loader with 20 batches ready makes 250 per second, however fast it begins."""
    ready = iter(range(20))

    taken = Clock(CPU, seconds=0.05).stretch(
        lambda: next(ready, None) is None and time.sleep(0.004), ahead=20
    )

    assert taken.rate <= 250
    assert taken.ahead == 20
    assert taken.calls >= STRETCH * 20
    assert taken.calls / taken.seconds == pytest.approx(taken.rate)


def test_stretch_lasts_for_the_seconds_of_the_clock():
    taken = Clock(CPU, seconds=0.2).stretch(lambda: time.sleep(0.001), ahead=2)

    assert taken.calls > STRETCH * 2
    assert taken.seconds >= 0.1


@pytest.mark.parametrize(
    "measure",
    [
        lambda clock, work: clock.rate(work),
        lambda clock, work: clock.phases(work, work),
        lambda clock, work: clock.stretch(work, 3),
    ],
    ids=["rate", "phases", "stretch"],
)
def test_measurement_over_the_limit_is_given_up_after_a_few_calls(measure):
    calls = []

    def work() -> None:
        calls.append(1)
        time.sleep(0.01)

    with pytest.raises(TooSlowError, match=r"would take \d+ s or more, the limit is 0 s"):
        measure(Clock(CPU, seconds=1.0, limit=0.025), work)

    assert len(calls) <= 6


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_work_of_a_gpu_is_waited_for():
    x = torch.randn(4096, 4096, device="cuda")
    clock = Clock((torch.device("cuda"),), 0.2)

    many, one = clock.time(lambda: x @ x, 50), clock.time(lambda: x @ x)

    assert many > 10 * one
