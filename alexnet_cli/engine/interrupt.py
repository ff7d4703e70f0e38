"""Ctrl-C, SIGTERM and SIGHUP as a wish the loop fulfils between two steps."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


class Interrupt:
    """Which signal asked to stop, if any.

    Attributes:
        signal_number: 0 while nobody asked.
    """

    def __init__(self) -> None:
        self.signal_number = 0


@contextmanager
def catch_signals() -> Iterator[Interrupt]:
    """Note SIGINT, SIGTERM and SIGHUP instead of dying; the same again ends the process."""
    interrupt = Interrupt()

    def note(number: int, _frame) -> None:
        interrupt.signal_number = number
        signal.signal(number, signal.SIG_DFL)

    wanted = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as under nohup
        wanted.append(signal.SIGHUP)
    previous = {number: signal.signal(number, note) for number in wanted}
    try:
        yield interrupt
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
