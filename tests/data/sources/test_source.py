import os
import pickle
import re
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import refused

from alexnet_cli.data.images.decode import MAX_FILE_BYTES
from alexnet_cli.data.sources.source import Source, SourceImage, count_ignored, split_off_val
from alexnet_cli.errors import ImageError, SourceError
from alexnet_cli.types import ImageClass


def a_release(*, labels=(0, 1, 2), num_classes: int = 3) -> Source:
    """Images that exist on paper only."""
    classes = tuple(ImageClass(f"n{i}", f"name {i}") for i in range(num_classes))
    train = [SourceImage(f"{label}.jpg", Path("x"), -1, 10, label) for label in labels]
    val = [SourceImage("v.jpg", Path("x"), -1, 10, 0)]
    return Source("on paper", classes, {"train": train, "val": val}, {})


def reason_of(image: SourceImage) -> str:
    with pytest.raises(ImageError) as error:
        image.read()
    return error.value.reason


def test_image_file_is_read_whole(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"0123456789")
    assert SourceImage("a.jpg", path, -1, 10, 0).read() == b"0123456789"


def test_image_in_an_archive_is_its_slice(tmp_path):
    path = tmp_path / "a.tar"
    path.write_bytes(b"0123456789")
    assert SourceImage("a.jpg", path, 3, 4, 0).read() == b"3456"


def test_archive_that_became_shorter_makes_a_truncated_image(tmp_path):
    path = tmp_path / "a.tar"
    path.write_bytes(b"01234")
    assert reason_of(SourceImage("a.jpg", path, 3, 4, 0)) == "truncated"


@pytest.mark.parametrize("offset", [-1, 0], ids=["a file", "in an archive"])
def test_image_that_disappeared_is_unreadable(tmp_path, offset):
    assert reason_of(SourceImage("a.jpg", tmp_path / "gone", offset, 4, 0)) == "unreadable"


def test_folder_is_no_image(tmp_path):
    assert reason_of(SourceImage("a.jpg", tmp_path, -1, 4, 0)) == "unreadable"


@pytest.mark.timeout(10)
def test_pipe_is_refused_without_waiting_for_it(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert reason_of(SourceImage("a.jpg", tmp_path / "pipe", -1, 4, 0)) == "unreadable"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_image_without_read_permission_is_unreadable(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"0123")
    path.chmod(0)
    assert reason_of(SourceImage("a.jpg", path, -1, 4, 0)) == "unreadable"


def test_file_larger_than_any_image_is_not_read(tmp_path):
    path = tmp_path / "a.jpg"
    path.touch()
    os.truncate(path, MAX_FILE_BYTES + 1)  # sparse: takes no room
    assert reason_of(SourceImage("a.jpg", path, -1, 4, 0)) == "too-many-pixels"


def test_fingerprint_is_the_same_for_the_same_source():
    assert a_release().fingerprint() == a_release().fingerprint()


@pytest.mark.parametrize("change", [{"name": "b.jpg"}, {"length": 11}, {"label": 1}])
def test_fingerprint_changes_with_an_images_name_size_or_label(change):
    changed = a_release()
    changed.images["train"][0] = replace(changed.images["train"][0], **change)
    assert changed.fingerprint() != a_release().fingerprint()


def test_fingerprint_changes_when_an_image_changes_its_split():
    changed = a_release()
    changed.images["val"].append(changed.images["train"].pop())
    assert changed.fingerprint() != a_release().fingerprint()


def test_fingerprint_changes_with_a_class_name():
    changed = replace(a_release(), classes=(ImageClass("n0", "renamed"), *a_release().classes[1:]))
    assert changed.fingerprint() != a_release().fingerprint()


def test_fingerprint_does_not_depend_on_where_the_source_is_stored():
    moved = a_release()
    moved.images["train"] = [replace(p, path=Path("y")) for p in moved.images["train"]]
    assert moved.fingerprint() == a_release().fingerprint()


def test_source_with_an_image_of_every_class_passes():
    a_release().check_classes()


def test_class_without_a_training_image_is_named():
    with refused(SourceError, "1 of 3 classes have no training image: n1"):
        a_release(labels=(0, 2)).check_classes()


def test_many_classes_without_images_are_counted_but_not_all_listed():
    with refused(SourceError, re.escape("19 of 20 classes")) as error:
        a_release(labels=(0,), num_classes=20).check_classes()
    assert len(str(error.value)) < 250


def test_source_for_people_is_parent_and_name():
    image = SourceImage("1.JPEG", Path("x"), -1, 10, 0, "train/n01/")
    assert image.source == "train/n01/1.JPEG"


def test_fingerprint_does_not_depend_on_the_layout():
    moved = a_release()
    moved.images["train"] = [replace(p, parent="a.tar/") for p in moved.images["train"]]
    assert replace(moved, layout="another").fingerprint() == a_release().fingerprint()


def named(*entries: tuple[str, int]) -> list[SourceImage]:
    return [SourceImage(name, Path("x"), -1, 1, label) for name, label in entries]


def test_training_is_ordered_by_label_and_name_and_the_rest_by_name_and_label():
    mixed = (("c", 0), ("a", 1), ("b", 0), ("a", 0))
    splits = {split: named(*mixed) for split in ("train", "val", "test")}
    source = Source("on paper", (), splits, {})
    order = {split: [(p.name, p.label) for p in listed] for split, listed in source.images.items()}
    assert order["train"] == [("a", 0), ("b", 0), ("c", 0), ("a", 1)]
    assert order["val"] == order["test"] == [("a", 0), ("a", 1), ("b", 0), ("c", 0)]


def test_image_travels_to_a_worker():
    image = SourceImage("a", Path("x"), 3, 4, 5, "p/", "zip")
    assert pickle.loads(pickle.dumps(image)) == image


def test_what_is_split_off_does_not_depend_on_the_order_of_the_listing():
    listed = named(*((f"{number}", number % 2) for number in range(20)))
    split, again = (split_off_val(part, 0.3, 1) for part in (listed, listed[::-1]))
    assert split == again
    assert len(split["val"]) == 6


def test_ignored_entries_are_counted_by_reason():
    ignored: dict[str, int] = {}
    for reason, count in (("a", 1), ("b", 2), ("a", 3), ("c", 0)):
        count_ignored(ignored, reason, count)
    assert ignored == {"a": 4, "b": 2}
