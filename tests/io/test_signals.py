"""Handlers end with their block; stop signals are recorded, and a second one ends the process."""

import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from alexnet_cli.io.signals import (
    catch_signals,
    handling,
    known_signals,
    leave,
    unless_ignored,
)


def test_signals_are_handled_in_the_block_only():
    before, arrived = signal.getsignal(signal.SIGUSR2), []
    with handling([signal.SIGUSR2], lambda number, _: arrived.append(number)):
        signal.raise_signal(signal.SIGUSR2)

    assert arrived == [signal.SIGUSR2]
    assert signal.getsignal(signal.SIGUSR2) == before


def test_thread_that_may_set_no_handlers_works_without_them():
    before = signal.getsignal(signal.SIGINT)

    def work() -> bool:
        with catch_signals("SIGUSR1") as stop_signal:
            return stop_signal.stop_requested

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(work).result() is False
    assert signal.getsignal(signal.SIGINT) == before


def test_former_handlers_are_restored_after_an_error():
    before = signal.getsignal(signal.SIGUSR2)
    with pytest.raises(ZeroDivisionError), handling([signal.SIGUSR2], signal.SIG_IGN):
        _ = 1 / 0

    assert signal.getsignal(signal.SIGUSR2) == before


def test_ignored_signal_stays_ignored():
    assert unless_ignored("SIGUSR2") == [signal.SIGUSR2]
    with handling([signal.SIGUSR2], signal.SIG_IGN):
        assert unless_ignored("SIGUSR2") == []


def test_signals_that_the_system_lacks_are_left_out():
    assert known_signals("SIGTERM", "SIGNONE", "SIGINT") == [signal.SIGTERM, signal.SIGINT]
    with catch_signals("SIGNONE") as stop_signal:
        signal.raise_signal(signal.SIGTERM)
    assert stop_signal.signal_number == signal.SIGTERM


SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


def handlers() -> list:
    return [signal.getsignal(number) for number in SIGNALS]


def test_no_stop_is_requested_at_first():
    with catch_signals() as stop_signal:
        assert stop_signal.signal_number == 0
        assert not stop_signal.stop_requested


@pytest.mark.parametrize("number", SIGNALS)
def test_signal_is_recorded_and_the_process_continues(number):
    with catch_signals() as stop_signal:
        signal.raise_signal(number)
        assert stop_signal.signal_number == number
        assert stop_signal.stop_requested


def test_former_handlers_are_restored_after_a_stop_signal():
    before = handlers()

    with catch_signals():
        assert handlers() != before
        signal.raise_signal(signal.SIGTERM)

    assert handlers() == before


@pytest.mark.parametrize("number", SIGNALS)
def test_second_signal_ends_the_process_at_once(number):
    program = (
        "import signal\n"
        "from alexnet_cli.io.signals import catch_signals\n"
        "with catch_signals():\n"
        f"    signal.raise_signal({int(number)})\n"
        "    print('on', flush=True)\n"
        f"    signal.raise_signal({int(number)})\n"
        "    print('still on', flush=True)\n"
    )

    finished = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )

    assert finished.stdout == "on\n"
    assert finished.returncode == -number


def test_ignored_hangup_stays_ignored_as_under_nohup():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with catch_signals() as stop_signal:
            signal.raise_signal(signal.SIGHUP)
            assert stop_signal.signal_number == 0
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", SIGNALS)
def test_repeated_signal_calls_again(number):
    seen = []
    with catch_signals(again=seen.append) as stop_signal:
        signal.raise_signal(number)
        assert seen == []
        signal.raise_signal(number)
        signal.raise_signal(number)

    assert seen == [number, number]
    assert stop_signal.signal_number == number


def test_different_second_signal_is_no_repeat():
    seen = []
    with catch_signals(again=seen.append) as stop_signal:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)

    assert seen == []
    assert stop_signal.signal_number == signal.SIGTERM


def test_repeated_signal_can_be_ignored():
    with catch_signals(again=leave) as stop_signal:
        for _ in range(3):
            signal.raise_signal(signal.SIGTERM)

    assert stop_signal.signal_number == signal.SIGTERM
