"""What is known of ILSVRC 2012: a set of a thousand classes stands in for it here."""

import hashlib
from pathlib import Path

import pytest
from helpers import Listener, refused

from alexnet_cli.data.sources import ilsvrc2012
from alexnet_cli.data.sources.ilsvrc2012 import (
    FIRST_VAL_LABELS,
    check_labels,
    check_md5,
    warn_of_counts,
)
from alexnet_cli.data.sources.source import Source, SourceImage
from alexnet_cli.errors import SourceError
from alexnet_cli.io.progress import SILENT
from alexnet_cli.types import ImageClass

WNIDS = [f"n{number:08d}" for number in range(1000)]
NUMBERS = [f"{number:03d}" for number in range(1000)]


@pytest.fixture(autouse=True)
def known_wnids(monkeypatch):
    digest = hashlib.sha256("\n".join(WNIDS).encode()).hexdigest()
    monkeypatch.setattr(ilsvrc2012, "WNIDS_SHA256", digest)


def a_release(labels=FIRST_VAL_LABELS, wnids=WNIDS, *, num_train: int = 3) -> Source:
    val = [
        SourceImage(f"ILSVRC2012_val_{number:08d}.JPEG", Path("x"), -1, 1, label, "val/")
        for number, label in enumerate(labels, start=1)
    ]
    train = [SourceImage(str(number), Path("x"), -1, 1, 0) for number in range(num_train)]
    classes = tuple(ImageClass(wnid, wnid) for wnid in wnids)
    return Source("on paper", classes, {"train": train, "val": val}, {})


@pytest.mark.parametrize("wnids", [WNIDS, NUMBERS], ids=["by wnid", "by number"])
def test_known_labels_pass(wnids):
    check_labels(a_release(wnids=wnids))


@pytest.mark.parametrize("wnids", [WNIDS, NUMBERS], ids=["by wnid", "by number"])
def test_labels_in_the_devkits_order_are_refused_naming_the_first(wnids):
    with refused(SourceError, r"val_00000001.JPEG is labeled 489 .* it is 65 ") as e:
        check_labels(a_release((489, 360, 170, 821, 296), wnids))
    assert "n01751748" in str(e.value)
    assert str(e.value).count("\n") <= 2


@pytest.mark.parametrize(
    "labels",
    [
        [label + 1 for label in FIRST_VAL_LABELS],
        [*FIRST_VAL_LABELS[1:], 57],
        [*FIRST_VAL_LABELS[:4], 0],
    ],
    ids=["counted from 1", "off by one image", "the fifth"],
)
def test_other_permutations_are_refused(labels):
    with refused(SourceError, "another order"):
        check_labels(a_release(labels))


@pytest.mark.parametrize(
    "wnids", [WNIDS[:999], [*WNIDS[:999], "n99999999"]], ids=["fewer classes", "other classes"]
)
def test_other_classes_are_not_compared(wnids):
    check_labels(a_release((1, 2, 3), wnids))


def test_validation_images_of_other_names_are_not_compared():
    source = a_release((0,))
    source.images["val"] = [SourceImage("mine.jpg", Path("x"), -1, 1, 0)]
    check_labels(source)


def test_other_counts_are_a_warning():
    listener = Listener()
    warn_of_counts(a_release(), listener)
    assert listener.lines == [
        "warning: 3 train images; ILSVRC 2012 has 1,281,167",
        "warning: 5 val images; ILSVRC 2012 has 50,000",
    ]


def test_known_counts_and_other_classes_cause_no_warning(monkeypatch):
    listener = Listener()
    warn_of_counts(a_release(wnids=WNIDS[:20]), listener)
    warn_of_counts(a_release(wnids=NUMBERS), listener)  # a thousand classes of whatever set
    monkeypatch.setattr(ilsvrc2012, "COUNTS", {"train": 3, "val": 5})
    warn_of_counts(a_release(), listener)
    assert listener.lines == []


TRAIN, VAL = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"


@pytest.fixture
def archives(tmp_path, monkeypatch) -> list[Path]:
    """Two files whose MD5 is known."""
    for name, content in ((TRAIN, bytes(2_500_000)), (VAL, b"val" * 700_000)):
        (tmp_path / name).write_bytes(content)
        monkeypatch.setitem(ilsvrc2012.MD5, name, hashlib.md5(content).hexdigest())
    return [tmp_path / TRAIN, tmp_path / VAL]


def test_archives_of_the_known_md5_pass_with_progress(archives, monkeypatch):
    monkeypatch.setattr(ilsvrc2012, "CHUNK", 300_000)
    listener = Listener()
    check_md5(archives, listener)
    assert listener.done == listener.total == 4
    assert listener.lines == [f"MD5 as published: {TRAIN}, {VAL}"]


def test_changed_archive_is_refused_with_both_md5(archives):
    archives[1].write_bytes(b"changed")
    with refused(SourceError, rf"{VAL}: its MD5 is [0-9a-f]{{32}}, not"):
        check_md5(archives, SILENT)


def test_dogs_only_archive_under_the_name_of_the_whole_is_recognized(archives, monkeypatch):
    archives[0].write_bytes(b"dogs")
    monkeypatch.setattr(ilsvrc2012, "DOGS_MD5", hashlib.md5(b"dogs").hexdigest())
    with refused(SourceError, "dogs only"):
        check_md5(archives, SILENT)


def test_archives_without_a_published_md5_are_named(tmp_path):
    (tmp_path / "ILSVRC2010_images_val.tar").touch()
    listener = Listener()
    check_md5([tmp_path / "ILSVRC2010_images_val.tar"], listener)
    assert listener.lines == ["ILSVRC2010_images_val.tar: its MD5 is not known"]
