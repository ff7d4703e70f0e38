import threading

import pytest

from alexnet_cli.engine.prep.process_limit import startable_workers


@pytest.fixture
def limit(monkeypatch):
    """Let only so many threads be started."""
    start = threading.Thread.start

    def set_limit(count: int) -> None:
        left = [count]

        def start_one(thread):
            left[0] -= 1
            if left[0] < 0:
                raise RuntimeError("can't start new thread")
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", start_one)

    return set_limit


@pytest.mark.parametrize("wanted", [0, 1, 2, 16])
def test_without_a_limit_all_can_be_started(wanted):
    before = threading.active_count()
    assert startable_workers(wanted) == wanted
    assert threading.active_count() == before


@pytest.mark.parametrize(
    ("threads", "workers"), [(0, 1), (8, 1), (9, 1), (10, 2), (21, 7), (22, 8)]
)
def test_limit_leaves_fewer(limit, threads, workers):
    limit(threads)
    before = threading.active_count()
    assert startable_workers(8) == workers
    assert threading.active_count() == before
