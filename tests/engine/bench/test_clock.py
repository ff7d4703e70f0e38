"""Timing repeated work, with work that takes a known time."""

import time

import pytest
import torch

from alexnet_cli.engine.bench.clock import CHUNKS, FEWEST, Clock
from alexnet_cli.engine.devices.replicas import Replicas

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
    monkeypatch.setattr(Replicas, "gather", lambda _, row: torch.stack([row, row * 0 + 3]))
    calls = []

    Clock(CPU, 0.05, Replicas(0, 2)).rate(lambda: calls.append(1))

    assert len(calls) == 2 + 3 * CHUNKS


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_work_of_a_gpu_is_waited_for():
    x = torch.randn(4096, 4096, device="cuda")
    clock = Clock((torch.device("cuda"),), 0.2)

    many, one = clock.time(lambda: x @ x, 50), clock.time(lambda: x @ x)

    assert many > 10 * one
