"""Several things at a time, by threads that a silent server cannot make anybody wait for."""

import time
from collections.abc import Callable, Iterable
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import Any

NUM_THREADS = 8
STOP_SECONDS = 1.0  # that threads have to let go of what they are at
_DONE = object()

Tell = Callable[[Any], None]


class _Fault:
    def __init__(self, error: BaseException):
        self.error = error


def at_once(items: Iterable, work: Callable[[Any, Tell, Event], None], heed: Tell) -> None:
    """Do `work(item, tell, stopping)` for every item; what it tells is heeded in this thread.

    The first fault, also one of `heed` or a signal's, ends all: `stopping` is set, and threads that
    do not end soon are left behind. They end with the process at the latest.
    """
    waiting, events, stopping = SimpleQueue(), SimpleQueue(), Event()
    for item in items:
        waiting.put(item)
    left = waiting.qsize()

    def run() -> None:
        while not stopping.is_set():
            try:
                item = waiting.get_nowait()
            except Empty:
                return
            try:
                work(item, events.put, stopping)
                events.put(_DONE)
            except BaseException as error:
                events.put(_Fault(error))

    threads = [Thread(target=run, daemon=True) for _ in range(min(NUM_THREADS, left))]
    try:
        for thread in threads:
            thread.start()
        while left:
            event = events.get()
            if isinstance(event, _Fault):
                raise event.error
            if event is _DONE:
                left -= 1
            else:
                heed(event)
    finally:
        stopping.set()
        deadline = time.monotonic() + STOP_SECONDS
        for thread in threads:
            if thread.ident:  # it was started
                thread.join(max(0.0, deadline - time.monotonic()))
