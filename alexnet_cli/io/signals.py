"""Signals: handlers for the length of a block, and a request to stop between two steps."""

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

CAN_PASS_ON = hasattr(os, "setpgid")  # Windows' console signals all its processes itself
SAVE_AND_STOP = "SIGUSR1"  # what schedulers send before the time of a job is over


@contextmanager
def handling(
    numbers: Iterable[int], handler: Callable[[int, FrameType | None], None]
) -> Iterator[None]:
    """Call `handler` when one of the signals arrives; restore the former handlers afterwards.

    In a thread that is not the main one, which alone may set handlers, signals stay as they are.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)


def known_signals(*names: str) -> list[int]:
    """Return the numbers of those signals that this system has."""
    return [getattr(signal, name) for name in names if hasattr(signal, name)]


def unless_ignored(*names: str) -> list[int]:
    """Return the signals that this system has and that are not ignored, as SIGHUP under nohup."""
    return [n for n in known_signals(*names) if signal.getsignal(n) != signal.SIG_IGN]


@contextmanager
def blocked(*names: str) -> Iterator[None]:
    """Block signals in the block and in the processes that it starts, where the system can."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, known_signals(*names))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class StopSignal:
    """The signal that requested a stop, 0 if there was none."""

    def __init__(self) -> None:
        self.signal_number = 0

    @property
    def stop_requested(self) -> bool:
        return self.signal_number != 0


@contextmanager
def catch_signals(*more: str, again: Callable[[int], None] | None = None) -> Iterator[StopSignal]:
    """Record SIGINT, SIGTERM, SIGHUP and others instead of ending the process.

    Args:
        more: names of other signals; those that the system lacks are left out.
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

    wanted = known_signals("SIGINT", "SIGTERM", "SIGBREAK", *more) + unless_ignored("SIGHUP")
    with handling(wanted, note):
        yield stop_signal


def leave(_number: int) -> None:
    """Ignore a repeated signal: the parent process, which may have passed it on, decides."""
