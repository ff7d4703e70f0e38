"""Hugging Face's files: what is listed, what is refused, and what the staged files hold."""

import builtins
import json
import sys
from pathlib import Path

import pytest
from helpers import refused

from alexnet_cli.data.sources import parquet
from alexnet_cli.data.sources.parquet import read_parquet
from alexnet_cli.data.sources.source import Source
from alexnet_cli.data.sources.staging import fill_staging
from alexnet_cli.errors import ImageError, MachineError, SourceError
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
        ({"image": IMAGES}, "no column label"),
        ({"label": [1]}, "no column image.bytes"),
        ({"image": [b"x"], "label": [1]}, "no column image.bytes"),
        ({"image": pa.array([{"bytes": b"x"}]), "label": [1]}, "no column image.path"),
        ({"image": IMAGES, "label": ["dog"]}, "label is string"),
        ({"image": IMAGES, "label": [1.5]}, "label is double"),
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
    with refused(MachineError, "pip install pyarrow"):
        read(source)


def test_pyarrow_is_loaded_for_parquet_alone():
    import subprocess

    program = "import sys, alexnet_cli.data.sources.detect; sys.exit('pyarrow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize(
    ("bytes_kind", "path_kind", "pattern"),
    [
        (pa.string(), pa.string(), "image.bytes is string"),
        (pa.int64(), pa.string(), "image.bytes is int64"),
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
    with refused(SourceError, "two columns are named label"):
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
    with refused(SourceError, r"test\.parquet: [\d,]+ bytes of images would unpack"):
        read(source, fill=False)
