import errno
import os
import resource
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from alexnet_cli.data.shards.dataset import open_dataset, shard_faults
from alexnet_cli.data.shards.images import ShardImages
from alexnet_cli.data.shards.index import read_index
from alexnet_cli.errors import MachineError
from alexnet_cli.io.disk import advice_on


def images_of(folder: Path) -> ShardImages:
    return ShardImages("train", folder, read_index(folder).splits["train"].shards)


def faults(folder: Path, dataset: Path) -> list[str]:
    split = open_dataset(dataset).split("train")
    return shard_faults(folder, "train", split.shards, split.samples)


def num_open() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_bytes_are_those_of_the_file(dataset):
    content = (dataset / "train-000002.tar").read_bytes()
    images = images_of(dataset)
    for offset, length in ((0, 10), (512, 2000), (len(content) - 5, 5)):
        assert images.read(2, offset, length) == content[offset : offset + length]


def test_few_files_stay_open_and_all_are_closed_at_the_end(dataset, monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (4, 4))
    before = num_open()
    images = images_of(dataset)
    for shard in (0, 1, 2, 1, 0, 2):
        images.read(shard, 0, 512)
        assert num_open() <= before + 2
    del images
    assert num_open() == before


@pytest.mark.parametrize(
    ("limit", "most", "allowed"), [(4, 64, 6), (4, 5, 5), (9, 9, 9), (4, -1, 6)]
)
def test_limit_of_open_files_is_raised_for_the_shards_there_are(
    dataset, monkeypatch, limit, most, allowed
):
    limits = [limit]
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limits[-1], most))
    monkeypatch.setattr(resource, "setrlimit", lambda _, pair: limits.append(pair[0]))
    images = images_of(dataset)
    assert limits[-1] == allowed
    before = num_open()
    for shard in (0, 1, 2, 1, 0):
        images.read(shard, 0, 512)
    assert num_open() == before + min(3, allowed // 2)


def test_limit_of_open_files_that_cannot_be_raised_is_respected(dataset, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(resource, "getrlimit", lambda _: (4, 64))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    images, before = images_of(dataset), num_open()
    for shard in (0, 1, 2):
        images.read(shard, 0, 512)
    assert num_open() == before + 2


def test_threads_can_share_a_reader_of_few_open_files(dataset, monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (2, 2))
    images = images_of(dataset)
    contents = [path.read_bytes() for path in images.paths]

    def read(number: int) -> bool:
        return images.read(number % 3, number, 900) == contents[number % 3][number : number + 900]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(600)))


def test_truncated_file_raises_a_machine_error(copy):
    images = images_of(copy)
    images.read(1, 0, 512)
    os.truncate(copy / "train-000001.tar", 600)
    with pytest.raises(MachineError, match=r"train-000001.tar: ends before byte 1412; it was long"):
        images.read(1, 512, 900)


def test_disk_error_names_the_file_with_a_hint(copy, monkeypatch):
    def fail(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    images = images_of(copy)
    monkeypatch.setattr(os, "pread", fail)
    with pytest.raises(MachineError, match=r"train-000000.tar: Input/output error.") as error:
        images.read(0, 0, 512)
    assert error.value.hint == advice_on(error.value.__cause__)


def test_file_removed_before_it_is_opened_is_named(copy):
    images = images_of(copy)
    (copy / "train-000000.tar").unlink()
    with pytest.raises(MachineError, match=r"train-000000.tar: No such file"):
        images.read(0, 0, 512)


def test_modified_and_missing_files_have_changed(copy):
    images = images_of(copy)
    for shard in range(3):
        images.read(shard, 0, 512)
    os.utime(copy / "train-000000.tar", ns=(0, 0))
    (copy / "train-000001.tar").unlink()
    assert [images.has_changed(shard) for shard in range(3)] == [True, True, False]


def test_intact_shards_have_no_faults(dataset):
    assert faults(dataset, dataset) == []


def test_every_missing_and_extra_shard_is_named(copy, dataset):
    (copy / "train-000000.tar").unlink()
    (copy / "train-000001.tar").rename(copy / "train-000007.tar")
    found = faults(copy, dataset)
    assert [fault.partition(",")[0] for fault in found] == [
        "train-000000.tar: missing",
        "train-000001.tar: missing",
        "train-000007.tar: index.json does not know it",
    ]


def test_swapped_shards_of_the_same_size_are_found_by_their_first_sample(copy, dataset):
    one, other = copy / "train-000000.tar", copy / "train-000001.tar"
    size = max(one.stat().st_size, other.stat().st_size)
    split = open_dataset(dataset).split("train")
    for path in (one, other):
        os.truncate(path, size)
    one.rename(copy / "x")
    other.rename(one)
    (copy / "x").rename(other)
    shards = [replace(shard, num_bytes=size) for shard in split.shards[:2]]
    assert shard_faults(copy, "train", [*shards, split.shards[2]], split.samples) == [
        "train-000000.tar: begins with 'train-00000025.jpg', not train-00000000.jpg",
        "train-000001.tar: begins with 'train-00000000.jpg', not train-00000025.jpg",
    ]
