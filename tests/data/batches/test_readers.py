"""Processes read the same batches as threads, and the same faults."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from alexnet_cli.data.batches.loader import epoch_order, load_batches
from alexnet_cli.data.batches.readers import ProcessReader
from alexnet_cli.data.shards.dataset import Split, open_dataset
from alexnet_cli.errors import DatasetError, MachineError
from alexnet_cli.types import BatchShard


@pytest.fixture(scope="module")
def train(dataset) -> Split:
    return open_dataset(dataset).split("train")


@pytest.fixture(scope="module")
def reader(train):
    with ProcessReader(train, 2) as reader:
        yield reader


@pytest.mark.parametrize("batch_size", [1, 7, 40, 60, 100])
@pytest.mark.parametrize("share", [BatchShard(), BatchShard(1, 3)])
def test_batches_are_those_of_threads(train, reader, batch_size, share):
    order = epoch_order(len(train), seed=3, epoch=batch_size)
    ours = load_batches(train, order, batch_size, share=share, reader=reader)
    theirs = load_batches(train, order, batch_size, share=share, num_threads=1)
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(mine.images, other.images)
        np.testing.assert_array_equal(mine.labels, other.labels)
        np.testing.assert_array_equal(mine.positions, other.positions)


def test_reader_works_after_an_epoch_that_was_left_early(train, reader):
    order = np.resize(epoch_order(len(train), 0, 0), 600)
    expected = [b.images.copy() for b in load_batches(train, order[:60], 20, num_threads=1)]
    for _ in range(5):
        left = load_batches(train, order, 20, reader=reader)
        next(left)
        left.close()
        found = list(load_batches(train, order[:60], 20, reader=reader))
        for batch, images in zip(found, expected, strict=True):
            np.testing.assert_array_equal(batch.images, images)


def damage(folder, position: int) -> Split:
    split = open_dataset(folder).split("train")
    shard, offset, length = split.samples[position].item()[:3]
    with (folder / split.shards[shard].name).open("r+b") as file:
        file.seek(offset + length - 3)
        file.write(b"\0\0\0")
    return open_dataset(folder).split("train")


def test_processes_raise_the_errors_of_threads_in_order(copy):
    damage(copy, 57)
    split = damage(copy, 33)
    with pytest.raises(DatasetError) as expected:
        list(load_batches(split, np.arange(60), 60, num_threads=1))
    with ProcessReader(split, 2) as reader:
        batches = load_batches(split, np.arange(60), 10, reader=reader)
        assert [next(batches).positions[0] for _ in range(3)] == [0, 10, 20]
        with pytest.raises(DatasetError) as found:
            next(batches)
    assert str(found.value) == str(expected.value)
    assert "train-000001.tar: sample train-00000033 is not what prep wrote" in str(found.value)


def test_shard_truncated_while_it_is_read_raises_a_machine_error(copy):
    split = open_dataset(copy).split("train")
    with ProcessReader(split, 2) as reader:
        batches = load_batches(split, np.resize(np.arange(60), 3000), 16, reader=reader)
        next(batches)
        os.truncate(copy / "train-000001.tar", 512)
        with pytest.raises(MachineError, match=r"train-000001.tar: "):
            list(batches)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("number", [0, 1])
def test_process_that_was_killed_is_noticed(train, number):
    before = set(multiprocessing.active_children())
    with ProcessReader(train, 2) as reader:
        batches = load_batches(train, np.resize(np.arange(60), 60_000), 20, reader=reader)
        next(batches)
        mine = sorted(set(multiprocessing.active_children()) - before, key=lambda p: p.name)
        os.kill(mine[number].pid, signal.SIGKILL)
        with pytest.raises(MachineError, match="a process that reads images died of signal 9"):
            list(batches)
    assert not any(process.is_alive() for process in mine)


@pytest.mark.timeout(60)
def test_reading_processes_ignore_signals_to_the_process_group(train):
    before = set(multiprocessing.active_children())
    with ProcessReader(train, 2) as reader:
        assert len(list(load_batches(train, np.arange(60), 20, reader=reader))) == 3
        for process in set(multiprocessing.active_children()) - before:
            for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
                os.kill(process.pid, name)
        assert len(list(load_batches(train, np.arange(60), 20, reader=reader))) == 3


PARENT = """
import sys, os
from pathlib import Path
import numpy as np
from alexnet_cli.data.batches.loader import load_batches
from alexnet_cli.data.batches.readers import ProcessReader
from alexnet_cli.data.shards.dataset import open_dataset
if __name__ == "__main__":
    split = open_dataset(Path(sys.argv[1])).split("train")
    reader = ProcessReader(split, 2)
    next(load_batches(split, np.arange(60), 20, reader=reader))
    print(*[process.pid for process in reader._processes], flush=True)
    os.kill(os.getpid(), 9)
"""


@pytest.mark.timeout(60)
def test_processes_end_with_the_process_that_started_them(dataset, tmp_path):
    (tmp_path / "parent.py").write_text(PARENT)
    command = [sys.executable, tmp_path / "parent.py", dataset]
    pids = [int(word) for word in subprocess.run(command, stdout=subprocess.PIPE).stdout.split()]
    assert len(pids) == 2
    while any(is_running(pid) for pid in pids):  # the time limit ends it
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
