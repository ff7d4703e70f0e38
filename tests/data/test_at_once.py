"""Threads that share a list of things to do: all is done, or the first fault ends it."""

import threading

import pytest

from alexnet_cli.data import at_once as at_once_module
from alexnet_cli.data.at_once import at_once
from alexnet_cli.errors import Stopped


def test_everything_is_done_and_heeded_in_this_thread():
    told = []

    def heed(number: int) -> None:
        assert threading.current_thread() is threading.main_thread()
        told.append(number)

    at_once(range(100), lambda item, tell, _: (tell(item), tell(-item)), heed)
    assert sorted(told) == sorted([*range(100), *(-item for item in range(100))])


def test_nothing_to_do_is_done_at_once():
    at_once([], pytest.fail, pytest.fail)


def test_several_are_done_at_a_time():
    together = threading.Barrier(at_once_module.NUM_THREADS)
    at_once(range(at_once_module.NUM_THREADS), lambda *_: together.wait(10), pytest.fail)


def test_first_fault_ends_the_others(monkeypatch):
    begun, ended = [], []

    def work(item, tell, stopping):
        begun.append(item)
        if item == 0:
            raise OSError("no more")
        stopping.wait(10)
        ended.append(item)

    with pytest.raises(OSError, match="no more"):
        at_once(range(1000), work, pytest.fail)
    assert sorted(ended) == sorted(set(begun) - {0})
    assert len(begun) <= at_once_module.NUM_THREADS + 1


def test_thread_that_does_not_end_is_left_behind(monkeypatch):
    monkeypatch.setattr(at_once_module, "STOP_SECONDS", 0.01)
    silent = threading.Event()

    def stop(_):
        raise Stopped("stopped", 15)

    try:
        with pytest.raises(Stopped):
            at_once([1], lambda item, tell, _: (tell(item), silent.wait(30)), stop)
    finally:
        silent.set()
