"""Ctrl-C, SIGTERM and SIGHUP as a wish the loop fulfils between two steps."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from alexnet_cli.io.signals import handling, unless_ignored


class StopSignal:
    """Which signal asked to stop, if any.

    Attributes:
        signal_number: 0 while nobody asked.
    """

    def __init__(self) -> None:
        self.signal_number = 0


@contextmanager
def catch_signals(*more: int, again: Callable[[int], None] | None = None) -> Iterator[StopSignal]:
    """Note SIGINT, SIGTERM, SIGHUP and `more` instead of dying.

    Args:
        again: what to do when the same comes again; by default it ends the process, at once and
            whatever that is at.
    """
    stop_signal = StopSignal()

    def note(number: int, _frame) -> None:
        is_again = stop_signal.signal_number == number
        stop_signal.signal_number = number
        if again is None:
            signal.signal(number, signal.SIG_DFL)
        elif is_again:
            again(number)

    wanted = [signal.SIGINT, signal.SIGTERM, *more, *unless_ignored(signal.SIGHUP)]
    with handling(wanted, note):
        yield stop_signal


def leave(_number: int) -> None:
    """Leave a repeated signal to whoever started this process, who may only have passed it on."""
