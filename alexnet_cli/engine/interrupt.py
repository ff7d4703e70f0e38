"""Ctrl-C and SIGTERM as a wish the loop fulfils between two steps."""

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
    """Note SIGINT and SIGTERM instead of dying; a second one ends the process at once."""
    interrupt = Interrupt()

    def note(number: int, _frame) -> None:
        interrupt.signal_number = number
        signal.signal(number, signal.SIG_DFL)

    previous = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupt
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
