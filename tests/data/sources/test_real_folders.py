"""Folders as people have them: what they were taken for is compared with what is there."""

import io
import json
import tarfile
from collections.abc import Mapping
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from helpers import refused
from PIL import Image

from alexnet_cli.data.sources.class_list import read_class_list
from alexnet_cli.data.sources.detect import read_source
from alexnet_cli.data.sources.source import Source, SourceOptions
from alexnet_cli.errors import SourceError

SEEDS = count()


def image() -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(next(SEEDS)).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def make(root: Path, *names: str, texts: Mapping[str, str] | None = None) -> Path:
    """Write images of these names, and texts."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(image())
    for name, text in (texts or {}).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def make_tar(path: Path, *labels: int) -> None:
    """Write a tar of samples with these labels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for number, label in enumerate(labels):
            for suffix, content in (("png", image()), ("cls", str(label).encode())):
                member = tarfile.TarInfo(f"{number:03d}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


def make_parquet(path: Path, *labels: int) -> None:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"bytes": image(), "path": f"{number}.png"} for number in range(len(labels))]
    parquet.write_table(pa.table({"image": rows, "label": list(labels)}), path)


def read(root: Path, **how) -> Source:
    return read_source(root, SourceOptions(root.parent / "staging", **how))


def classes_of(source: Source, split: str = "train") -> dict[str, str]:
    """Return the class of each image."""
    return {image.name: source.classes[image.label].wnid for image in source.images[split]}


def names(*patterns: str, classes: str = "ab") -> list[str]:
    return [pattern.format(name) for pattern in patterns for name in classes]


# ------------------------------------------------------------------ numbers as names of classes


def test_number_beside_numbered_classes_is_a_name_whatever_its_zeros(tmp_path):
    root = make(
        tmp_path / "set",
        *(f"train/{number:02d}/{number}.png" for number in (1, 2, 10)),
        *(f"val/{number}.png" for number in (7, 8, 9)),
        texts={"val.txt": "7.png 10\n8.png 1\n9.png 02\n"},
    )
    assert classes_of(read(root), "val") == {"7.png": "10", "8.png": "01", "9.png": "02"}


def test_positions_in_place_of_the_numbers_of_classes_are_refused(tmp_path):
    root = make(
        tmp_path / "set",
        *(f"train/{number}/0.png" for number in (1, 2, 3)),
        *(f"val/{number}.png" for number in range(3)),
        texts={"val.txt": "".join(f"{number}.png {number}\n" for number in range(3))},
    )
    with refused(
        SourceError, "class '0' is none of the 3.*\n.*\nThese classes are numbers, from 1"
    ):
        read(root)


# ------------------------------------------------------------------ files of labels


def test_column_called_label_is_not_that_of_the_names_though_it_fits(tmp_path):
    rows = {1: 3, 2: 4, 3: 1, 4: 2}
    root = make(
        tmp_path / "set",
        *(f"images/{number}.png" for number in rows),
        texts={"labels.csv": "label,id\n" + "".join(f"{v},{k}\n" for k, v in rows.items())},
    )
    assert classes_of(read(root)) == {f"{k}.png": str(v) for k, v in rows.items()}


def test_columns_that_both_may_be_names_are_refused(tmp_path):
    root = make(
        tmp_path / "set", "images/1.png", "images/2.png", texts={"labels.csv": "1,2\n2,1\n"}
    )
    with refused(SourceError, "columns 1 and 2 may both be the names"):
        read(root)


@pytest.mark.parametrize("cell", ["", "nan", "NaN"])
def test_cell_without_a_class_is_refused(tmp_path, cell):
    text = f"filename,label\n1.png,cat\n2.png,{cell}\n"
    root = make(tmp_path / "set", "train/1.png", "train/2.png", texts={"labels.csv": text})
    with refused(SourceError, "no class in the row of 2.png"):
        read(root)


def test_row_that_may_be_two_images_is_refused(tmp_path):
    text = "1,cat\n2,dog\n"
    root = make(
        tmp_path / "set", "train/1.png", "train/1.jpg", "train/2.png", texts={"labels.csv": text}
    )
    with refused(SourceError, r"the row 1 may be train/1\.\w+ or train/1\.\w+"):
        read(root)


def test_column_of_splits_is_named(tmp_path):
    text = "filename,label,split\n1.png,cat,train\n2.png,dog,valid\n"
    root = make(tmp_path / "set", "images/1.png", "images/2.png", texts={"labels.csv": text})
    assert any("column split (train, valid), which is not read" in n for n in read(root).notes)


def test_list_of_names_alone_leaves_a_test_set_unlabeled(tmp_path):
    root = make(
        tmp_path / "set",
        *("train_images/1.png", "train_images/2.png", "test_images/3.png"),
        texts={"train.csv": "id_code,diagnosis\n1,0\n2,4\n", "test.csv": "id_code\n3\n"},
    )
    source = read(root)
    assert classes_of(source) == {"1.png": "0", "2.png": "4"}
    assert source.ignored_by_split["test"] == {"test image without a label": 1}


def test_roboflow_columns_of_each_class_are_read(tmp_path):
    text = "filename, cat, dog\n1.png, 0, 1\n2.png, 1, 0\n"
    root = make(tmp_path / "s", "train/1.png", "train/2.png", texts={"train/_classes.csv": text})
    assert classes_of(read(root)) == {"1.png": "dog", "2.png": "cat"}


def test_traffic_signs_have_their_labels_in_a_column_among_others(tmp_path):
    text = "Width,Roi.X1,ClassId,Path\n" + "".join(f"9,1,{k},Test/{k}.png\n" for k in (2, 10))
    root = make(
        tmp_path / "set",
        *(f"Train/{k}/0.png" for k in (2, 3, 10)),
        *("Test/2.png", "Test/10.png", "Meta/2.png"),
        texts={"Test.csv": text},
    )
    source = read(root)
    assert classes_of(source, "test") == {"2.png": "2", "10.png": "10"}
    assert any("Meta is not read" in note for note in source.notes)


def test_parts_of_a_set_are_no_classes_if_a_table_names_their_images(tmp_path):
    table = "image_id,dx,age\n" + "".join(f"i{k},{'nv' if k % 2 else 'mel'},9\n" for k in range(4))
    root = make(
        tmp_path / "set",
        *(f"images_part_{1 + k // 2}/i{k}.png" for k in range(4)),
        texts={"metadata_of_all.csv": table},
    )
    with refused(
        SourceError, "names these images, but not the folders.*\n.*\n.*--labels .*all.csv"
    ):
        read(root)
    (root / "metadata_of_all.csv").write_text(table.replace("dx", "label"))
    labeled = read(root, labels=root / "metadata_of_all.csv")
    assert sorted(classes_of(labeled).values()) == ["mel", "mel", "nv", "nv"]


@pytest.mark.parametrize(("column", "is_noted"), [("{}/{}", False), ("{1}", True)])
def test_table_beside_class_folders_that_names_their_images_is_noted(tmp_path, column, is_noted):
    images = [("cat", "1.png"), ("dog", "2.png")]
    table = "path,width\n" + "".join(f"{column.format(*pair)},8\n" for pair in images)
    root = make(tmp_path / "s", *map("/".join, images), texts={"exif.csv": table})
    assert any("but not the folders" in note for note in read(root).notes) == is_noted


# ------------------------------------------------------------------ folders


@pytest.mark.parametrize("inner", ["images/", "", "data/images/"])
def test_domains_that_hold_the_same_classes_are_no_classes(tmp_path, inner):
    root = make(tmp_path / "set", *names(f"amazon/{inner}{{}}/0.png", f"webcam/{inner}{{}}/0.png"))
    with refused(SourceError, "amazon was taken for a class, but holds no images, only the fold"):
        read(root)


@pytest.mark.parametrize("other", ["masks", "annotations"])
def test_masks_in_the_classes_are_refused(tmp_path, other):
    root = make(tmp_path / "set", *names("{}/images/0.png", f"{{}}/{other}/0.png"))
    with refused(SourceError, f"each class holds the folders {other}, images|images, {other}"):
        read(root)


def test_images_named_like_masks_of_others_are_counted_in_a_note(tmp_path):
    root = make(
        tmp_path / "set",
        *names("{}/1.png", "{}/1_mask.png", "{}/1_mask_1.png", "{}/gas_mask.png"),
    )
    note = next(note for note in read(root).notes if "masks" in note)
    assert note.startswith("warning: 4 images")
    assert "a/1_mask.png" in note


def test_split_in_several_folders_is_refused_and_in_one_with_a_letter_read(tmp_path):
    root = make(
        tmp_path / "set", *names("train.X1/{}/0.png", "train.X2/{}/0.png", "val.X/{}/0.png")
    )
    with refused(SourceError, "train is in 2 folders: train.X1, train.X2"):
        read(root)
    for name in "ab":
        (root / "train.X2" / name / "0.png").rename(root / "train.X1" / name / "1.png")
    for folder in ("train.X2/a", "train.X2/b", "train.X2"):
        (root / folder).rmdir()
    source = read(root)
    assert {split: len(images) for split, images in source.images.items()} == {"train": 4, "val": 2}


@pytest.mark.parametrize("name", ["validate", "Valset", "val_images"])
def test_more_names_of_splits_are_known(tmp_path, name):
    root = make(tmp_path / "set", *names("train/{}/0.png", f"{name}/{{}}/1.png"))
    assert len(read(root).images["val"]) == 2


def test_split_whose_classes_hold_no_image_is_refused(tmp_path):
    root = make(tmp_path / "set", *names("train/{}/0.png"), texts={"val/a/notes.txt": "none"})
    with refused(SourceError, "val: no image was found in its class folders"):
        read(root)


@pytest.mark.parametrize("pair", [("Cat", "cat"), ("01", "1"), ("a b", "a_b")])
def test_classes_that_look_alike_are_named(tmp_path, pair):
    root = make(tmp_path / "set", *(f"{name}/0.png" for name in (*pair, "dog")))
    assert (
        f"warning: {pair[0]!r} and {pair[1]!r} look alike and are two classes" in read(root).notes
    )


# ------------------------------------------------------------------ what is beside and not read


def test_split_as_a_link_that_leads_nowhere_is_refused(tmp_path):
    root = make(tmp_path / "set", *names("train/{}/0.png"))
    (root / "val").symlink_to(tmp_path / "elsewhere")
    with refused(SourceError, "val is a link that leads nowhere"):
        read(root)


@pytest.mark.parametrize("first", ["tar", "parquet", "folder"])
@pytest.mark.parametrize("second", ["tar", "parquet", "folder"])
@pytest.mark.parametrize("splits", [("train", "val"), ("val", "train")])
def test_split_of_another_layout_is_never_dropped(tmp_path, first, second, splits):
    root = tmp_path / "set"
    for split, kind in zip(splits, (first, second), strict=True):
        if kind == "folder":
            make(root, *names(f"{split}/{{}}/{split}.png", classes="01"))
        elif kind == "tar":
            make_tar(root / f"{split}-000.tar", 0, 1)
        else:
            make_parquet(root / f"{split}.parquet", 0, 1)
    if first == second:
        assert all(len(images) == 2 for images in read(root).images.values())
        return
    with refused(SourceError, "images seem to be in .* not of that layout"):
        read(root)


def test_layout_that_is_named_is_read_alone_and_the_rest_noted(tmp_path):
    make_tar(tmp_path / "set/train-000.tar", 0, 1)
    make(tmp_path / "set", *names("val/{}/0.png"))
    source = read(tmp_path / "set", layout="webdataset")
    assert source.notes == ("warning: not read, though beside: val",)


def test_other_archives_beside_are_noted(tmp_path):
    make_tar(tmp_path / "tars/train-000.tar", 0, 1)
    make_tar(tmp_path / "tars/more-000.tar", 0, 1)
    (tmp_path / "tars/empty").mkdir()
    assert read(tmp_path / "tars").notes == ("warning: not read, though beside: more-000.tar",)
    make_parquet(tmp_path / "files/data/train.parquet", 0, 1)
    make_parquet(tmp_path / "files/data/other.parquet", 0, 1)
    (note,) = read(tmp_path / "files").notes
    assert "named after no split" in note
    assert "other.parquet" in note


def test_missing_tars_of_a_numbered_series_are_noted(tmp_path):
    for number in (0, 1, 4):
        make_tar(tmp_path / f"set/train-{number:06d}.tar", 0, 1)
    make_tar(tmp_path / "set/val-000003.tar", 0, 1)
    notes = read(tmp_path / "set").notes
    assert notes == ("warning: 2 tars are missing, the first after train-000001.tar",)


def test_file_of_names_beside_parquet_files_names_their_classes(tmp_path):
    make_parquet(tmp_path / "set/train.parquet", 0, 1)
    (tmp_path / "set/classes.txt").write_text("cat\ndog\n")
    assert [entry.name for entry in read(tmp_path / "set").classes] == ["cat", "dog"]


def test_parquet_images_none_of_which_has_a_name_are_read(tmp_path):
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [{"bytes": image(), "path": None} for _ in range(2)]
    parquet.write_table(pa.table({"image": rows, "label": [0, 1]}), tmp_path / "train.parquet")
    found = read(tmp_path).images["train"]
    assert [(entry.name, entry.label) for entry in found] == [
        ("train_000000", 0),
        ("train_000001", 1),
    ]


def make_named_parquet(path: Path, names: list[str]) -> None:
    """Write a file whose schema names the classes, as Hugging Face's library does."""
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": names}}
    about = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    rows = [{"bytes": image(), "path": f"{number}.png"} for number in range(len(names))]
    table = pa.table({"image": rows, "label": list(range(len(names)))})
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table.replace_schema_metadata(about), path)


@pytest.mark.parametrize(
    ("first", "second"),
    [("train-00000-of-00002", "train-00001-of-00002"), ("train", "validation")],
)
@pytest.mark.parametrize("others", [["dog", "cat"], ["cat", "dog", "owl"], ["cat", "fox"]])
def test_parquet_files_that_number_their_classes_otherwise_are_refused(
    tmp_path, first, second, others
):
    make_named_parquet(tmp_path / "set" / f"{first}.parquet", ["cat", "dog"])
    make_named_parquet(tmp_path / "set" / f"{second}.parquet", others)
    with refused(SourceError, rf"{second}.parquet: its schema calls label \d '\w+', but it is '"):
        read(tmp_path / "set")


def test_list_of_classes_in_another_order_than_parquet_names_them_is_refused(tmp_path):
    make_named_parquet(tmp_path / "set/train.parquet", ["cat", "dog"])
    (tmp_path / "list.txt").write_text("dog\ncat\n")
    with refused(SourceError, "its schema says 'cat', but its label is 0, which is 'dog'"):
        read(tmp_path / "set", classes=read_class_list(tmp_path / "list.txt"))
    (tmp_path / "list.txt").write_text("Katze\nHund\n")
    source = read(tmp_path / "set", classes=read_class_list(tmp_path / "list.txt"))
    assert [entry.name for entry in source.classes] == ["Katze", "Hund"]
