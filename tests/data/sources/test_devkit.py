import gzip
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from helpers import refused, tar_of

from alexnet_cli.data.sources.devkit import read_devkit
from alexnet_cli.errors import SourceError
from alexnet_cli.types import ImageClass

# (devkit id, wnid, words, num_children): ids follow the words, labels must follow the wnids.
ROWS = (
    (1, "n03", "ant, emmet", 0),
    (2, "n01", "bee", 0),
    (3, "n04", "cat", 0),
    (4, "n02", "dog", 0),
    (5, "n09", "animal", 4),
)


def meta_mat(rows=ROWS, id_field: str = "ILSVRC2012_ID") -> bytes:
    fields = (id_field, "WNID", "words", "gloss", "num_children")
    values = [(number, wnid, words, "", children) for number, wnid, words, children in rows]
    synsets = np.array(values, dtype=[(field, object) for field in fields])[:, None]
    file = io.BytesIO()
    scipy.io.savemat(file, {"synsets": synsets})
    return file.getvalue()


def write_kit(
    folder: Path, *, meta: bytes | None = None, truth: str | None = "3\n1\n1\n4\n", year: int = 2012
) -> Path:
    """Write a development kit of four classes, with parts replaced or (empty) left out."""
    members = {
        "kit/data/meta.mat": meta_mat() if meta is None else meta,
        f"kit/data/ILSVRC{year}_validation_ground_truth.txt": truth.encode(),
        "kit/readme.txt": b"Read me.\n",
    }
    path = folder / "kit.tar.gz"
    packed = tar_of({name: content for name, content in members.items() if content})
    path.write_bytes(gzip.compress(packed, mtime=0))
    return path


def test_classes_stand_in_the_order_of_their_wnids(tmp_path):
    assert read_devkit(write_kit(tmp_path)).classes == (
        ImageClass("n01", "bee"),
        ImageClass("n02", "dog"),
        ImageClass("n03", "ant, emmet"),
        ImageClass("n04", "cat"),
    )


def test_validation_labels_are_positions_among_the_wnids_not_devkit_ids(tmp_path):
    kit = read_devkit(write_kit(tmp_path, truth="1\n2\n3\n4\n"))
    assert kit.val_labels == (2, 0, 3, 1)


def test_inner_nodes_of_the_tree_are_no_classes(tmp_path):
    assert "n09" not in [entry.wnid for entry in read_devkit(write_kit(tmp_path)).classes]


def test_kit_of_2010_reads_the_same(tmp_path):
    expected = read_devkit(write_kit(tmp_path))
    meta = meta_mat(id_field="ILSVRC2010_ID")
    assert read_devkit(write_kit(tmp_path, meta=meta, year=2010)) == expected


def test_unpacked_tar_reads_the_same(tmp_path):
    path = write_kit(tmp_path)
    expected = read_devkit(path)
    path.write_bytes(gzip.decompress(path.read_bytes()))
    assert read_devkit(path) == expected


def test_link_in_the_place_of_the_ground_truth_is_not_followed(tmp_path):
    file = io.BytesIO(tar_of({"kit/data/meta.mat": meta_mat(), "kit/notes.txt": b"1\n"}))
    with tarfile.open(fileobj=file, mode="a") as tar:
        link = tarfile.TarInfo("kit/data/ILSVRC2012_validation_ground_truth.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "../notes.txt"
        tar.addfile(link)
    path = tmp_path / "kit.tar"
    path.write_bytes(file.getvalue())
    with refused(SourceError, r"no \*validation_ground_truth.txt inside"):
        read_devkit(path)


@pytest.mark.parametrize(
    ("truth", "offender"),
    [("1\n7\n", "7"), ("0\n", "0"), ("5\n", "5"), ("1\nn01\n", "n01")],
    ids=["too large", "zero", "an inner node", "no number"],
)
def test_ground_truth_that_is_no_class_is_refused_and_quoted(tmp_path, truth, offender):
    with refused(SourceError, f"ground truth has .*{offender}"):
        read_devkit(write_kit(tmp_path, truth=truth))


def test_kit_without_meta_mat_is_refused(tmp_path):
    with refused(SourceError, r"no \*meta.mat inside"):
        read_devkit(write_kit(tmp_path, meta=b""))


def test_kit_without_ground_truth_is_refused(tmp_path):
    with refused(SourceError, r"no \*validation_ground_truth.txt inside"):
        read_devkit(write_kit(tmp_path, truth=""))


def other_variable() -> bytes:
    file = io.BytesIO()
    scipy.io.savemat(file, {"other": np.eye(2)})
    return file.getvalue()


@pytest.mark.parametrize(
    "meta",
    [
        pytest.param(b"not a MATLAB file", id="text"),
        pytest.param(meta_mat()[:300], id="cut"),
        pytest.param(other_variable(), id="without synsets"),
        pytest.param(meta_mat(id_field="number"), id="without ids"),
    ],
)
def test_damaged_meta_mat_is_refused(tmp_path, meta):
    with refused(SourceError, r"meta\.mat is damaged"):
        read_devkit(write_kit(tmp_path, meta=meta))


@pytest.mark.parametrize("extra", [(1, "n05", "eel", 0), (6, "n01", "eel", 0)], ids=["id", "wnid"])
def test_class_named_twice_is_refused(tmp_path, extra):
    with refused(SourceError, "names a class twice"):
        read_devkit(write_kit(tmp_path, meta=meta_mat((*ROWS, extra))))


def test_kit_cut_anywhere_is_refused(tmp_path):
    path = write_kit(tmp_path)
    whole = path.read_bytes()
    for length in range(0, len(whole), 41):
        path.write_bytes(whole[:length])
        with pytest.raises(SourceError):
            read_devkit(path)


def test_flipped_bit_never_changes_a_label_unnoticed(tmp_path):
    path = write_kit(tmp_path, truth="1\n2\n3\n4\n" * 200)
    whole, expected = path.read_bytes(), read_devkit(path)
    noticed = 0
    for position in range(0, len(whole), 5):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        try:
            assert read_devkit(path) == expected, position
        except SourceError:
            noticed += 1
    assert noticed > 0.9 * len(range(0, len(whole), 5))


def test_refusal_takes_at_most_three_lines(tmp_path):
    path = tmp_path / "kit.tar.gz"
    path.write_bytes(b"<html>404</html>" * 100)
    with pytest.raises(SourceError) as refusal:
        read_devkit(path)
    assert str(refusal.value).count("\n") < 3
