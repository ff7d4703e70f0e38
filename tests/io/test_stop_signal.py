"""Ctrl-C, SIGTERM and SIGHUP are noted, and the second one ends the process."""

import signal
import subprocess
import sys

import pytest

from alexnet_cli.io.stop_signal import catch_signals, leave

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


def handlers() -> list:
    return [signal.getsignal(number) for number in SIGNALS]


def test_nobody_asked_at_first():
    with catch_signals() as stop_signal:
        assert stop_signal.signal_number == 0


@pytest.mark.parametrize("number", SIGNALS)
def test_signal_is_noted_and_the_work_goes_on(number):
    with catch_signals() as stop_signal:
        signal.raise_signal(number)
        assert stop_signal.signal_number == number


def test_handlers_are_put_back():
    before = handlers()

    with catch_signals():
        assert handlers() != before
        signal.raise_signal(signal.SIGTERM)

    assert handlers() == before


def test_handlers_are_put_back_after_a_fault():
    before = handlers()

    with pytest.raises(ZeroDivisionError), catch_signals():
        raise ZeroDivisionError

    assert handlers() == before


@pytest.mark.parametrize("number", SIGNALS)
def test_second_signal_ends_the_process_at_once(number):
    program = (
        "import signal\n"
        "from alexnet_cli.io.stop_signal import catch_signals\n"
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


def test_hangup_that_is_ignored_stays_so_as_under_nohup():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with catch_signals() as stop_signal:
            signal.raise_signal(signal.SIGHUP)
            assert stop_signal.signal_number == 0
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", SIGNALS)
def test_same_signal_again_does_what_it_is_to_do(number):
    seen = []
    with catch_signals(again=seen.append) as stop_signal:
        signal.raise_signal(number)
        assert seen == []
        signal.raise_signal(number)
        signal.raise_signal(number)

    assert seen == [number, number]
    assert stop_signal.signal_number == number


def test_another_signal_is_not_the_same_again():
    seen = []
    with catch_signals(again=seen.append) as stop_signal:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)

    assert seen == []
    assert stop_signal.signal_number == signal.SIGTERM


def test_signal_that_was_passed_on_twice_can_be_left_alone():
    with catch_signals(again=leave) as stop_signal:
        for _ in range(3):
            signal.raise_signal(signal.SIGTERM)

    assert stop_signal.signal_number == signal.SIGTERM
