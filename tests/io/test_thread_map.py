"""A function over items by several threads: all results, or the first error cancels the rest."""

import subprocess
import sys
import threading
from contextlib import suppress

import pytest

from alexnet_cli.errors import Stopped
from alexnet_cli.io import thread_map as thread_map_module
from alexnet_cli.io.thread_map import check_canceled, thread_map


def wait_until_canceled() -> None:
    with suppress(InterruptedError):
        while True:
            check_canceled()


def stop_at_first_result(function, num_tasks: int) -> None:
    for _ in thread_map(function, range(num_tasks), 2):
        raise Stopped("stopped", 15)


@pytest.mark.parametrize("num_threads", [1, 3, 200])
def test_results_come_in_the_order_of_the_items(num_threads):
    assert list(thread_map(lambda n: n * n, range(100), num_threads)) == [n * n for n in range(100)]


def test_results_come_as_they_are_completed():
    last_is_taken = threading.Event()

    def wait_if_first(number):
        assert number or last_is_taken.wait(10)
        return number

    found = []
    for number in thread_map(wait_if_first, range(4), 2, ordered=False):
        found.append(number)
        if len(found) == 3:
            last_is_taken.set()
    assert sorted(found[:3]) == [1, 2, 3]
    assert found[3] == 0


def test_no_items_give_no_results():
    assert list(thread_map(pytest.fail, [], 8)) == []


def test_several_tasks_run_at_a_time():
    together = threading.Barrier(8)
    list(thread_map(lambda _: together.wait(10), range(8), 8))


@pytest.mark.parametrize("ordered", [True, False])
def test_first_error_cancels_the_other_tasks(ordered):
    begun, ended = [], []

    def work(item):
        begun.append(item)
        if item == 3:
            raise OSError("no more")
        wait_until_canceled()
        ended.append(item)

    with pytest.raises(OSError, match="no more"):
        list(thread_map(work, range(1000), 4, ordered=ordered))
    assert sorted(ended) == sorted(set(begun) - {3})
    assert len(begun) <= 5


def test_exception_in_the_loop_cancels_the_other_tasks():
    begun = []

    def work(item):
        begun.append(item)
        if item:
            wait_until_canceled()

    with pytest.raises(Stopped):
        stop_at_first_result(work, 1000)
    assert not [t for t in threading.enumerate() if t.name.endswith("(run)")]
    assert len(begun) <= 3


def test_nothing_is_canceled_outside_of_a_task():
    check_canceled()


def test_thread_that_does_not_end_is_abandoned(monkeypatch):
    monkeypatch.setattr(thread_map_module, "STOP_SECONDS", 0.01)
    hung = threading.Event()
    try:
        with pytest.raises(Stopped):
            stop_at_first_result(lambda item: item and hung.wait(30), 2)
    finally:
        hung.set()


def test_hung_thread_does_not_keep_the_process():
    code = (
        "import threading\n"
        "from alexnet_cli.io import thread_map as module\n"
        "module.STOP_SECONDS = 0.01\n"
        "for _ in module.thread_map(lambda item: item and threading.Event().wait(), [0, 1], 2):\n"
        "    raise SystemExit(7)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 7


@pytest.mark.parametrize("allowed", [0, 2])
def test_fewer_threads_suffice(monkeypatch, allowed):
    start, started = threading.Thread.start, []

    def start_few(thread):
        if len(started) == allowed:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_few)
    assert list(thread_map(lambda n: -n, range(20), 8)) == [-n for n in range(20)]
    assert len(started) == allowed
