"""Lists of class names: their formats, and the folders and numbers that they name."""

import json
import random

import pytest
from helpers import refused

from alexnet_cli.data.sources.class_list import (
    ClassList,
    in_class_order,
    list_of,
    order_in_words,
    read_class_list,
    twin_of,
)
from alexnet_cli.errors import SourceError
from alexnet_cli.types import ImageClass

A, B, C = "n00000001", "n00000002", "n00000003"


def listed(*names: str) -> ClassList:
    return ClassList(names, "list.txt")


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("c.txt", f"{A} tench\n{B} cock\n\n"),
        ("c.txt", f"{A},tench\n{B}: cock"),
        ("c.txt", f"0 {A} tench\n1 {B} cock"),
        ("c.txt", f"2 {B} cock\n1 {A} tench"),
        ("c.txt", f"\ufeff{A} tench\r\n{B} cock"),
        ("c.json", json.dumps([f"{A} tench", f"{B} cock"])),
        ("c.json", json.dumps({"1": [B, "cock"], "0": [A, "tench"]})),
        ("c.json", json.dumps({"0": f"{A} tench", "1": f"{B} cock"})),
        ("c.json", json.dumps({f"{B} cock": 1, f"{A} tench": 0})),
    ],
)
def test_names_are_read_in_label_order_in_every_format(tmp_path, file, content):
    path = tmp_path / file
    path.write_text(content)
    assert read_class_list(path).classes() == (ImageClass(A, "tench"), ImageClass(B, "cock"))


@pytest.mark.parametrize("lines", [["0 ants", "2 bees"], ["1 ant", "bee"], ["7 ants", "9 bees"]])
def test_numbers_that_are_part_of_the_names_stay(tmp_path, lines):
    (tmp_path / "c.txt").write_text("\n".join(lines))
    assert list(read_class_list(tmp_path / "c.txt").names) == lines


@pytest.mark.parametrize(
    ("file", "content", "pattern"),
    [
        ("c.txt", b"", "not a list of class names"),
        ("c.txt", b"ant\n\nbee\n", "the name of label 1 is empty"),
        ("c.txt", b"\xff\xfe\xff", "not readable"),
        ("c.txt", f"{A} tench\n{B}\n{A} cock\n".encode(), f"{A} is the name of labels 0 and 2"),
        ("c.json", b'{"0": "tench", "2": "cock"}', "not a list of class names"),
        ("c.json", b'"tench"', "not a list of class names"),
        ("missing.txt", None, "No such file"),
    ],
)
def test_file_that_is_no_list_is_refused_by_name(tmp_path, file, content, pattern):
    if content is not None:
        (tmp_path / file).write_bytes(content)
    with refused(SourceError, f"{file}: .*{pattern}"):
        read_class_list(tmp_path / file)


@pytest.mark.parametrize("form", ["{}", "{:03d}"])
@pytest.mark.parametrize(("first", "count"), [(0, 12), (1, 12), (0, 1000), (5, 8)])
def test_numbers_are_in_the_order_of_numbers(form, first, count):
    names = [form.format(number) for number in range(first, first + count)]
    assert in_class_order(random.Random(1).sample(names, count)) == names


@pytest.mark.parametrize("names", [["10", "9", "x"], ["1.5", "10", "2"], ["\u0663", "10", "9"]])
def test_other_names_are_in_the_order_of_texts(names):
    assert in_class_order(names) == sorted(names)


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ([f"class_{n}" for n in range(12)], "label 2 is class_10, and class_2 comes after it"),
        (["background", *map(str, range(11))], "label 2 is 10, and 2 comes after it"),
        ([str(n) for n in range(11)], "label 2 is 2, not 10 as in the order of texts"),
        ([f"class_{n:02d}" for n in range(12)], ""),
        (["Audi 100 2012", "Audi 80 1994", "boeing 707"], ""),
    ],
)
def test_order_that_may_surprise_is_said(names, says):
    said = order_in_words(in_class_order(names))
    assert says in said
    assert bool(says) is bool(said)


@pytest.mark.parametrize("found", [["0", "2"], ["1", "3"], ["01", "03"], ["3", "1", "2"]])
def test_numbered_folders_count_from_0_or_to_the_number_of_classes(found):
    folders = listed("tench", "cock", "ray").folders(found)
    first = 1 if found[-1] != "2" or "3" in found else 0
    for folder in found:
        assert folders.index(folder) == int(folder) - first


def test_folders_are_found_by_wnid_words_or_synonym_and_may_be_missing():
    names = listed(f"{B} tench, Tinca tinca", f"{A} cock", "great white shark")
    folders = names.folders(["Great_White_Shark", "tench"])
    assert folders == ["tench", A, "Great_White_Shark"]
    assert names.named(folders) == (
        ImageClass(B, "tench, Tinca tinca"),
        ImageClass(A, "cock"),
        ImageClass("Great_White_Shark", "great white shark"),
    )


@pytest.mark.parametrize(
    ("found", "pattern"),
    [
        (["0", "3"], "'3' is none of its 2 classes"),
        (["tench", "ray"], "'ray' is none of its 2 classes"),
        (["1", "01"], "'01' and '1' are names of one class"),
        (["crane"], "'crane' has the name of 2 of its 2 classes"),
    ],
)
def test_folder_that_the_list_does_not_name_is_refused(found, pattern):
    with refused(SourceError, f"list.txt: .*{pattern}"):
        listed("tench, crane", "cock, crane").folders(found)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Cat", "cat"),
        ("a b", "a_b"),
        ("x ", "x"),
        ("\ufb01sh", "fish"),
        ("a\u200bb", "ab"),
        ("007", "7"),
    ],
)
def test_twins_are_found(one, other):
    assert twin_of(one, ["dog", other]) == other
    assert twin_of(one, ["dog"]) is None


def test_list_of_a_dataset_gives_its_classes_again():
    names = listed(f"{A} tench", "cock", B)
    folders = ["0", "1", "2"]
    classes = names.named(folders)
    assert list_of(classes).named(folders) == classes
