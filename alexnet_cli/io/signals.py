"""Signals: handlers for the length of a block, and a request to stop between two steps."""

import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def handling(
    numbers: Iterable[int], handler: Callable[[int, FrameType | None], None]
) -> Iterator[None]:
    """Call `handler` when one of the signals arrives; restore the former handlers afterwards."""
    previous = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)


def unless_ignored(number: int) -> list[int]:
    """Return the signal in a list, or nothing where it is ignored, as SIGHUP under nohup."""
    return [] if signal.getsignal(number) == signal.SIG_IGN else [number]


class StopSignal:
    """The signal that requested a stop, 0 if there was none."""

    def __init__(self) -> None:
        self.signal_number = 0

    @property
    def stop_requested(self) -> bool:
        return self.signal_number != 0


@contextmanager
def catch_signals(*more: int, again: Callable[[int], None] | None = None) -> Iterator[StopSignal]:
    """Record SIGINT, SIGTERM, SIGHUP and `more` instead of ending the process.

    Args:
        again: called with a signal that arrives a second time. By default a second signal ends
            the process at once.
    """
    stop_signal = StopSignal()

    def note(number: int, _frame: FrameType | None) -> None:
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
    """Ignore a repeated signal: the parent process, which may have passed it on, decides."""
