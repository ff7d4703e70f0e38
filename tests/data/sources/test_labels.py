from pathlib import Path

import pytest
from helpers import refused

from alexnet_cli.data.sources.class_list import ClassList
from alexnet_cli.data.sources.labels import (
    MAX_CLASSES,
    LabeledClasses,
    base_name,
    check_held_out,
    split_name,
)
from alexnet_cli.data.sources.source import SourceImage
from alexnet_cli.errors import SourceError


def gathered(*entries: tuple[str, int, str | None], names=None) -> LabeledClasses:
    labels = LabeledClasses(ClassList(tuple(names), "list.txt") if names else None)
    for split, label, wnid in entries:
        labels.add(split, label, wnid, "here", [("its name", wnid or "")])
    return labels


def wnids(*entries: tuple[str, int, str | None], names=None) -> list[str]:
    return [entry.wnid for entry in gathered(*entries, names=names).classes()]


A, B, C = "n00000001", "n00000002", "n00000003"


@pytest.mark.parametrize(
    ("name", "own", "wnid"),
    [
        ("n01440764_18.JPEG", "n01440764_18.JPEG", "n01440764"),
        ("n01440764_18_n01440764.JPEG", "n01440764_18.JPEG", "n01440764"),
        ("ILSVRC2012_val_00000293_n01440764.JPEG", "ILSVRC2012_val_00000293.JPEG", "n01440764"),
        ("ILSVRC2012_val_00000293.JPEG", "ILSVRC2012_val_00000293.JPEG", None),
        ("n0144_1.JPEG", "n0144_1.JPEG", None),
        ("", "", None),
    ],
)
def test_name_without_the_wnid_that_was_added_and_the_wnid(name, own, wnid):
    assert split_name(name) == (own, wnid)


@pytest.mark.parametrize("name", ["../../x.jpg", "/etc/x.jpg", "C:\\a\\x.jpg", "x.jpg"])
def test_base_name_has_no_folder_in_it(name):
    assert base_name(name) == "x.jpg"


def test_wnids_that_sort_like_the_labels_name_the_classes():
    assert wnids(("train", 1, B), ("train", 0, A), ("val", 1, None), ("val", 0, A)) == [A, B]


@pytest.mark.parametrize(
    "entries",
    [
        (("train", 0, "b"), ("train", 1, "a")),
        (("train", 0, B), ("train", 1, A), ("val", 1, C)),
        (("train", 0, A), ("train", 1, None)),
        (("train", 0, A), ("train", 0, B), ("train", 1, C)),
        (("train", 0, A), ("train", 1, A)),
    ],
    ids=["another order", "another of val", "one without", "two in a class", "one in two classes"],
)
def test_wnids_that_do_not_fit_the_labels_are_ignored(entries):
    assert wnids(*entries) == ["0", "1"]


def test_wnids_in_another_order_than_the_labels_name_the_classes():
    assert wnids(("train", 0, B), ("train", 1, A), ("val", 1, A), ("val", 0, None)) == [B, A]


def test_numbers_are_padded_so_that_they_sort():
    assert wnids(*(("train", label, None) for label in range(11)))[:3] == ["00", "01", "02"]


def test_given_names_are_words_beside_wnids_or_numbers():
    by_wnid = gathered(("train", 0, A), ("train", 1, B), names=["tench", "goldfish"]).classes()
    assert [(e.wnid, e.name) for e in by_wnid] == [(A, "tench"), (B, "goldfish")]
    by_number = gathered(("train", 0, None), names=["tench", "goldfish"]).classes()
    assert [(e.wnid, e.name) for e in by_number] == [("0", "tench"), ("1", "goldfish")]


def test_given_names_that_begin_with_wnids_are_both():
    names = [f"{A} tench, Tinca tinca", B]
    friendly_oom_errors = [(A, "tench, Tinca tinca"), (B, B)]
    for images in ((("train", 0, None),), (("train", 0, A), ("val", 1, B)), ()):
        assert [
            (e.wnid, e.name) for e in gathered(*images, names=names).classes()
        ] == friendly_oom_errors


@pytest.mark.parametrize(
    ("entries", "names"),
    [
        ((("train", 0, None),), [f"{B} goldfish", f"{A} tench"]),
        ((("train", 0, None),), [f"{A} tench", "goldfish"]),
        ((("train", 0, A),), [f"{A} tench", "goldfish"]),
    ],
    ids=["another order", "one without", "one without that an image carries"],
)
def test_given_wnids_that_do_not_fit_are_words(entries, names):
    found = gathered(*entries, names=names).classes()
    assert [(e.wnid, e.name) for e in found] == list(zip("01", names, strict=True))


@pytest.mark.parametrize(
    ("entries", "pattern"),
    [
        ([("train", 0, B)], f"label is 0, which is '{A} tench' in list.txt; '{B}' is label 1"),
        ([("train", 0, A), ("val", 1, C)], f"'{C}', but its label is 1, which is '{B} goldfish'"),
    ],
    ids=["another class of the list", "no class of the list"],
)
def test_wnid_that_contradicts_the_list_is_refused_by_name(entries, pattern):
    with refused(SourceError, rf"here: its name says .*{pattern}"):
        gathered(*entries, names=[f"{A} tench", f"{B} goldfish"])


@pytest.mark.parametrize(
    ("text", "label"),
    [("goldfish", 0), ("Carassius auratus", 0), ("GOLD_FISH", 2), ("tench", 1), ("caf\u00e9", 1)],
)
def test_name_of_another_class_is_refused_whatever_its_case_and_unicode_form(text, label):
    names = [f"{A} tench, Tinca tinca", "goldfish, Carassius auratus", "cafe\u0301", "gold fish"]
    labels = LabeledClasses(ClassList(tuple(names), "list.txt"))
    with refused(SourceError, rf"here: its \.txt says .*its label is {label}"):
        labels.add("train", label, None, "here", [("its .txt", text)])


@pytest.mark.parametrize("text", ["crane", "a photo of a tench", "Tinca tinca", "nothing", A])
def test_captions_and_names_of_the_own_class_are_accepted(text):
    names = [f"{A} tench, Tinca tinca, crane", "crane"]
    labels = LabeledClasses(ClassList(tuple(names), "list.txt"))
    labels.add("train", 0, None, "here", [("its .txt", text)])
    assert len(labels.classes()) == 2


def test_labels_that_are_all_one_too_high_are_explained():
    with refused(SourceError, f"'{A}', but its label is 1") as error:
        gathered(("train", 1, A), names=[A, B])
    assert "count from 1" in error.value.hint
    with refused(SourceError, "label 2, but the 2 classes end at 1 in list.txt") as error:
        gathered(("train", 2, None), ("train", 1, None), names=["a", "b"]).classes()
    assert "count from 1" in error.value.hint
    with refused(SourceError, "label 2, but the 2 classes end at 1 in list.txt") as error:
        gathered(("train", 2, None), ("train", 0, None), names=["a", "b"]).classes()
    assert "count from 1" not in error.value.hint


@pytest.mark.parametrize(
    ("seen", "expected"), [([1, 2, 3], True), ([0, 1, 2], False), ([1, 3], False), ([], False)]
)
def test_labels_from_1_without_a_gap_seem_to_count_from_1(seen, expected):
    labels = gathered(*(("val", label, None) for label in seen))
    assert labels.seems_to_count_from_1() is expected


def test_held_out_wnid_with_another_label_than_in_training_is_refused():
    labels = gathered(("train", 0, A), ("train", 1, B), ("val", 0, B))
    with refused(SourceError, f"here: {B} has label 0, but label 1 in the training images"):
        labels.classes()


@pytest.mark.parametrize(("label", "pattern"), [(-1, "begin at 0"), (2, "2 classes end at 1")])
def test_label_that_no_class_has_is_refused(label, pattern):
    with refused(SourceError, f"here: label {label}, but .*{pattern}"):
        gathered(("train", label, None), names=None if label < 0 else ["a", "b"]).classes()


def test_held_out_label_beyond_training_is_refused():
    images = {"train": [], "val": [SourceImage("a.jpg", Path("x"), 0, 1, 7, "v/")]}
    with refused(SourceError, r"v/a.jpg: label 7, but the training labels end at 4"):
        check_held_out(images, 5)


@pytest.mark.parametrize("label", [MAX_CLASSES, 10**9, 10**18])
def test_label_that_would_make_endless_classes_is_refused(label):
    gathered(("train", MAX_CLASSES - 1, None))
    with refused(SourceError, "no source has that many classes"):
        gathered(("train", label, None))
