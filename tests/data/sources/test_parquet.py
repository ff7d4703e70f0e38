"""Hugging Face's files: what is listed, what is refused, and what the staged files hold."""

import builtins
import json
import random
import shutil
import sys
from pathlib import Path

import pytest
from helpers import refused

from alexnet_cli.data.sources import parquet
from alexnet_cli.data.sources.class_list import ClassList
from alexnet_cli.data.sources.parquet import read_parquet
from alexnet_cli.data.sources.source import Source
from alexnet_cli.data.sources.staging import fill_staging
from alexnet_cli.errors import ImageError, MachineError, SourceError, UsageError
from alexnet_cli.io.progress import SILENT

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
A, B = "n00000001", "n00000002"
TRAIN = [(f"{A}_1.JPEG", 0), (f"{B}_1.JPEG", 1), (f"{A}_2.JPEG", 0), (f"{B}_2.JPEG", 1)]
VAL = [("ILSVRC2012_val_00000002.JPEG", 1), ("ILSVRC2012_val_00000001.JPEG", 0)]


def image(name: str | None) -> dict:
    return {"bytes": f"bytes of {name}".encode(), "path": name}


def write(path: Path, images: list, labels: list, *, names=None, label_type=None) -> Path:
    table = pa.table({"image": pa.array(images, IMAGE), "label": pa.array(labels, label_type)})
    if names:
        features = {"label": {"names": names, "_type": "ClassLabel"}}
        metadata = {"huggingface": json.dumps({"info": {"features": features}})}
        table = table.replace_schema_metadata(metadata)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=2, write_page_checksum=True)
    return path


def write_rows(path: Path, rows: list[tuple[str | None, int]], **kwargs) -> Path:
    return write(path, [image(n) for n, _ in rows], [label for _, label in rows], **kwargs)


@pytest.fixture
def source(tmp_path) -> Path:
    folder = tmp_path / "source"
    write_rows(folder / "train-00000-of-00002.parquet", TRAIN[:2])
    write_rows(folder / "train-00001-of-00002.parquet", TRAIN[2:])
    write_rows(folder / "validation-00000-of-00001.parquet", VAL)
    return folder


def read(source: Path, *, fill: bool = True) -> Source:
    release = read_parquet(source, source.parent / "staging")
    if fill:
        fill_staging(release.staged, SILENT)
    return release


def listed(source: Source, split: str) -> list[tuple[str, int]]:
    return [(p.name, p.label) for p in source.images[split]]


def test_rows_are_listed_with_their_names_labels_and_bytes(source):
    release = read(source)
    assert listed(release, "train") == sorted(TRAIN, key=lambda row: (row[1], row[0]))
    assert listed(release, "val") == sorted(VAL)
    for split in ("train", "val"):
        for image in release.images[split]:
            assert image.read() == f"bytes of {image.name}".encode()


def test_wnids_in_the_names_name_the_classes(source):
    assert [entry.wnid for entry in read(source).classes] == [A, B]


def test_files_in_a_data_folder_are_found(source, tmp_path):
    (tmp_path / "hub").mkdir()
    source.rename(tmp_path / "hub" / "data")
    assert listed(read(tmp_path / "hub"), "val") == sorted(VAL)


def test_wnid_that_hugging_face_adds_to_a_name_is_taken_off(source):
    rows = [(f"{name[:-5]}_{(A, B)[label]}.JPEG", label) for name, label in VAL]
    write_rows(source / "validation-00000-of-00001.parquet", rows)
    release = read(source)
    assert listed(release, "val") == sorted(VAL)
    assert [entry.wnid for entry in release.classes] == [A, B]


def test_class_names_come_from_the_schema(source):
    for part in (0, 1):
        rows = TRAIN[2 * part : 2 * part + 2]
        path = source / f"train-0000{part}-of-00002.parquet"
        write_rows(path, rows, names=["tench", "goldfish"])
    assert [(e.wnid, e.name) for e in read(source).classes] == [(A, "tench"), (B, "goldfish")]


def test_names_without_wnids_leave_classes_by_number(tmp_path):
    write_rows(tmp_path / "s" / "train.parquet", [("a.png", 0), ("b.png", 1)])
    assert [entry.wnid for entry in read(tmp_path / "s").classes] == ["0", "1"]


def test_test_rows_without_a_label_are_ignored_and_counted(source):
    write(source / "test-00000-of-00001.parquet", [image("x")] * 3, [-1, None, -1])
    release = read(source)
    assert "test" not in release.images
    assert release.ignored == {"test image without a label": 3}
    assert [file.path.name[:4] for file in release.staged] == ["trai", "trai", "vali"]


def test_test_rows_with_labels_are_a_split(source):
    write_rows(source / "test-00000-of-00001.parquet", [("t.JPEG", 1)])
    assert listed(read(source), "test") == [("t.JPEG", 1)]


@pytest.mark.parametrize(
    "row", [None, {"bytes": None, "path": f"{A}_9.JPEG"}, {"bytes": b"", "path": None}]
)
def test_row_without_an_image_is_left_to_prep_to_reject(source, row):
    write(source / "validation-00000-of-00001.parquet", [row, image(VAL[0][0])], [0, 1])
    release = read(source)
    assert sorted(found.read() for found in release.images["val"])[0] == b""
    assert len(release.images["val"]) == 2


@pytest.mark.parametrize("hostile", ["../../x.JPEG", "/etc/passwd", "a\\..\\x.JPEG", "https://h/x"])
def test_path_is_only_ever_a_name(source, hostile):
    write(source / "validation-00000-of-00001.parquet", [image(hostile)], [0])
    release = read(source)
    (found,) = release.images["val"]
    assert found.name in ("x.JPEG", "passwd", "x")
    assert found.read() == f"bytes of {hostile}".encode()
    assert {path.name for path in (source.parent / "staging").iterdir()} == {
        f"{path.stem}.rows" for path in source.iterdir()
    }


def test_row_without_a_name_is_called_after_file_and_row(source):
    write(source / "validation-00000-of-00001.parquet", [image(None)], [0])
    assert listed(read(source), "val") == [("validation-00000-of-00001_000000", 0)]


@pytest.mark.parametrize(
    ("label", "names", "pattern"),
    [
        (-1, None, "row 1 .*label -1"),
        (None, None, "row 1 .*no label"),
        (2, ["tench", "goldfish"], "row 1 .*label 2, but the 2 classes end at 1"),
    ],
)
def test_label_that_no_class_has_is_refused_by_file_and_row(source, label, names, pattern):
    path = source / "train-00000-of-00002.parquet"
    write(path, [image(TRAIN[0][0]), image(TRAIN[1][0])], [0, label], names=names)
    with refused(SourceError, f"{path.name}: {pattern}"):
        read(source)


def test_held_out_label_that_training_lacks_is_refused(source):
    write_rows(source / "validation-00000-of-00001.parquet", [("v.JPEG", 2)])
    with refused(SourceError, r"v\.JPEG: label 2, but the training labels end at 1"):
        read(source)


def write_other_columns(path: Path, **columns) -> None:
    path.unlink()
    pq.write_table(pa.table(columns), path)


IMAGES = pa.array([image("a")], IMAGE)


@pytest.mark.parametrize(
    ("columns", "pattern"),
    [
        ({"image": IMAGES}, "no column is known as the label; it has image .struct"),
        ({"label": [1]}, "no column is known as the image; it has label .int64"),
        ({"image": ["x"], "label": [1]}, "column image is string, not the bytes"),
        ({"image": [[1, 2]], "label": [1]}, "column image is list<"),
        ({"image": IMAGES, "label": [1.5]}, "column label is double"),
        ({"image": IMAGES, "label": [1.5], "id": [1]}, "column label is double"),
        ({"image": IMAGES, "labels": [[1, 2]]}, "column labels is list<"),
        ({"image": IMAGES, "id": [1]}, "no column is known as the label"),
        ({"image": IMAGES, "caption": ["x"]}, "no column is known as the label"),
        ({"a": IMAGES, "b": IMAGES, "label": [1]}, "2 columns may be the image: a, b"),
        (
            {"img": IMAGES, "fine_label": [1], "coarse_label": [0]},
            r"2 columns may be the label: fine_label, coarse_label.*\n(.*\n)?.*"
            r"--columns image=img,label=fine_label",
        ),
    ],
)
def test_other_columns_are_refused_by_name(source, columns, pattern):
    path = source / "train-00000-of-00002.parquet"
    write_other_columns(path, **columns)
    with refused(SourceError, f"{path.name}: {pattern}"):
        read(source)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.99])
def test_cut_file_is_refused_by_name(source, share):
    path = source / "train-00001-of-00002.parquet"
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with refused(SourceError, rf"{path.name}: the file is cut or damaged"):
        read(source)


def test_damaged_bytes_are_refused_when_they_are_copied(source):
    path = source / "train-00001-of-00002.parquet"
    content = bytearray(path.read_bytes())
    content[content.index(b"bytes of ") + 3] ^= 1
    path.write_bytes(content)
    release = read(source, fill=False)
    with refused(SourceError, rf"{path.name}: the file is cut or damaged"):
        fill_staging(release.staged, SILENT)


def test_file_that_changed_after_its_labels_were_listed_is_refused(source):
    release = read(source, fill=False)
    write_rows(source / "train-00001-of-00002.parquet", TRAIN[:2])
    with refused(SourceError, r"train-00001-of-00002\.parquet: changed while prep"):
        fill_staging(release.staged, SILENT)


def test_missing_part_is_named(source):
    (source / "train-00000-of-00002.parquet").unlink()
    with refused(SourceError, r"1 of 2 train files are missing.*number 00000"):
        read(source)


def test_listing_writes_nothing(source):
    read(source, fill=False)
    assert [path.name for path in source.parent.iterdir()] == ["source"]


def test_image_whose_staged_file_is_missing_is_unreadable(source):
    release = read(source, fill=False)
    with pytest.raises(ImageError, match="unreadable"):
        release.images["train"][0].read()


def test_other_files_are_not_recognized(tmp_path):
    (tmp_path / "notes.parquet").touch()
    assert read_parquet(tmp_path, tmp_path / "staging") is None


def test_without_pyarrow_the_command_that_installs_it_is_shown(source, monkeypatch):
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with refused(MachineError, r'pip install "alexnet-cli\[parquet\]"'):
        read(source)


def test_pyarrow_is_loaded_for_parquet_alone():
    import subprocess

    program = "import sys, alexnet_cli.data.sources.detect; sys.exit('pyarrow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize(
    ("bytes_kind", "path_kind", "pattern"),
    [
        (pa.string(), pa.string(), "column image is struct<bytes: string"),
        (pa.int64(), pa.string(), "column image is struct<bytes: int64"),
        (pa.binary(), pa.int64(), "image.path is int64"),
        (pa.binary(), pa.binary(), "image.path is binary"),
    ],
)
def test_parts_of_other_types_are_refused(source, bytes_kind, path_kind, pattern):
    kind = pa.struct([("bytes", bytes_kind), ("path", path_kind)])
    images = pa.array([None, None], kind)
    pq.write_table(pa.table({"image": images, "label": [0, 1]}), source / "train.parquet")
    with refused(SourceError, pattern):
        read(source)


def test_two_columns_of_one_name_are_refused(source):
    columns = [pa.array([image("a")], IMAGE), pa.array([0]), pa.array([1])]
    table = pa.Table.from_arrays(columns, names=["image", "label", "label"])
    pq.write_table(table, source / "train.parquet")
    with refused(SourceError, "2 columns are named label"):
        read(source)


@pytest.mark.parametrize("packing", ["zstd", "gzip"])
def test_images_packed_a_hundredfold_are_refused_before_they_are_unpacked(
    source, monkeypatch, packing
):
    images = pa.array([{"bytes": bytes(200_000), "path": "a"}], IMAGE)
    path = source / "test.parquet"
    table = pa.table({"image": images, "label": [0]})
    pq.write_table(table, path, compression=packing, use_dictionary=False)
    read(source)
    monkeypatch.setattr(parquet, "MAX_FILE_BYTES", 100_000)
    with refused(SourceError, r"test\.parquet: [\d,]+ bytes of image.bytes would unpack"):
        read(source, fill=False)


def table_of(image: str, label: str, labels: list, images: pa.Array | None = None) -> pa.Table:
    cells = [image_of(k) for k in range(len(labels))]
    return pa.table({image: pa.array(cells, IMAGE) if images is None else images, label: labels})


def image_of(number: int) -> dict:
    return {"bytes": f"bytes {number}".encode(), "path": None}


def save(folder: Path, name: str, table: pa.Table, features: dict | None = None) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if features:
        about = {"huggingface": json.dumps({"info": {"features": features}})}
        table = table.replace_schema_metadata(about)
    pq.write_table(table, path)
    return folder


def labels_and_bytes(source: Source, split: str = "train") -> list[tuple[int, bytes]]:
    return [(image.label, image.read()) for image in source.images[split]]


EXPECTED = [(0, b"bytes 0"), (0, b"bytes 2"), (1, b"bytes 1")]
FEATURES = {
    "photo": {"_type": "Image"},
    "mask": {"dtype": "binary", "_type": "Value"},
    "kind": {"names": ["ant", "bee"], "_type": "ClassLabel"},
    "year": {"dtype": "int64", "_type": "Value"},
}


@pytest.mark.parametrize(
    ("image", "label"),
    [("img", "label"), ("image", "labels"), ("Picture", "fine_label"), ("x", "target"), ("x", "n")],
)
def test_columns_are_found_by_name_or_type(tmp_path, image, label):
    release = read(save(tmp_path / "s", "train.parquet", table_of(image, label, [0, 1, 0])))
    assert labels_and_bytes(release) == EXPECTED
    assert release.notes == (f"images are in the column {image}, labels in {label}",)


def test_columns_are_found_by_the_schema_of_the_hub(tmp_path):
    table = table_of("photo", "kind", [0, 1, 0])
    table = table.append_column("mask", pa.array([b"m"] * 3)).append_column(
        "year", pa.array([7] * 3)
    )
    release = read(save(tmp_path / "s", "train.parquet", table, FEATURES))
    assert labels_and_bytes(release) == EXPECTED
    assert [entry.name for entry in release.classes] == ["ant", "bee"]


@pytest.mark.parametrize(
    "kind", [pa.binary(), pa.large_binary(), pa.struct([("bytes", pa.binary())])]
)
def test_images_without_a_name_are_called_after_file_and_row(tmp_path, kind):
    cells = [b"bytes 0", b"bytes 1", b"bytes 2"]
    cells = [{"bytes": cell} for cell in cells] if pa.types.is_struct(kind) else cells
    table = table_of("image", "label", [0, 1, 0], pa.array(cells, kind))
    release = read(save(tmp_path / "s", "train.parquet", table))
    assert labels_and_bytes(release) == EXPECTED
    assert release.images["train"][0].name == "train_000000"


@pytest.mark.parametrize("kind", [pa.string(), pa.dictionary(pa.int8(), pa.string())])
def test_texts_are_classes_in_sorted_order(tmp_path, kind):
    folder = tmp_path / "s"
    save(folder, "train.parquet", table_of("image", "label", pa.array(["cat", "dog", "cat"], kind)))
    save(folder, "val.parquet", table_of("image", "label", pa.array(["dog"], kind)))
    release = read(folder)
    assert labels_and_bytes(release) == EXPECTED
    assert labels_and_bytes(release, "val") == [(1, b"bytes 0")]
    assert [(e.wnid, e.name) for e in release.classes] == [("cat", "cat"), ("dog", "dog")]


def test_texts_that_are_numbers_are_in_the_order_of_numbers(tmp_path):
    names = [str(number) for number in range(11)]
    release = read(save(tmp_path / "s", "train.parquet", table_of("image", "label", names)))
    assert [entry.wnid for entry in release.classes] == names


@pytest.mark.parametrize(
    ("text", "pattern"), [("cow", "'cow' is none of the 2"), ("Cat", "is 'cat'")]
)
def test_held_out_text_that_training_lacks_is_refused(tmp_path, text, pattern):
    save(tmp_path / "s", "train.parquet", table_of("image", "label", ["cat", "dog"]))
    save(tmp_path / "s", "val.parquet", table_of("image", "label", [text]))
    with refused(SourceError, pattern):
        read(tmp_path / "s")


def test_list_of_classes_numbers_texts_and_names_numbers(tmp_path):
    listed = ClassList(("dog", "cow", "cat"), "list.txt")
    save(tmp_path / "a", "train.parquet", table_of("image", "label", ["cat", "dog"]))
    save(tmp_path / "b", "train.parquet", table_of("image", "label", [2, 0]))
    for name in "ab":
        release = read_parquet(tmp_path / name, tmp_path / "staging", classes=listed)
        assert [image.label for image in release.images["train"]] == [0, 2]
        assert [entry.name for entry in release.classes] == ["dog", "cow", "cat"]


def test_columns_may_be_named(tmp_path):
    table = table_of("img", "fine", [3, 4, 5]).append_column("coarse", pa.array([0, 1, 0]))
    save(tmp_path / "s", "train.parquet", table)
    release = read_parquet(tmp_path / "s", tmp_path / "staging", columns="image=img,label=coarse")
    assert [image.label for image in release.images["train"]] == [0, 0, 1]
    for columns, kind, pattern in (
        ("label=medium", SourceError, "no column medium; it has img"),
        ("label", UsageError, "not image=NAME,label=NAME"),
        ("labels=fine", UsageError, "not image=NAME,label=NAME"),
    ):
        with refused(kind, pattern):
            read_parquet(tmp_path / "s", tmp_path / "staging", columns=columns)


@pytest.mark.parametrize(
    ("train", "val"),
    [
        ("plain_text/train-00000-of-00001.parquet", "plain_text/test-00000-of-00001.parquet"),
        ("default/train/0000.parquet", "default/test/0000.parquet"),
        ("a/data/partial-train/0000.parquet", "a/data/test/0000.parquet"),
        ("train/part-0.parquet", "Testing/part-0.parquet"),
        ("food-train.parquet", "food-test.parquet"),
        ("train/default/0000.parquet", "test/default/0000.parquet"),
    ],
)
def test_files_are_found_where_the_hub_and_others_put_them(tmp_path, train, val):
    save(tmp_path / "s", train, table_of("image", "label", [0, 1, 0]))
    save(tmp_path / "s", val, table_of("image", "label", [1]))
    release = read(tmp_path / "s")
    assert labels_and_bytes(release) == EXPECTED
    assert labels_and_bytes(release, "test") == [(1, b"bytes 0")]


def test_several_configurations_are_refused_with_the_folder_to_name(tmp_path):
    for config in ("full", "small"):
        save(tmp_path / "s", f"{config}/train/0000.parquet", table_of("image", "label", [0]))
    with refused(
        SourceError, r"2 configurations: full, small\.[^/]*Name the folder of one: .*small"
    ):
        read(tmp_path / "s")
    assert len(read(tmp_path / "s/full").images["train"]) == 1


def test_missing_part_of_numbered_files_is_named(tmp_path):
    for number in (0, 2):
        save(tmp_path / "s", f"train/{number:04d}.parquet", table_of("image", "label", [0]))
    with refused(SourceError, "1 of 3 train files are missing, the first is number 00001"):
        read(tmp_path / "s")


def test_file_with_other_columns_than_the_first_is_refused(tmp_path):
    save(tmp_path / "s", "train.parquet", table_of("image", "label", [0]))
    save(tmp_path / "s", "val.parquet", table_of("image", "labels", [0]))
    with refused(
        SourceError, r"val\.parquet: .* image and labels, but in .* image and label of train"
    ):
        read(tmp_path / "s")


def test_test_set_without_a_column_of_labels_is_counted(tmp_path):
    save(tmp_path / "s", "validation.parquet", table_of("image", "label", [0, 1]))
    save(tmp_path / "s", "test.parquet", pa.table({"image": pa.array([image_of(0)] * 3, IMAGE)}))
    release = read(tmp_path / "s")
    assert release.ignored == {"test image without a label": 3}
    assert len(release.images["val"]) == 2


@pytest.mark.parametrize("name", ["train/cat/a.jpg", "train/a.png"])
def test_metadata_of_class_folders_is_no_source_of_its_own(tmp_path, name):
    save(tmp_path / "s", "train/metadata.parquet", pa.table({"file_name": ["a"]}))
    (tmp_path / "s" / name).parent.mkdir(exist_ok=True)
    (tmp_path / "s" / name).touch()
    assert read_parquet(tmp_path / "s", tmp_path / "staging") is None


def varint(number: int) -> bytes:
    """Return how the footer writes a number that is not negative."""
    number, content = 2 * number, b""
    while number >= 128:
        content += bytes([number % 128 + 128])
        number //= 128
    return content + bytes([number])


def lie(path: Path, old: int, new: int, count: int = -1) -> None:
    """Replace a number in the footer by another one of as many bytes."""
    content = path.read_bytes()
    start = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    assert len(varint(old)) == len(varint(new))
    assert varint(old) in content[start:]
    footer = content[start:].replace(varint(old), varint(new), count)
    path.write_bytes(content[:start] + footer)


@pytest.mark.parametrize(
    ("count", "pattern"), [(1, r"20,001 rows, but 20,000 in"), (-1, r"rows in [\d,]+ bytes")]
)
def test_rows_that_are_not_there_are_refused(tmp_path, count, pattern):
    path = save(tmp_path / "s", "train.parquet", table_of("image", "label", [0] * 20_000))
    path /= "train.parquet"
    lie(path, 20_000, 20_001 if count == 1 else 1_000_000, count)
    with refused(SourceError, rf"train\.parquet: .*{pattern}"):
        read(tmp_path / "s", fill=False)


def test_pages_that_are_larger_than_the_footer_says_are_refused(tmp_path, monkeypatch):
    images = pa.array([{"bytes": bytes(200_000), "path": "a"}], IMAGE)
    folder, path = tmp_path / "s", tmp_path / "s/train.parquet"
    folder.mkdir()
    table = pa.table({"image": images, "label": [0]})
    pq.write_table(table, path, compression="zstd", use_dictionary=False)
    size = pq.ParquetFile(path).metadata.row_group(0).column(0).total_uncompressed_size
    lie(path, size, 20_000)
    read(folder)
    monkeypatch.setattr(parquet, "MAX_FILE_BYTES", 100_000)
    with refused(SourceError, "of image.bytes would unpack to 200,"):
        read(folder, fill=False)


def test_file_with_any_bytes_changed_is_read_or_refused(tmp_path):
    rng = random.Random(7)
    folder = save(tmp_path / "s", "train.parquet", table_of("image", "label", [0, 1] * 5))
    path = folder / "train.parquet"
    content = path.read_bytes()
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    refusals = 0
    for _ in range(150):
        changed = bytearray(content)
        changed[rng.randrange(footer, len(content))] = rng.randrange(256)
        changed[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        path.write_bytes(changed)
        shutil.rmtree(tmp_path / "staging", ignore_errors=True)
        try:
            release = read_parquet(folder, tmp_path / "staging")
            fill_staging(release.staged, SILENT)
        except SourceError:
            refusals += 1
    assert refusals > 50
