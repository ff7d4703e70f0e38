"""Shard tasks on worker processes: about 4 s, most of it processes that start."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import pytest
from helpers import refused

from alexnet_cli.data.images.resize import to_jpeg
from alexnet_cli.data.shards.writer import RECORDS, ShardRecord, ShardTask
from alexnet_cli.data.sources.source import SourceImage
from alexnet_cli.errors import MachineError
from alexnet_cli.io.signals import StopSignal
from alexnet_cli.prep.workers import collect, run_tasks


def _tasks(folder: Path, num_shards: int, copies: int = 1) -> list[ShardTask]:
    import numpy as np

    (folder / RECORDS).mkdir(parents=True)
    source = folder.parent / "image.jpg"
    source.write_bytes(to_jpeg(np.full((60, 80, 3), 99, np.uint8)))
    image = SourceImage("image.jpg", source, -1, source.stat().st_size, 0)
    return [
        ShardTask(folder, "train", i, i * copies, (image,) * copies, ("n01",) * copies, 64, 90)
        for i in range(num_shards)
    ]


def test_workers_make_the_same_records_as_this_process(tmp_path):
    alone = list(run_tasks(_tasks(tmp_path / "alone", 4), 1))
    together = list(run_tasks(_tasks(tmp_path / "together", 4), 2))

    together.sort(key=lambda record: record.shard.name)
    assert together == alone


def test_no_tasks_need_no_workers(tmp_path):
    assert list(run_tasks([], 0)) == []


def test_dead_worker_is_reported_and_finished_shards_stay(tmp_path):
    tasks = _tasks(tmp_path / "set", 60, copies=60)
    records = run_tasks(tasks, 2)
    first = next(records)

    with refused(MachineError, r"a prep worker died of signal 9"):
        _kill_workers_while_reading(records)

    assert first.shard.name in {path.name for path in (tmp_path / "set").iterdir()}


@pytest.mark.parametrize("num_workers", [1, 2])
def test_signal_ends_it_early_without_a_trace_of_unfinished_shards(tmp_path, num_workers):
    stop_signal = StopSignal()
    tasks = _tasks(tmp_path / "set", 60, copies=60)
    done = []
    for record in run_tasks(tasks, num_workers, stop_signal):
        done.append(record.shard.name)
        stop_signal.signal_number = signal.SIGTERM

    names = {path.name for path in (tmp_path / "set").iterdir()} - {RECORDS}
    assert set(done) <= names
    assert 1 <= len(names) < 20
    assert names == {p.name.removesuffix(".json") for p in (tmp_path / "set" / RECORDS).iterdir()}


def test_error_of_a_task_ends_the_others(tmp_path):
    tasks = _tasks(tmp_path / "set", 20, copies=60)
    (tmp_path / "set" / "train-000000.tar").mkdir()  # in the way of the first
    with pytest.raises(OSError, match="train-000000"):
        list(run_tasks(tasks, 2))
    assert not list((tmp_path / "set").rglob("*.partial"))


def test_tasks_of_any_executor_are_collected_and_topped_up():
    with ThreadPoolExecutor(2) as pool:
        more = iter([pool.submit(str, number) for number in range(3)])

        def top_up(pending: set[Future]) -> None:
            pending.update(islice(more, 1))

        assert sorted(collect({pool.submit(str, 9)}, StopSignal(), top_up)) == ["0", "1", "2", "9"]


def test_collecting_ends_at_a_signal_with_what_is_pending_left_in_the_set():
    stop_signal, never = StopSignal(), Future()
    stop_signal.signal_number = signal.SIGTERM
    pending = {never}
    assert list(collect(pending, stop_signal)) == []
    assert pending == {never}


def _kill_workers_while_reading(records: Iterator[ShardRecord]) -> None:
    for _ in records:
        _kill_a_worker()


def _kill_a_worker() -> None:
    """Kill the youngest grandchild: this process -> fork server -> worker."""
    workers = [pid for server in _children(os.getpid()) for pid in _children(server)]
    if workers:
        os.kill(max(workers), signal.SIGKILL)
        threading.Event().wait(0.2)


def _children(parent: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and int(_stat(entry)[1]) == parent:
                found.append(int(entry.name))
        except OSError:  # ended meanwhile
            time.sleep(0)
    return found


def _stat(entry: Path) -> list[str]:
    """Return state, parent, ... of a process."""
    return (entry / "stat").read_text().rpartition(")")[2].split()
