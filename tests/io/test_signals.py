"""Handlers that end with their block."""

import signal

import pytest

from alexnet_cli.io.signals import handling, unless_ignored


def test_signals_are_handled_in_the_block_and_as_before_after_it():
    before, came = signal.getsignal(signal.SIGUSR2), []
    with handling([signal.SIGUSR2], lambda number, _: came.append(number)):
        signal.raise_signal(signal.SIGUSR2)

    assert came == [signal.SIGUSR2]
    assert signal.getsignal(signal.SIGUSR2) == before


def test_handlers_are_put_back_after_a_fault():
    before = signal.getsignal(signal.SIGUSR2)
    with pytest.raises(ZeroDivisionError), handling([signal.SIGUSR2], signal.SIG_IGN):
        _ = 1 / 0

    assert signal.getsignal(signal.SIGUSR2) == before


def test_ignored_signal_stays_ignored():
    assert unless_ignored(signal.SIGUSR2) == [signal.SIGUSR2]
    with handling([signal.SIGUSR2], signal.SIG_IGN):
        assert unless_ignored(signal.SIGUSR2) == []
