from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from helpers import files_of, flip

from alexnet_cli.data.shards.index import FileRecord, read_index, write_index
from alexnet_cli.errors import DatasetError
from alexnet_cli.io.progress import SILENT
from alexnet_cli.prep.audit import audit_dataset
from alexnet_cli.prep.rebuild import is_index, rebuild_samples, restore_index


def rebuilt(folder: Path) -> list[str]:
    found = audit_dataset(folder, deep=False, num_threads=1, progress=SILENT)
    return rebuild_samples(folder, found)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:300])


DAMAGES = [Path.unlink, partial(flip, place=200), cut]


@pytest.mark.parametrize("damage", DAMAGES, ids=["missing", "edited", "cut"])
@pytest.mark.parametrize("name", ["index.json", ".index.json"])
def test_index_and_copy_bring_each_other_back(copy, dataset, name, damage):
    damage(copy / name)
    assert restore_index(copy) == [name]
    assert files_of(copy) == files_of(dataset)
    assert restore_index(copy) == []


def test_copy_follows_an_index_that_can_be_trusted(copy, other_index):
    (copy / ".index.json").write_bytes(other_index)
    whole = (copy / "index.json").read_bytes()
    assert restore_index(copy) == [".index.json"]
    assert (copy / ".index.json").read_bytes() == (copy / "index.json").read_bytes() == whole


@pytest.fixture
def other_index(dataset) -> bytes:
    """An index that can be trusted, of another dataset."""
    return replace(read_index(dataset), tool="another").to_json().encode()


def test_two_damaged_ones_are_left_as_they_are(copy):
    flip(copy / "index.json", 200)
    cut(copy / ".index.json")
    before = files_of(copy)
    with pytest.raises(DatasetError, match=r"neither index.json nor its copy .* nothing was"):
        restore_index(copy)
    assert files_of(copy) == before


def test_folder_with_neither_is_no_dataset(tmp_path):
    with pytest.raises(DatasetError, match="so no dataset"):
        restore_index(tmp_path)


@pytest.mark.parametrize("damage", DAMAGES, ids=["missing", "edited", "cut"])
def test_sample_indexes_are_made_again_from_the_shards(copy, dataset, damage):
    damage(copy / "train.samples.npy")
    damage(copy / "val.samples.npy")
    assert rebuilt(copy) == ["train.samples.npy", "val.samples.npy"]
    assert files_of(copy) == files_of(dataset)


@pytest.mark.parametrize("place", [3, 5000], ids=["header", "image"])
def test_sample_index_of_a_damaged_shard_waits_for_its_repair(copy, place):
    flip(copy / "train.samples.npy", 200)
    flip(copy / "val.samples.npy", 200)
    flip(copy / "train-000001.tar", place)
    before = (copy / "train.samples.npy").read_bytes()
    assert rebuilt(copy) == ["val.samples.npy"]
    assert (copy / "train.samples.npy").read_bytes() == before


def test_sample_index_that_would_get_other_bytes_is_left_as_it_is(copy, dataset):
    index = read_index(copy)
    files = {**index.files, "train.samples.npy": FileRecord.of(b"others")}
    write_index(copy, replace(index, files=files))
    assert rebuilt(copy) == []
    name = "train.samples.npy"
    assert (copy / name).read_bytes() == (dataset / name).read_bytes()


def test_whole_dataset_needs_nothing(dataset):
    assert rebuilt(dataset) == []


def test_indexes_are_told_from_what_needs_the_source():
    assert all(map(is_index, ["index.json", ".index.json", "val.samples.npy"]))
    assert not any(map(is_index, ["rejected.csv", "train-000000.tar"]))
