"""Runs tasks in daemon threads so that a hung server cannot block shutdown."""

import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from queue import SimpleQueue
from typing import Any

STOP_SECONDS = 1.0  # given to the tasks that run when the others are canceled
_thread = threading.local()


def check_canceled() -> None:
    """Raise InterruptedError in a task of a `thread_map` that has ended early."""
    canceled = getattr(_thread, "canceled", None)
    if canceled and canceled.is_set():
        raise InterruptedError


def thread_map(
    function: Callable[[Any], Any], items: Iterable, num_threads: int, *, ordered: bool = True
) -> Iterator[Any]:
    """Yield `function(item)` for every item, computed by several threads.

    The first error of any task cancels the other tasks and is raised at once. So does closing the
    generator, which happens when an exception ends the loop over it. Threads whose task neither
    ends nor calls `check_canceled` within `STOP_SECONDS` are abandoned; they end with the process.

    Args:
        num_threads: maximum number; fewer run where the system allows no more threads.
        ordered: yield in the order of the items, otherwise as tasks are completed.
    """
    items = list(items)
    numbers = itertools.count()
    results: SimpleQueue = SimpleQueue()
    canceled = threading.Event()

    def run() -> None:
        _thread.canceled = canceled
        while not canceled.is_set() and (number := next(numbers)) < len(items):
            try:
                results.put((number, function(items[number]), None))
            except BaseException as error:  # raised in the thread that iterates
                results.put((number, None, error))

    threads = []
    finished: dict[int, Any] = {}
    try:
        with suppress(RuntimeError):  # the limit of processes and threads is reached
            for _ in range(min(num_threads, len(items))):
                thread = threading.Thread(target=run, daemon=True)
                thread.start()
                threads.append(thread)
        if not threads:
            yield from map(function, items)
            return
        for next_number in range(len(items)):
            while not finished or (ordered and next_number not in finished):
                number, result, error = results.get()
                if error is not None:
                    raise error
                finished[number] = result
            yield finished.pop(next_number) if ordered else finished.popitem()[1]
    finally:
        canceled.set()
        deadline = time.monotonic() + STOP_SECONDS
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
