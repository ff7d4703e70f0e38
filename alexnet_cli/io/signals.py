"""Handlers of signals for as long as a block lasts."""

import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def handling(
    numbers: Iterable[int], handler: Callable[[int, FrameType | None], None]
) -> Iterator[None]:
    """Call `handler` when one of the signals comes; afterwards they are handled as before."""
    previous = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)


def unless_ignored(number: int) -> list[int]:
    """Return the signal in a list, or nothing where it is ignored, as SIGHUP under nohup."""
    return [] if signal.getsignal(number) == signal.SIG_IGN else [number]
