"""Images in flat folders whose labels are in a file of any usual form."""

from pathlib import Path

import pytest
from helpers import refused

from alexnet_cli.cli.hints import message
from alexnet_cli.data.sources.detect import read_source
from alexnet_cli.data.sources.source import Source, SourceOptions
from alexnet_cli.errors import SourceError, UsageError

VAL = {"v0.JPEG": "b", "v1.JPEG": "a", "v2.JPEG": "b"}


def touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return root


@pytest.fixture
def folder(tmp_path) -> Path:
    """Class folders to train on, and flat validation images without labels."""
    touch(tmp_path / "set", "train/a/1.JPEG", "train/b/2.JPEG")
    return touch(tmp_path / "set", *(f"val/{name}" for name in VAL))


def read(folder: Path, labels: Path | None = None) -> Source:
    return read_source(folder, SourceOptions(folder / "staging", labels=labels))


def labeled(source: Source, split: str = "val") -> dict[str, str]:
    return {p.name: source.classes[p.label].wnid for p in source.images[split]}


@pytest.mark.parametrize(
    ("name", "row", "header"),
    [
        ("val/val_annotations.txt", "{name}\t{wnid}\t0\t0\t62\t62", ""),  # Tiny ImageNet
        ("val/LOC_val_solution.csv", "{stem},{wnid} 1 2 3 4", "ImageId,PredictionString"),
        ("val.txt", "{name} {number}", ""),  # Caffe
        ("val.csv", "{name},{wnid}", "image,label"),
        ("val_labels.csv", '"{wnid}","{stem}"', "breed,id"),
        ("labels.tsv", "{wnid}\tx\tval/{name}", "class\tsource\tpath"),
        ("val/metadata.csv", "{name},{number}", "file_name,label"),
        ("labels.csv", "{name};{wnid}", ""),
        ("val/metadata.jsonl", '{{"file_name": "{name}", "label": "{wnid}"}}', ""),
    ],
)
def test_file_of_labels_beside_flat_images_is_read(folder, name, row, header):
    rows = [
        row.format(name=name, stem=name.partition(".")[0], wnid=wnid, number="ab".index(wnid))
        for name, wnid in VAL.items()
    ]
    (folder / name).write_text("\r\n".join([header, *rows] if header else rows))
    source = read(folder)
    assert labeled(source) == VAL
    assert str(folder / name) in source.notes[-1]


def test_tiny_imagenet_is_read_with_its_words(tmp_path):
    names = {f"val_{n}.JPEG": wnid for n, wnid in enumerate(("n2", "n1", "n2"))}
    touch(tmp_path, *(f"train/{wnid}/images/{wnid}_0.JPEG" for wnid in ("n1", "n2")))
    touch(tmp_path, *(f"val/images/{name}" for name in names), "test/images/test_0.JPEG")
    rows = "".join(f"{name}\t{wnid}\t0\t0\t62\t62\n" for name, wnid in names.items())
    (tmp_path / "val/val_annotations.txt").write_text(rows)
    (tmp_path / "words.txt").write_text("n1\tgoldfish, Carassius auratus\n")
    source = read(tmp_path)
    assert labeled(source) == names
    assert [entry.name for entry in source.classes] == ["goldfish, Carassius auratus", "n2"]
    assert source.images["val"][0].source == "val/images/val_0.JPEG"
    assert source.ignored_by_split == {
        "train": {},
        "val": {"file beside the class folders": 1},
        "test": {"test image without a label": 1},
    }


def test_named_file_labels_images_without_class_folders(tmp_path):
    touch(tmp_path / "set", "1.jpg", "deep/2.jpg")
    (tmp_path / "any.csv").write_text("deep/2.jpg,golden retriever\n1.jpg,pug\n")
    source = read(tmp_path / "set", tmp_path / "any.csv")
    assert labeled(source, "train") == {"deep/2.jpg": "golden retriever", "1.jpg": "pug"}


def test_flat_training_images_take_their_classes_from_the_file(tmp_path):
    touch(tmp_path, "train/1.jpg", "train/2.jpg", "test/3.jpg", "test/4.jpg")
    (tmp_path / "labels.csv").write_text("id,breed\n1,pug\n2,beagle\n9,pug\n")
    source = read(tmp_path)
    assert [entry.wnid for entry in source.classes] == ["beagle", "pug"]
    assert labeled(source, "train") == {"1.jpg": "pug", "2.jpg": "beagle"}
    expected = {"row of labels.csv without its image": 1, "test image without a label": 2}
    assert source.ignored == expected


@pytest.mark.parametrize(
    ("rows", "pattern"),
    [
        ("v0.JPEG,a\nv1.JPEG,a\n", r"no row for 1 of 3 images, the first val/v2\.JPEG"),
        ("v0.JPEG,a\nv0.JPEG,b\nv1.JPEG,a\n", r"two classes for v0\.JPEG"),
        ("v0.JPEG,a\nv1.JPEG,zebra\nv2.JPEG,a\n", "class 'zebra' is none of the 2"),
        ("v0.JPEG,0\nv1.JPEG,2\nv2.JPEG,1\n", "class '2' is none of the 2"),
        ("v0.JPEG,a\nv1.JPEG\nv2.JPEG,a\n", "a row without a class"),
        ("x.JPEG,a\n", "no row names an image"),
        ("\n", "no rows"),
    ],
)
def test_file_that_does_not_fit_is_refused_by_name(folder, rows, pattern):
    (folder / "val.csv").write_text(rows)
    with refused(SourceError, rf"val\.csv.*{pattern}"):
        read(folder)


def test_flat_images_without_a_file_say_how_to_give_one(tmp_path):
    with refused(SourceError, "no class folders") as error:
        read(touch(tmp_path, "train/1.jpg"))
    assert "--labels FILE" in message(error.value)


def test_file_for_images_in_class_folders_is_a_usage_error(folder):
    with refused(UsageError, "--labels"):
        read(touch(folder, "val/a/1.JPEG"), folder / "any.csv")


@pytest.mark.parametrize("folder", ["images", "train_images", "."])
def test_file_beside_the_only_folder_of_images_labels_them(tmp_path, folder):
    touch(tmp_path / "set", *(f"{folder}/{number}.png" for number in range(4)))
    (tmp_path / "set/train.csv").write_text("image_id,label\n0,pug\n1,pug\n2,beagle\n3,pug\n")
    source = read(tmp_path / "set")
    assert [entry.wnid for entry in source.classes] == ["beagle", "pug"]
    assert labeled(source, "train")["2.png"] == "beagle"


@pytest.mark.parametrize("numbers", [("0", "1"), ("0.0", "1.0")])
def test_columns_of_0_and_1_are_the_classes(folder, numbers):
    rows = [f"{name},{numbers[wnid == 'a']},{numbers[wnid == 'b']}" for name, wnid in VAL.items()]
    (folder / "val.csv").write_text("\n".join(["image,a,b", *rows]))
    assert labeled(read(folder)) == VAL


@pytest.mark.parametrize("cells", ["{wnid},7", "1,1", "0,0", "1,"])
def test_column_of_classes_is_not_guessed_among_several(folder, cells):
    rows = [f"{name},{cells.format(wnid=wnid)}" for name, wnid in VAL.items()]
    (folder / "val.csv").write_text("\n".join(["image,dx,age", *rows]))
    with refused(SourceError, r"val\.csv: which column is the class\? It has image, dx, age"):
        read(folder)


def test_labels_that_count_from_1_are_explained(folder):
    rows = (f"{name} {'ab'.index(wnid) + 1}" for name, wnid in VAL.items())
    (folder / "val.txt").write_text("\n".join(rows))
    with refused(SourceError, "class '2' is none of the 2") as error:
        read(folder)
    assert "count from 1" in error.value.hint
