import re
from dataclasses import replace

import pytest
from helpers import edit_index

from alexnet_cli.cli.hints import message
from alexnet_cli.data.shards.dataset import open_dataset
from alexnet_cli.data.shards.index import FORMAT, FileRecord, read_index
from alexnet_cli.errors import DatasetError
from alexnet_cli.types import ImageClass


def test_index_records_size_and_hash_of_the_files_beside_the_shards(dataset):
    files = read_index(dataset).files
    assert set(files) == {"train.samples.npy", "val.samples.npy", "rejected.csv"}
    for name, record in files.items():
        assert record == FileRecord.of((dataset / name).read_bytes())


def change_an_option(content: dict) -> None:
    content["options"]["quality"] = 91


def change_a_count(content: dict) -> None:
    content["splits"]["train"]["found"] += 1


def change_a_file(content: dict) -> None:
    content["files"]["rejected.csv"]["num_bytes"] += 1


def change_the_tool(content: dict) -> None:
    content["tool"] = "alexnet 9.9"


def swap_two_classes(content: dict) -> None:
    content["classes"][0], content["classes"][1] = content["classes"][1], content["classes"][0]


def rename_a_class(content: dict) -> None:
    content["classes"][3]["name"] = "something else"


def change_a_hash(content: dict) -> None:
    content["splits"]["train"]["shards"][0]["sha256"] = "0" * 64


def drop_a_shard(content: dict) -> None:
    content["splits"]["train"]["shards"].pop()


def drop_the_fingerprint(content: dict) -> None:
    del content["fingerprint"]


def drop_the_checksum(content: dict) -> None:
    del content["checksum"]


@pytest.mark.parametrize(
    "change",
    [
        swap_two_classes,
        rename_a_class,
        change_a_hash,
        drop_a_shard,
        drop_the_fingerprint,
        drop_the_checksum,
        change_an_option,
        change_a_count,
        change_a_file,
        change_the_tool,
    ],
)
def test_edited_index_is_refused(copy, change):
    edit_index(copy, change)
    with pytest.raises(DatasetError, match="edited since it was written"):
        open_dataset(copy)


def test_index_rewritten_with_the_same_content_is_accepted(copy, dataset):
    edit_index(copy, lambda content: None)
    assert open_dataset(copy).fingerprint == open_dataset(dataset).fingerprint


def test_newer_format_is_refused_naming_its_tool(copy):
    edit_index(copy, lambda content: content.update(format=FORMAT + 1, tool="alexnet 9.9"))
    with pytest.raises(DatasetError, match=r"format 2, made by alexnet 9.9") as error:
        open_dataset(copy)
    assert error.value.hint == "Update alexnet."


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"7", b"null", b"\xff\xfe", b"{}"])
def test_content_other_than_an_index_is_damaged(copy, content):
    (copy / "index.json").write_bytes(content)
    with pytest.raises(DatasetError, match="damaged"):
        open_dataset(copy)


def test_copy_of_the_index_has_the_same_bytes(dataset):
    assert (dataset / ".index.json").read_bytes() == (dataset / "index.json").read_bytes()
    assert read_index(dataset, ".index.json") == read_index(dataset)


@pytest.mark.parametrize("content", [None, b"{", b"[" * 100_000])
def test_lost_index_names_the_command_that_restores_it(copy, content):
    (copy / "index.json").unlink()
    if content is not None:
        (copy / "index.json").write_bytes(content)
    with pytest.raises(DatasetError) as error:
        read_index(copy)
    assert message(error.value).endswith(f"alexnet verify {copy} --rebuild")
    (copy / ".index.json").unlink()
    with pytest.raises(DatasetError) as error:
        read_index(copy)
    assert "alexnet prep" in error.value.hint


HOSTILE = {
    "name": ["../train-000000.tar", "/etc/passwd", "pipe:ls", "train-000000.tar/x", "", 7, None],
    "num_samples": [-1, 1 << 60, 2.5, "25", True, None],
    "num_bytes": [-1, 1 << 60, 2.5, None],
}


@pytest.mark.parametrize(
    ("part", "value"), [(part, value) for part, values in HOSTILE.items() for value in values]
)
def test_shard_with_a_hostile_name_or_size_is_refused(copy, part, value):
    def change(content: dict) -> None:
        content["splits"]["train"]["shards"][0][part] = value

    edit_index(copy, change)
    with pytest.raises(DatasetError, match="damaged"):
        read_index(copy)


@pytest.mark.parametrize("size", [0, -1, 1 << 20, 112.0, "112", None])
def test_invalid_image_size_is_refused(copy, size):
    edit_index(copy, lambda content: content["options"].update(size=size))
    with pytest.raises(DatasetError, match="damaged"):
        read_index(copy)


def test_name_with_a_line_break_ends_no_line_of_the_message(copy):
    edit_index(copy, lambda content: content["classes"][0].update({"a\nb": 1}))
    with pytest.raises(DatasetError, match="damaged") as error:
        read_index(copy)
    assert "\n" not in error.value.problem


PARTS = ("format", "classes", "splits", "options", "source", "tool", "files")


@pytest.mark.parametrize("part", PARTS)
def test_index_without_a_part_is_damaged(copy, part):
    edit_index(copy, lambda content: content.pop(part))
    with pytest.raises(DatasetError, match="damaged"):
        open_dataset(copy)


@pytest.mark.parametrize("part", ["classes", "splits", "options"])
@pytest.mark.parametrize("value", [None, 7, [7], {"a": 7}, {}], ids=str)
def test_index_with_a_part_of_another_type_is_refused(copy, part, value):
    edit_index(copy, lambda content: content.update({part: value}))
    with pytest.raises(DatasetError, match=r"index.json"):
        open_dataset(copy)


def test_fingerprint_is_16_hex_digits(dataset):
    assert re.fullmatch("[0-9a-f]{16}", open_dataset(dataset).fingerprint)


def test_fingerprint_changes_with_a_class_name(dataset):
    index = read_index(dataset)
    renamed = replace(index, classes=(ImageClass("n0", "new"), *index.classes[1:]))
    assert renamed.fingerprint() != index.fingerprint()


def test_fingerprint_does_not_change_with_the_tool(dataset):
    index = read_index(dataset)
    assert replace(index, tool="alexnet 9.9").fingerprint() == index.fingerprint()
