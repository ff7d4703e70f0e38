import io
import os
import shutil
import tarfile
from pathlib import Path

import pytest
from helpers import refused

from alexnet_cli.data.sources.detect import read_source
from alexnet_cli.data.sources.source import SourceOptions
from alexnet_cli.data.sources.synset_tars import read_synset_tars
from alexnet_cli.errors import SourceError, UsageError


@pytest.fixture
def folder(tmp_path) -> Path:
    """Three synsets of four images, as Fall 2011 came."""
    for wnid in ("n00000002", "n00000001", "n00000003"):
        with tarfile.open(tmp_path / f"{wnid}.tar", "w") as tar:
            for number in (2, 10, 1, 3):
                member = tarfile.TarInfo(f"{wnid}_{number}.JPEG")
                member.size = len(member.name)
                tar.addfile(member, io.BytesIO(member.name.encode()))
    return tmp_path


def test_class_is_a_tar_and_its_label_the_sorted_position(folder):
    source = read_synset_tars(folder, val_fraction=0.0, seed=0)
    assert [entry.wnid for entry in source.classes] == ["n00000001", "n00000002", "n00000003"]
    assert [p.label for p in source.images["train"]] == [0] * 4 + [1] * 4 + [2] * 4
    assert source.images["val"] == []
    for image in source.images["train"]:
        assert image.read() == image.name.encode()
        assert image.name.startswith(source.classes[image.label].wnid)


def test_images_are_named_by_tar_and_member(folder):
    source = read_synset_tars(folder, val_fraction=0.0, seed=0)
    assert source.images["train"][0].source == "n00000001.tar/n00000001_1.JPEG"


def test_share_of_each_class_can_be_kept_for_validation(folder):
    source = read_synset_tars(folder, val_fraction=0.25, seed=0)
    assert sorted(p.label for p in source.images["val"]) == [0, 1, 2]
    assert len(source.images["train"]) == 9


def test_other_tars_are_not_recognized(tmp_path):
    (tmp_path / "train-000000.tar").touch()
    assert read_synset_tars(tmp_path, val_fraction=0.0, seed=0) is None


def test_cut_tar_is_refused(folder):
    path = folder / "n00000002.tar"
    path.write_bytes(path.read_bytes()[:3000])
    with refused(SourceError, r"n00000002\.tar"):
        read_synset_tars(folder, val_fraction=0.0, seed=0)


def test_pipe_does_not_block(folder):
    os.mkfifo(folder / "n00000004.tar")
    source = read_synset_tars(folder, val_fraction=0.0, seed=0)
    assert len(source.classes) == 3


def test_tars_in_folders_of_splits_are_read_together_or_one_alone(folder, tmp_path):
    for split in ("training", "val"):
        shutil.copytree(folder, tmp_path / "set" / split, ignore=shutil.ignore_patterns("set"))
    (tmp_path / "set/val/n00000002.tar").unlink()
    source = read_synset_tars(tmp_path / "set", val_fraction=0.0, seed=0)
    assert {split: len(images) for split, images in source.images.items()} == {
        "train": 12,
        "val": 8,
    }
    assert {image.label for image in source.images["val"]} == {0, 2}
    with refused(UsageError, "--val-fraction"):
        read_synset_tars(tmp_path / "set", val_fraction=0.1, seed=0)
    (tmp_path / "set/val/n00000001.tar").rename(tmp_path / "set/val/n00000009.tar")
    with refused(SourceError, r"n00000009\.tar: there are no training images of this class"):
        read_synset_tars(tmp_path / "set", val_fraction=0.0, seed=0)
    (tmp_path / "set/training").rename(tmp_path / "elsewhere")
    source = read_source(tmp_path / "set", SourceOptions(tmp_path / "staging"))
    assert [entry.wnid for entry in source.classes] == ["n00000003", "n00000009"]
    assert (len(source.images["train"]), len(source.images["val"])) == (0, 8)
    (tmp_path / "set/train/n00000003").mkdir(parents=True)
    with refused(SourceError, "train holds class folders, but .*val tars"):
        read_source(tmp_path / "set", SourceOptions(tmp_path / "staging"))
