"""Folders, URLs and tars open as the same thing: a dataset with classes, splits and a name."""

import shutil
from pathlib import Path

import fsspec
import numpy as np
import pytest

from alexnet_cli.cli.hints import message
from alexnet_cli.data.batches.loader import batches_of
from alexnet_cli.data.dataset_ref import DatasetRef
from alexnet_cli.data.pixel_stats import FILE_NAME, load_pixel_stats
from alexnet_cli.data.remote.tar_set import TarSet
from alexnet_cli.data.shards.dataset import open_dataset, samples_name
from alexnet_cli.data.shards.index import INDEX_NAME, read_index
from alexnet_cli.errors import DatasetError, InputError, MachineError


def assert_same(remote, local) -> None:
    assert remote.fingerprint == local.fingerprint
    assert remote.classes == local.classes
    for name in local.splits:
        order = {"shuffle": (1, 2)} if name == "train" else {}
        pair = (batches_of(dataset.split(name), 7, **order) for dataset in (remote, local))
        for mine, theirs in zip(*pair, strict=True):
            assert (mine.images == theirs.images).all()
            assert (mine.positions == theirs.positions).all()


def test_folder_keeps_its_path_and_name(dataset):
    found = DatasetRef.parse(dataset).open(("train",))
    assert (found.folder, found.name) == (dataset, str(dataset))


@pytest.mark.parametrize("fetch_now", [True, False])
def test_dataset_at_a_url_is_the_folder(web, dataset, fetch_now):
    server = web(dataset)
    found = DatasetRef.parse(server.url).open(("train", "val"), fetch_now=fetch_now)
    assert found.name == server.url
    assert sum(name.endswith(".tar") for name in server.asked) == (5 if fetch_now else 0)
    assert_same(found, open_dataset(dataset))
    assert len(server.asked) == len(set(server.asked))
    assert found.load_pixel_stats().fingerprint == found.fingerprint


def test_dataset_at_a_file_or_memory_url_is_the_folder(dataset, cache):
    memory = fsspec.filesystem("memory")
    for path in dataset.iterdir():
        memory.pipe_file(f"/tiny/{path.name}", path.read_bytes())
    for url in (f"file://{dataset}", "memory://tiny"):
        assert_same(DatasetRef.parse(url).open(("train", "val")), open_dataset(dataset))


def test_index_of_a_url_is_read_with_one_request(web, dataset, tmp_path):
    server = web(dataset)

    for place in (server.url, dataset):
        assert DatasetRef.parse(place).read_index() == read_index(dataset)

    assert server.asked == [INDEX_NAME]
    with pytest.raises(DatasetError, match=INDEX_NAME):
        DatasetRef.parse(web(tmp_path).url).read_index()


def test_only_splits_that_are_read_are_reported(web, dataset, said):
    DatasetRef.parse(web(dataset).url).open(("val",), progress=said)
    assert "2 of 2 shards" in said.lines[0]


def test_error_while_a_shard_is_fetched_names_the_shard(web, dataset):
    server = web(dataset)
    found = DatasetRef.parse(server.url).open(("val",))
    name = found.split("val").shards[1].name
    server.faults[name] = [500] * 30
    with pytest.raises(MachineError, match=name):
        list(batches_of(found.split("val"), 7))


def test_sample_index_that_differs_from_the_index_is_refused(web, copy):
    path = copy / samples_name("train")
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(DatasetError, match="SHA-256") as error:
        DatasetRef.parse(web(copy).url).open(("train",))
    assert "train.samples.npy" in str(error.value)


def test_sample_index_damaged_in_the_cache_is_fetched_again(web, dataset):
    server = web(dataset)
    folder = DatasetRef.parse(server.url).open(("train",)).folder
    (folder / samples_name("train")).write_bytes(b"damaged")
    assert_same(DatasetRef.parse(server.url).open(("train",)), open_dataset(dataset))


def test_missing_pixel_stats_name_the_url_and_computed_ones_are_kept(web, copy):
    stats = (copy / FILE_NAME).read_bytes()
    (copy / FILE_NAME).unlink()
    server = web(copy)
    found = DatasetRef.parse(server.url).open(("train",))
    with pytest.raises(DatasetError, match="is missing") as error:
        found.load_pixel_stats()
    assert error.value.hint == f"Make it: alexnet pca {server.url}"
    (found.folder / FILE_NAME).write_bytes(stats)
    assert DatasetRef.parse(server.url).open(("train",)).load_pixel_stats().num_images == 60


# --- tars


def test_tars_are_streamed_only_on_request(tars, cache):
    for location in (tars, tars / "a-{0..3}.tar", "https://host/a-{0..3}.tar"):
        with pytest.raises(DatasetError, match="tars without an index") as error:
            DatasetRef.parse(location).open(("train",))
        assert "--stream" in message(error.value)


def test_splits_of_tars_are_read_from_their_names(tars, cache):
    found = DatasetRef(TarSet(str(tars))).open(("train", "val"))
    assert {name: len(split) for name, split in found.splits.items()} == {"train": 19, "val": 5}
    assert found.image_size == 32
    assert [entry.wnid for entry in found.classes] == ["0", "1", "2"]
    assert found.folder.is_relative_to(cache)
    assert found.streamed


def test_dataset_is_the_same_whatever_splits_are_opened(tars, cache):
    found = [
        DatasetRef(TarSet(str(tars))).open(splits) for splits in (("train",), ("train", "val"))
    ]
    found.append(DatasetRef(TarSet(str(tars))).open(("val",)))
    assert len({dataset.fingerprint for dataset in found}) == 1
    assert len({dataset.folder for dataset in found}) == 1


def test_fingerprint_changes_with_any_byte(tars, write_tar, cache):
    before = DatasetRef(TarSet(str(tars))).open(("train",)).fingerprint
    path = tars / "set-val-000000.tar"
    content = bytearray(path.read_bytes())
    content[700] ^= 1  # inside an image
    path.write_bytes(content)
    assert DatasetRef(TarSet(str(tars))).open(("train",)).fingerprint != before


def test_split_that_no_tar_is_named_after_is_refused(tars, cache):
    with pytest.raises(DatasetError, match="It has: train, val"):
        DatasetRef(TarSet(str(tars), _classes(tars))).open(("test",))


def _classes(tars: Path, count: int = 3) -> Path:
    path = tars.parent / "names.txt"
    path.write_text("".join(f"n0000000{label} word {label}\n" for label in range(count)))
    return path


def test_classes_come_from_a_file_with_wnids_and_val_alone_is_read(tars, cache):
    found = DatasetRef(TarSet(str(tars), _classes(tars))).open(("val",))
    assert [entry.wnid for entry in found.classes] == ["n00000000", "n00000001", "n00000002"]
    assert found.classes[1].name == "word 1"
    assert set(found.splits) == {"val"}


def test_names_beside_the_tars_are_used_as_prep_uses_them(tars, cache):
    (tars / "classes.txt").write_text("cat\ndog\nfrog\n")
    found = DatasetRef(TarSet(str(tars))).open(("train",))
    assert [(entry.wnid, entry.name) for entry in found.classes] == [
        ("0", "cat"),
        ("1", "dog"),
        ("2", "frog"),
    ]


@pytest.mark.parametrize("wnids", [True, False])
def test_label_beyond_the_classes_is_refused(tars, cache, wnids):
    path = _classes(tars, 2)
    if not wnids:
        path.write_text("cat\ndog\n")
    with pytest.raises(InputError, match="label 2, but the 2 classes end at 1"):
        DatasetRef(TarSet(str(tars), path)).open(("train",))


def test_image_size_is_given_or_that_of_the_images_or_the_papers(tars, write_tar, encode, cache):
    assert DatasetRef(TarSet(str(tars))).open(("val",), image_size=48).image_size == 48
    write_tar("set-val-000001.tar", [{"__key__": "a", "jpg": encode(1, 40, 41), "cls": 1}])
    assert DatasetRef(TarSet(str(tars))).open(("val",)).image_size == 256


def test_missing_pixel_stats_of_tars_name_the_command(tars, cache):
    found = DatasetRef(TarSet(str(tars))).open(("train",))
    with pytest.raises(DatasetError, match="is missing") as error:
        found.load_pixel_stats()
    assert message(error.value).endswith(f"alexnet pca --stream '{tars}'")


def test_pixel_stats_of_another_dataset_are_refused(tars, dataset, cache):
    found = DatasetRef(TarSet(str(tars))).open(("train",))
    shutil.copy(dataset / FILE_NAME, found.folder)
    with pytest.raises(DatasetError, match="made from dataset"):
        found.load_pixel_stats()
    stats = load_pixel_stats(dataset, open_dataset(dataset).fingerprint)
    assert np.isfinite(stats.mean_image).all()
