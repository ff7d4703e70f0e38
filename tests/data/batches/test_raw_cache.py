"""Decoded images are those of the shards, or refused."""

import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

from alexnet_cli.data.batches.loader import epoch_order, load_batches
from alexnet_cli.data.batches.raw_cache import with_raw_cache
from alexnet_cli.data.batches.readers import ProcessReader
from alexnet_cli.data.shards.dataset import Dataset, open_dataset
from alexnet_cli.errors import DatasetError, MachineError, UsageError
from tests.helpers import Listener, flip

IMAGE_BYTES = 112 * 112 * 3


@pytest.fixture(scope="module")
def built(dataset, tmp_path_factory) -> Path:
    """A dataset whose training images are cached. Read only."""
    folder = Path(shutil.copytree(dataset, tmp_path_factory.mktemp("raw") / "built"))
    with_raw_cache(open_dataset(folder), ("train",))
    return folder


@pytest.fixture
def cached(built, tmp_path) -> Path:
    """`built`, to be damaged."""
    return Path(shutil.copytree(built, tmp_path / "cached"))


def raw_file(folder: Path) -> Path:
    (path,) = folder.glob("train-*.raw")
    return path


def load(dataset: Dataset, **options) -> list:
    split = dataset.split("train")
    return list(load_batches(split, epoch_order(60, 1, 1), 7, **options))


def assert_same(found: list, expected: list) -> None:
    for mine, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mine.images, other.images)
        np.testing.assert_array_equal(mine.labels, other.labels)
        np.testing.assert_array_equal(mine.positions, other.positions)


def test_batches_are_bitwise_those_of_the_jpegs(built):
    plain = open_dataset(built)
    raw = with_raw_cache(plain, ("train", "val", "test"))
    assert raw.split("train").raw
    assert_same(load(raw, num_threads=3), load(plain))
    with ProcessReader(raw.split("train"), 2) as reader:
        assert_same(load(raw, reader=reader), load(plain))


def test_file_has_the_size_that_is_documented(built):
    assert raw_file(built).stat().st_size == 60 * (IMAGE_BYTES + 4) + 32
    assert pytest.approx(251.9e9, rel=1e-3) == 1_281_167 * (256 * 256 * 3 + 4) + 32


def test_shards_are_not_read_again(cached):
    dataset = open_dataset(cached)
    expected = load(dataset)
    raw = with_raw_cache(dataset, ("train",))
    for shard in cached.glob("train-*.tar"):
        shard.write_bytes(b"")
    assert_same(load(raw), expected)


@pytest.mark.parametrize("position", [0, 31, 59])
def test_damaged_image_is_named_with_the_command_that_removes_the_cache(cached, position):
    path = raw_file(cached)
    flip(path, position * IMAGE_BYTES + 100)
    raw = with_raw_cache(open_dataset(cached), ("train",))
    with pytest.raises(DatasetError, match=f"image {position} is damaged") as found:
        load(raw)
    assert found.value.hint.endswith(f"rm {path}")
    path.unlink()
    assert_same(load(with_raw_cache(open_dataset(cached), ("train",))), load(open_dataset(cached)))


def test_file_cut_while_it_is_read_is_refused(cached):
    raw = with_raw_cache(open_dataset(cached), ("train",))
    with raw_file(cached).open("r+b") as file:
        file.truncate(IMAGE_BYTES * 10 + 5)
    with pytest.raises(DatasetError, match=r"\.raw: image \d+ is damaged"):
        load(raw)


@pytest.mark.parametrize("place", [-1, -32, -33, -200])
def test_cache_with_damaged_checksums_is_reported_and_built_again(cached, place):
    path, listener = raw_file(cached), Listener()
    content = path.read_bytes()
    flip(path, len(content) + place)
    with_raw_cache(open_dataset(cached), ("train",), listener)
    assert path.read_bytes() == content
    assert any("damaged; it is built again" in line for line in listener.lines)


def test_cache_of_other_images_is_reported_and_removed(cached):
    stale = cached / "train-0123456789abcdef.raw"
    raw_file(cached).rename(stale)
    listener = Listener()
    with_raw_cache(open_dataset(cached), ("train",), listener)
    assert raw_file(cached) != stale
    assert any(f"{stale}: made from other images" in line for line in listener.lines)


def test_intact_cache_is_neither_reported_nor_changed(built):
    listener = Listener()
    before = raw_file(built).stat().st_mtime_ns
    with_raw_cache(open_dataset(built), ("train",), listener)
    assert not listener.lines
    assert raw_file(built).stat().st_mtime_ns == before


def test_disk_without_room_is_refused_with_the_size(copy, monkeypatch):
    usage = namedtuple("usage", "total used free")(10**9, 10**9, 10**6)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: usage)
    with pytest.raises(MachineError, match=r"decoded images need 2\.3 MB, 1\.0 MB are free"):
        with_raw_cache(open_dataset(copy), ("train",))
    assert not list(copy.glob("train-*.raw*"))


def test_damaged_sample_leaves_nothing_incomplete(copy):
    split = open_dataset(copy).split("train")
    flip(copy / "train-000002.tar", int(split.samples["offset"][55]) + 300)
    with pytest.raises(DatasetError, match="sample train-00000055"):
        with_raw_cache(open_dataset(copy), ("train",))
    assert not list(copy.glob("train-*.raw*"))


def test_read_only_dataset_is_cached_in_the_cache_folder(copy, tmp_path, monkeypatch):
    monkeypatch.setenv("ALEXNET_CACHE", str(tmp_path / "elsewhere"))
    monkeypatch.setattr("os.access", lambda path, mode: False)
    raw = with_raw_cache(open_dataset(copy), ("train",))
    assert raw_file(tmp_path / "elsewhere" / "raw").is_file()
    assert not list(copy.glob("train-*.raw"))
    assert_same(load(raw), load(open_dataset(copy)))


def test_streamed_tars_are_refused(built):
    streamed = Dataset(built, (), {}, 112, "", "train.tar", streamed=True)
    with pytest.raises(UsageError, match="streamed"):
        with_raw_cache(streamed, ("train",))


BUILD = """
import sys
from pathlib import Path
from alexnet_cli.data.batches.raw_cache import with_raw_cache
from alexnet_cli.data.shards.dataset import open_dataset
class Progress:
    from alexnet_cli.io.progress import SILENT
    def say(self, line): pass
    def track(self, what, total):
        print("built", flush=True)
        return self.SILENT.track(what, total)
with_raw_cache(open_dataset(Path(sys.argv[1])), ("train",), Progress())
"""


@pytest.mark.timeout(60)
def test_only_one_of_several_processes_builds(copy):
    command = [sys.executable, "-c", BUILD, str(copy)]
    builders = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(3)]
    said = [builder.communicate()[0] for builder in builders]
    assert [builder.returncode for builder in builders] == [0, 0, 0]
    assert sorted(said) == [b"", b"", b"built\n"]
    assert len(list(copy.glob("train-*.raw*"))) == 1


def test_prep_and_verify_leave_the_cache_alone(cached, release, alexnet):
    before = raw_file(cached).read_bytes()
    for arguments in (
        ("verify", cached, "--deep"),
        ("prep", release, cached, "--size", 112, "--shard-size", 25),
    ):
        result = alexnet(*arguments)
        assert result.exit_code == 0, result.output
    assert raw_file(cached).read_bytes() == before
