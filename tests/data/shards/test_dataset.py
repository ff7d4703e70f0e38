import os
import shutil
import tarfile
import zlib
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from helpers import edit_index, flip
from numpy.lib.recfunctions import repack_fields
from PIL import Image

from alexnet_cli.cli.hints import message
from alexnet_cli.data.shards.dataset import open_dataset, read_samples
from alexnet_cli.data.shards.index import FileRecord, Shard, SplitIndex, read_index
from alexnet_cli.errors import DatasetError, MachineError
from alexnet_cli.prep.build import prep
from alexnet_cli.prep.plan import PrepOptions, PrepRequest


def write_samples(folder: Path, samples: np.ndarray, **options) -> None:
    """Replace the sample index of the training split, and record it in index.json."""
    path = folder / "train.samples.npy"
    np.save(path, samples, **options)
    record = asdict(FileRecord.of(path.read_bytes()))
    edit_index(folder, lambda content: content["files"].update({path.name: record}), sign=True)


def test_splits_have_their_samples(dataset):
    splits = open_dataset(dataset).splits
    assert {name: len(split) for name, split in splits.items()} == {"train": 60, "val": 30}


def test_dataset_has_image_size_and_classes(dataset):
    opened = open_dataset(dataset)
    assert opened.image_size == 112
    assert [entry.wnid for entry in opened.classes] == [f"n{90000001 + i}" for i in range(10)]


@pytest.mark.parametrize("name", ["train", "val"])
def test_samples_are_those_a_plain_tar_reader_finds(dataset, name):
    split = open_dataset(dataset).split(name)
    found = []
    for path in sorted(dataset.glob(f"{name}-*.tar")):
        with tarfile.open(path) as tar:
            contents = {member.name: tar.extractfile(member).read() for member in tar}
        for key in sorted({member.split(".")[0] for member in contents}):
            found.append((key, contents[f"{key}.jpg"], int(contents[f"{key}.cls"])))
    assert split.labels.dtype == np.int64
    labels = split.labels.tolist()
    ours = [(k, bytes(split.jpeg(i)), labels[i]) for i, k in enumerate(split.keys())]
    assert ours == found


def test_where_names_shard_and_key(dataset):
    split = open_dataset(dataset).split("val")
    where = split.jpegs.where(split.samples[26].item())
    assert where == f"{dataset / 'val-000001.tar'}: sample val-00000026"


def test_folder_without_an_index_is_refused_with_the_command(tmp_path):
    with pytest.raises(DatasetError, match=r"no index\.json") as error:
        open_dataset(tmp_path)
    assert error.value.hint == f"Make one: alexnet prep SOURCE {tmp_path}"


def test_missing_shard_is_named_with_the_command(copy):
    (copy / "train-000001.tar").unlink()
    expected = r"train-000001.tar: missing, index.json says \d+"
    with pytest.raises(DatasetError, match=expected) as error:
        open_dataset(copy)
    assert message(error.value).endswith(f"alexnet verify {copy} --repair SOURCE")
    assert message(error.value).count("\n") < 3


@pytest.mark.parametrize("change", [-512, +512])
def test_shard_of_another_size_is_named_with_both_sizes(copy, change):
    path = copy / "val-000000.tar"
    size = path.stat().st_size
    os.truncate(path, size + change)
    expected = rf"val-000000.tar: {size + change} bytes, index.json says {size}"
    with pytest.raises(DatasetError, match=expected):
        open_dataset(copy)


def test_missing_sample_index_is_named(copy):
    (copy / "val.samples.npy").unlink()
    with pytest.raises(DatasetError, match=r"val.samples.npy: damaged or missing"):
        open_dataset(copy)


@pytest.mark.parametrize("share", [0.0, 0.03, 0.5, 0.99])
def test_sample_index_cut_short_is_refused(copy, share):
    path = copy / "train.samples.npy"
    os.truncate(path, int(share * path.stat().st_size))
    with pytest.raises(DatasetError, match=r"train.samples.npy"):
        open_dataset(copy)


def test_sample_index_with_a_damaged_header_is_refused(copy):
    path = copy / "train.samples.npy"
    whole = path.read_bytes()
    expected = open_dataset(copy).split("train").samples
    for position in range(whole.index(b"\n")):
        for value in (0, 255, whole[position] ^ 2):
            path.write_bytes(whole[:position] + bytes([value]) + whole[position + 1 :])
            with suppress(DatasetError):
                np.testing.assert_array_equal(open_dataset(copy).split("train").samples, expected)


def test_sample_index_has_the_checksum_of_every_jpeg(dataset):
    split = open_dataset(dataset).split("val")
    found = [zlib.crc32(split.jpeg(i)) for i in range(len(split))]
    assert split.samples["crc32"].tolist() == found


@pytest.mark.parametrize("place", [0.0, 0.1, 0.5, 0.999])
def test_changed_sample_index_is_refused_with_the_command(copy, place):
    path = copy / "train.samples.npy"
    flip(path, int(place * path.stat().st_size))
    with pytest.raises(DatasetError, match=r"train.samples.npy: changed since") as error:
        open_dataset(copy)
    assert message(error.value).endswith(f"alexnet verify {copy} --rebuild")


def test_image_with_a_changed_bit_is_refused(copy):
    split = open_dataset(copy).split("train")
    shard, offset, length = split.samples[30].item()[:3]
    flip(copy / split.shards[shard].name, offset + length // 2)
    with pytest.raises(DatasetError, match=r"train-00000030 is not what prep wrote") as error:
        split.jpeg(30)
    assert message(error.value).endswith(f"alexnet verify {copy} --repair SOURCE")
    assert len(split.jpeg(31)) == split.samples["length"][31]


def test_shard_changed_while_in_use_raises_a_machine_error(copy):
    split = open_dataset(copy).split("train")
    path = copy / "train-000001.tar"
    split.jpeg(30)
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(MachineError, match=r"train-000001.tar.*changed after it was first read"):
        split.jpeg(30)
    path.write_bytes(b"")
    with pytest.raises(MachineError, match=r"train-000001.tar: ends before byte"):
        split.jpeg(30)


def test_faults_of_all_shards_are_in_one_message(copy):
    for name in ("train-000000", "train-000001", "train-000002", "val-000000"):
        (copy / f"{name}.tar").unlink()
    shutil.copy(copy / "val-000001.tar", copy / "val-000002.tar")
    with pytest.raises(DatasetError, match=r"train-000000.*train-000002.*; 2 more\.$"):
        open_dataset(copy)


def test_unrelated_tars_are_ignored(copy):
    (copy / "photos.tar").write_bytes(b"mine")
    assert len(open_dataset(copy).split("val")) == 30


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("shard", 9), ("shard", 1), ("offset", 1 << 40), ("length", 1 << 30), ("offset", 0),
        ("offset", (1 << 64) - 1000), ("label", 10), ("label", 1_000_000_000),
    ],
)  # fmt: skip
def test_sample_index_that_points_outside_its_shard_is_refused(copy, column, value):
    samples = np.load(copy / "train.samples.npy")
    samples[column][3] = value
    write_samples(copy, samples)
    with pytest.raises(DatasetError, match=r"train.samples.npy: its rows do not fit"):
        open_dataset(copy)


def test_empty_split_opens_but_cannot_be_selected(tmp_path):
    for wnid in ("ant", "bee"):
        (tmp_path / "in" / wnid).mkdir(parents=True)
        Image.new("RGB", (40, 40)).save(tmp_path / "in" / wnid / "1.png")
    prep(PrepRequest(tmp_path / "in", tmp_path / "out", PrepOptions(size=32), workers=1))
    opened = open_dataset(tmp_path / "out")
    assert len(opened.splits["val"]) == 0
    with pytest.raises(DatasetError, match="It has: train"):
        opened.split("val")


def test_sample_index_of_another_length_is_refused_with_both_counts(copy):
    write_samples(copy, np.load(copy / "train.samples.npy")[:-1])
    with pytest.raises(DatasetError, match=r"59 samples, index\.json says 60"):
        open_dataset(copy)


@pytest.mark.parametrize("shape", [(), (60, 1), (6, 10)])
def test_sample_index_of_another_shape_is_refused(copy, shape):
    write_samples(copy, np.resize(np.load(copy / "train.samples.npy"), shape))
    with pytest.raises(DatasetError, match=r"train.samples.npy: "):
        open_dataset(copy)


def test_sample_index_of_one_row_without_a_list_is_refused(copy):
    write_samples(copy, np.load(copy / "train.samples.npy")[0])
    split = SplitIndex(1, 1, 0, (Shard("train-000000.tar", 1, 1 << 20, ""),))
    index = replace(read_index(copy), splits={"train": split})
    with pytest.raises(DatasetError, match="its rows do not fit"):
        read_samples(copy, "train", index)


def test_sample_index_without_a_column_is_refused(copy):
    samples = np.load(copy / "train.samples.npy")
    write_samples(copy, repack_fields(samples[list(samples.dtype.names[:-1])]))
    with pytest.raises(DatasetError, match="its rows do not fit"):
        open_dataset(copy)


def test_pickle_in_the_place_of_the_sample_index_is_not_loaded(copy):
    write_samples(copy, np.array([{"a": 1}] * 60), allow_pickle=True)
    with pytest.raises(DatasetError, match=r"train.samples.npy: damaged"):
        open_dataset(copy)


def test_split_that_does_not_exist_is_refused_listing_those_that_do(dataset):
    with pytest.raises(DatasetError, match=r"no split 'test' with images. It has: train, val"):
        open_dataset(dataset).split("test")
