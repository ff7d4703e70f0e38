"""Foreign WebDataset tars: labels and names from members, which are never used as paths."""

import io
import json
import os
import tarfile
from pathlib import Path

import pytest
from helpers import refused

from alexnet_cli.data.sources.class_list import ClassList
from alexnet_cli.data.sources.detect import read_source
from alexnet_cli.data.sources.source import Source, SourceOptions
from alexnet_cli.data.sources.webdataset import read_webdataset
from alexnet_cli.errors import SourceError

A, B = "n00000001", "n00000002"


def write(path: Path, *members: tuple[str, bytes | str | int | dict]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            if isinstance(content, dict):
                content = json.dumps(content)
            content = content if isinstance(content, bytes) else str(content).encode()
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture
def folder(tmp_path) -> Path:
    write(
        tmp_path / "train-000000.tar", ("b.jpg", b"1"), ("b.cls", 1), ("a.jpg", b"2"), ("a.cls", 0)
    )
    write(tmp_path / "train-000001.tar", ("c.jpeg", b"3"), ("c.cls", "0\n"))
    write(
        tmp_path / "val-000000.tar", ("e.png", b"4"), ("e.cls", 1), ("d.JPEG", b"5"), ("d.cls", 0)
    )
    return tmp_path


def listed(source: Source, split: str) -> list[tuple[str, int, bytes]]:
    return [(p.name, p.label, p.read()) for p in source.images[split]]


def read(folder: Path) -> Source:
    source = read_webdataset(folder)
    assert source is not None
    return source


def with_val(folder: Path, *members) -> Path:
    write(folder / "val-000000.tar", *members)
    return folder


def test_samples_are_listed_with_names_labels_and_bytes(folder):
    source = read(folder)
    assert listed(source, "train") == [("a.jpg", 0, b"2"), ("c.jpeg", 0, b"3"), ("b.jpg", 1, b"1")]
    assert listed(source, "val") == [("d.JPEG", 0, b"5"), ("e.png", 1, b"4")]
    assert source.images["val"][0].source == "val-000000.tar/d.JPEG"


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train-000000.tar", "train"),
        ("imagenet1k-train-0000.tar", "train"),
        ("imagenet1k-validation-07.tar", "val"),
        ("validation-1.tar", "val"),
        ("val.tar", "val"),
        ("set_test_3.tar", "test"),
        ("Training-0.tar", "train"),
        ("VALID_00.TAR", "val"),
        ("imagenet-dev-7.tar", "val"),
        ("test_set-1.tar", "test"),
        ("eval.tar", "test"),
    ],
)
def test_split_is_read_from_the_tars_name(tmp_path, name, split):
    write(tmp_path / "train-x.tar", ("0.jpg", b""), ("0.cls", 0))
    write(tmp_path / name, ("1.jpg", b""), ("1.cls", 0))
    assert "1.jpg" in [p.name for p in read(tmp_path).images[split]]


@pytest.mark.parametrize(
    "name", ["images.tar", "ILSVRC2012_img_train_t3.tar", "n00000001.tar", "retrain.tar"]
)
def test_tars_of_other_names_are_not_recognized(tmp_path, name):
    (tmp_path / name).touch()
    assert read_webdataset(tmp_path) is None


@pytest.mark.parametrize("note", [("x.json", {"label": 1, "width": 500}), ("x.txt", "1\n")])
def test_label_may_be_in_the_json_or_the_text(folder, note):
    source = read(with_val(folder, ("x.jpg", b"1"), note))
    assert listed(source, "val") == [("x.jpg", 1, b"1")]


def test_file_name_in_the_json_is_the_images_own(folder):
    note = {"label": 0, "filename": "n01440764/n01440764_18.JPEG"}
    source = read(with_val(folder, ("x.jpg", b"1"), ("x.json", note), ("x.cls", 0)))
    assert listed(source, "val") == [("n01440764_18.JPEG", 0, b"1")]


@pytest.mark.parametrize(
    "note",
    [{"label": 1}, {"label": "1"}, {"label": -1}, {"label": "a bee"}, {"class_id": 7}, {"cls": 0}],
)
def test_other_numbers_and_names_in_the_json_contradict_no_label(folder, note):
    source = read(with_val(folder, ("x.jpg", b"1"), ("x.cls", 1), ("x.json", note)))
    assert listed(source, "val") == [("x.jpg", 1, b"1")]


def test_wnids_of_names_and_json_name_the_classes(folder):
    samples = [(f"{A}_1.jpg", b""), (f"{A}_1.cls", 0), ("2.jpg", b""), ("2.cls", 1)]
    write(folder / "train-000000.tar", *samples, ("2.json", {"wnid": B}))
    (folder / "train-000001.tar").unlink()
    assert [entry.wnid for entry in read(folder).classes] == [A, B]


def test_classes_without_wnids_go_by_number(folder):
    assert [entry.wnid for entry in read(folder).classes] == ["0", "1"]


@pytest.mark.parametrize(
    ("name", "content"),
    [("classes.txt", "tench\r\ngoldfish\r\n"), ("classes.json", '["tench", "goldfish"]')],
)
def test_class_names_come_from_a_file_beside_the_tars(folder, name, content):
    (folder / name).write_bytes(content.encode())
    assert [entry.name for entry in read(folder).classes] == ["tench", "goldfish"]


@pytest.mark.parametrize("content", ['{"a": 1}', "[1, 2]", '["a"'])
def test_file_of_class_names_that_is_none_is_refused(folder, content):
    (folder / "classes.json").write_text(content)
    with refused(SourceError, r"classes\.json"):
        read(folder)


@pytest.mark.parametrize(
    ("members", "pattern"),
    [
        ([("x.jpg", b"")], "'x': no label in .cls"),
        ([("x.jpg", b""), ("x.cls", -1)], "'x': no label in .cls"),
        ([("x.jpg", b""), ("x.cls", "dog")], "label 'dog', but the labels before it are numbers"),
        ([("x.jpg", b""), ("x.cls", "")], "label '' is not a whole number"),
        ([("x.jpg", b""), ("x.cls", "-2")], "label -2, but labels begin at 0"),
        ([("x.jpg", b""), ("x.json", {"label": True})], "label 'True' is not"),
        ([("x.jpg", b""), ("x.json", {"label": 1.0})], "label '1.0' is not"),
        ([("x.jpg", b""), ("x.json", "{]")], "its .json cannot be read"),
        ([("x.jpg", b""), ("x.json", "[" * 100_000)], "its .json cannot be read"),
        ([("x.jpg", b""), ("x.cls", "1.5")], "label '1.5' is not a whole number"),
        (
            [("x.jpg", b""), ("x.cls", 1), ("x.json", {"label": 0})],
            "'x': label 1 in its .cls, but 0 in its .json",
        ),
        (
            [("x.jpg", b""), ("x.cls", "01"), ("x.json", {"label": "2", "class_id": 1})],
            "'x': label 01 in its .cls, but 2 in its .json",
        ),
        ([("x.jpg", b""), ("x.cls", 2)], "label 2, but the training labels end at 1"),
    ],
)
def test_label_that_cannot_be_is_refused_by_name(folder, members, pattern):
    with refused(SourceError, pattern) as error:
        read(with_val(folder, *members))
    assert "val-000000.tar" in str(error.value)


def test_test_samples_without_labels_are_ignored_and_counted(folder):
    write(folder / "test-000000.tar", ("x.jpg", b""), ("y.jpg", b""), ("y.cls", -1))
    source = read(folder)
    assert "test" not in source.images
    assert source.ignored == {"test image without a label": 2}


def test_test_samples_with_labels_are_a_split(folder):
    write(folder / "test-000000.tar", ("x.jpg", b"t"), ("x.cls", 1))
    assert listed(read(folder), "test") == [("x.jpg", 1, b"t")]


def test_samples_without_an_image_are_ignored_and_counted(folder):
    source = read(with_val(folder, ("x.npy", b""), ("x.cls", 0), ("y.jpg", b"1"), ("y.cls", 0)))
    assert listed(source, "val") == [("y.jpg", 0, b"1")]
    assert source.ignored == {"sample without an image": 1}


def test_members_are_known_by_their_last_extension(folder):
    members = [("0.image.jpg", b"1"), ("0.label.cls", 1), ("1.label.cls", 0), ("1.image.PNG", b"2")]
    source = read(with_val(folder, *members))
    assert listed(source, "val") == [("0.image.jpg", 1, b"1"), ("1.image.PNG", 0, b"2")]


def test_names_with_more_dots_are_samples_of_their_own(folder):
    members = [(f"img.{n}.{kind}", n) for n in range(2) for kind in ("cls", "jpg")]
    source = read(with_val(folder, *members))
    assert [(name, label) for name, label, _ in listed(source, "val")] == [
        ("img.0.jpg", 0),
        ("img.1.jpg", 1),
    ]


@pytest.mark.parametrize("suffix", ["webp", "gif", "bmp", "tif", "TIFF"])
def test_every_type_of_image_that_folders_may_have_is_read(folder, suffix):
    source = read(with_val(folder, (f"x.{suffix}", b"1"), ("x.cls", 0)))
    assert listed(source, "val") == [(f"x.{suffix}", 0, b"1")]


@pytest.mark.parametrize("other", ["x.mask.png", "x.seg.jpg", "x.png"])
def test_second_image_of_a_sample_is_counted(folder, other):
    source = read(with_val(folder, ("x.cls", 0), ("x.jpg", b"1"), (other, b"2")))
    assert listed(source, "val") == [("x.jpg", 0, b"1")]
    assert source.ignored == {"another image of a sample": 1}


def test_files_of_file_managers_and_notes_are_no_samples(folder):
    members = [("._x.jpg", b"AppleDouble"), ("README.txt", "about"), ("x.jpg", b"1"), ("x.cls", 0)]
    source = read(with_val(folder, *members))
    assert listed(source, "val") == [("x.jpg", 0, b"1")]
    assert source.ignored == {"file beside the samples": 1, "hidden file": 1}


def test_labels_that_are_not_beside_their_images_are_explained(folder):
    members = [("x.jpg", b"1"), ("y.jpg", b"2"), ("x.cls", 0), ("y.cls", 1)]
    with refused(SourceError, "'x': its label is not beside its image.*\n.*--sort=name"):
        read(with_val(folder, *members))
    with refused(SourceError, "'x': no label in .*\n.*It has x.jpg, x.label"):
        read(with_val(folder, ("x.jpg", b"1"), ("x.label", "0")))


def test_tars_without_a_sample_are_refused(tmp_path):
    write(tmp_path / "train-0.tar", ("x.npy", b""), ("x.cls", 0), ("y.npy", b""), ("y.cls", 0))
    with refused(SourceError, "no image was found; passed over: 2 sample without an image"):
        read_source(tmp_path, SourceOptions(tmp_path / "s"))


@pytest.mark.parametrize("key", ["../../x", "/etc/x", "deep/er/x", "a b\nc/x"])
def test_member_names_are_never_paths(folder, key):
    before = sorted(folder.parent.rglob("*"))
    source = read(with_val(folder, (f"{key}.jpg", b"1"), (f"{key}.cls", 0)))
    assert listed(source, "val") == [("x.jpg", 0, b"1")]
    assert sorted(folder.parent.rglob("*")) == before


def test_link_in_the_place_of_an_image_is_not_followed(folder):
    with tarfile.open(folder / "val-000000.tar", "w") as tar:
        member = tarfile.TarInfo("x.jpg")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(member)
    source = read(folder)
    assert source.images["val"] == []
    assert source.ignored == {"tar member that is no plain file": 1}


def test_equal_keys_in_two_tars_are_two_images(folder):
    write(folder / "train-000001.tar", ("a.jpg", b"3"), ("a.cls", 0))
    assert listed(read(folder), "train")[:2] == [("a.jpg", 0, b"2"), ("a.jpg", 0, b"3")]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_cut_tar_is_refused(folder, share):
    path = folder / "train-000000.tar"
    content = path.read_bytes().rstrip(b"\0")
    path.write_bytes(content[: int(share * len(content))])
    with refused(SourceError, r"train-000000\.tar"):
        read(folder)


def test_pipe_does_not_block(folder):
    os.mkfifo(folder / "train-000002.tar")
    assert len(read_webdataset(folder).images["train"]) == 3


def test_class_names_nested_without_end_are_refused(folder):
    (folder / "classes.json").write_text("[" * 100_000)
    with refused(SourceError, r"classes\.json: not readable"):
        read_webdataset(folder)


def sample(key: str, label: int, **notes: str | dict) -> list:
    return [
        (f"{key}.jpg", b""),
        (f"{key}.cls", label),
        *((f"{key}.{k}", v) for k, v in notes.items()),
    ]


@pytest.mark.parametrize(
    ("members", "says"),
    [
        (sample("x", 0, json={"wnid": B}), "its .json"),
        (sample("x", 0, json={"synset": B}), "its .json"),
        (sample("x", 0, json={"class_name": "goldfish"}), "its .json"),
        (sample("x", 0, txt="Gold_Fish"), "its .txt"),
        (sample("x", 0, txt=f"{B}\n"), "its .txt"),
        (sample(f"{B}_123", 0), "its name"),
        (sample("x", 0, json={"filename": f"{B}/{B}_9.JPEG"}), "its name"),
        (sample(f"{B}_1", 0, json={"wnid": A}), "its name"),
    ],
)
def test_first_image_that_contradicts_the_list_is_named(folder, members, says):
    key = members[0][0].partition(".")[0]
    listed = ClassList((f"{A} tench", f"{B} gold fish, goldfish"), "list.txt")
    assert len(read_webdataset(folder, classes=listed).images["train"]) == 3
    with_val(folder, *sample("ok", 0, json={"wnid": A}), *members, *sample("z", 0, txt="goldfish"))
    pattern = rf"val-000000\.tar: '{key}': {says} says .*label is 0, which is '{A} tench' in list"
    with refused(SourceError, pattern):
        read_webdataset(folder, classes=listed)


def test_list_beside_the_tars_is_compared_too(folder):
    (folder / "classes.txt").write_text(f"{A} tench\n{B} goldfish\n")
    with_val(folder, *sample("x", 1, json={"wnid": A}))
    with refused(SourceError, r"'x': its \.json says .*label is 1, .*classes\.txt"):
        read(folder)


@pytest.mark.parametrize("kind", ["cls", "json"])
def test_names_as_labels_are_the_classes_in_sorted_order(tmp_path, kind):
    def member(key: str, name: str) -> list:
        return [
            (f"{key}.jpg", key.encode()),
            (f"{key}.{kind}", {"label": name} if kind == "json" else name),
        ]

    write(tmp_path / "train-0.tar", *member("a", "dog"), *member("b", "caf\u00e9"))
    write(tmp_path / "val-0.tar", *member("c", "dog"), *member("d", "cafe\u0301"))
    source = read(tmp_path)
    assert [(e.wnid, e.name) for e in source.classes] == [("caf\u00e9",) * 2, ("dog",) * 2]
    assert listed(source, "train") == [("b.jpg", 0, b"b"), ("a.jpg", 1, b"a")]
    assert listed(source, "val") == [("c.jpg", 1, b"c"), ("d.jpg", 0, b"d")]
    names = ClassList(("n00000007 dog", "cow", "caf\u00e9"), "list.txt")
    source = read_webdataset(tmp_path, classes=names)
    assert [e.name for e in source.classes] == ["dog", "cow", "caf\u00e9"]
    assert listed(source, "train") == [("a.jpg", 0, b"a"), ("b.jpg", 2, b"b")]
    write(tmp_path / "val-0.tar", *member("c", "Dog"))
    with refused(SourceError, "class 'Dog' is none of the 2 .*there is 'dog'"):
        read(tmp_path)


@pytest.mark.parametrize("key", ["label", "cls", "class", "class_id", "target"])
def test_whole_number_of_the_json_is_the_label(folder, key):
    source = read(with_val(folder, ("x.jpg", b"1"), ("x.json", {"width": 7, key: 1})))
    assert listed(source, "val") == [("x.jpg", 1, b"1")]


def test_tar_of_class_folders_named_like_samples_says_what_to_name(folder):
    with refused(SourceError, r"no label in .*\n(.*\n)?.*name the tar itself: .*val-000000\.tar"):
        read(with_val(folder, ("cat/x.jpg", b"1"), ("dog/y.jpg", b"1")))
