"""The measuring pass: what it finds, that it happens once, and which samples it refuses."""

import hashlib
import io
import json
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

from alexnet_cli.data.remote import measure as measure_module
from alexnet_cli.data.remote.measure import forget, measure_all, square_side
from alexnet_cli.data.remote.tar_set import open_tar
from alexnet_cli.data.remote.tar_stream import TarStream, image_size_of, read_samples
from alexnet_cli.data.sources.labels import MAX_CLASSES
from alexnet_cli.errors import DatasetError, InputError, SourceError

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def jpeg() -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (20, 30)).save(content, "jpeg")
    return content.getvalue()


def measured(path):
    return measure_all([str(path)], allow_pipe=False)[0]


def test_measure_contains_labels_keys_and_digest(tars):
    path = tars / "set-train-000002.tar"
    found = measured(path)
    assert found.labels == tuple(number % 3 for number in range(100, 112))
    assert found.keys == tuple(f"{number:06d}" for number in range(100, 112))
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert found.side == 32
    assert sorted(pair[:2] for pair in found.wnids) == [(0, None), (1, None), (2, None)]


def test_tar_is_read_once(tars, monkeypatch):
    path = tars / "set-train-000000.tar"
    first = measured(path)
    monkeypatch.setattr(measure_module, "open_tar", None)
    assert measured(path) == first
    forget(str(path))
    with pytest.raises(TypeError):
        measured(path)


def test_tar_is_read_once_by_several_threads(tars, monkeypatch):
    opened = []

    def open_counted(name, **how):
        opened.append(name)
        time.sleep(0.05)  # the others have looked by then
        return open_tar(name, **how)

    monkeypatch.setattr(measure_module, "open_tar", open_counted)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(measured, [tars / "set-train-000000.tar"] * 4))
    assert len(set(found)) == len(opened) == 1


def test_changed_tar_and_damaged_record_are_measured_again(tars, write_tar, cache):
    path = tars / "set-train-000000.tar"
    assert len(measured(path).labels) == 7
    for record in (cache / "measured").glob("*.json"):
        record.write_bytes(record.read_bytes().replace(b"[0, 1", b"[2, 1"))
    assert measured(path).labels[0] == 0
    path.write_bytes((tars / "set-train-000002.tar").read_bytes())
    assert len(measured(path).labels) == 12


@pytest.mark.parametrize(
    ("fields", "label"),
    [
        ({"cls": b"7"}, 7),
        ({"cls": b"7\n", "json": {"label": 7}}, 7),
        ({"json": {"label": 3, "caption": "a"}}, 3),
        ({"json": {"label": "4"}}, 4),
        ({"txt": b"5\n"}, 5),
        ({"txt": b"a caption", "json": {"label": 6}}, 6),
        ({"cls": b"2", "pkl": b"cos\nsystem\n(S'false'\ntR.", "pyd": b"x"}, 2),
    ],
)
def test_label_is_read_from_cls_json_or_txt(write_tar, jpeg, fields, label):
    path = write_tar("a.tar", [{"__key__": "a", "jpg": jpeg, **fields}])
    assert measured(path).labels == (label,)


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({}, "no label"),
        ({"txt": b"a caption"}, "no label"),
        ({"cls": b"-1"}, "no label"),
        ({"cls": b"cat"}, "streamed are numbers"),
        ({"cls": b"1.5"}, "whole number"),
        ({"cls": b"7\n", "json": {"label": 3}}, "label 7 in its .cls, but 3 in its .json"),
        ({"cls": b"1000000000"}, f"0..{MAX_CLASSES - 1}"),
        ({"cls": b"-2"}, f"0..{MAX_CLASSES - 1}"),
        ({"json": {"label": True}}, "whole number"),
        ({"json": b"{"}, "cannot be read"),
        ({"json": b"[" * 100_000}, "cannot be read"),
    ],
)
def test_sample_without_a_label_of_a_class_is_refused_by_key(write_tar, jpeg, fields, word):
    fields = {name: value for name, value in fields.items() if not isinstance(value, dict)} | {
        name: json.dumps(value).encode()
        for name, value in fields.items()
        if isinstance(value, dict)
    }
    path = write_tar("a.tar", [{"__key__": "odd key", "jpg": jpeg, **fields}])
    with pytest.raises(InputError, match="odd key.*" + word):
        measured(path)


def test_samples_without_an_image_are_skipped(write_tar, jpeg):
    entries = [{"__key__": "a", "cls": 1}, {"__key__": "b", "jpg": jpeg, "cls": 2}]
    assert measured(write_tar("a.tar", entries)).keys == ("b",)


def test_wnids_are_read_from_names_and_notes(write_tar, jpeg):
    entries = [
        {"__key__": "n01440764_1", "jpg": jpeg, "cls": 0},
        {"__key__": "n01440764_2", "jpg": jpeg, "cls": 0},
        {"__key__": "c", "jpg": jpeg, "cls": 1, "json": {"filename": "n01443537_9.JPEG"}},
        {"__key__": "d", "jpg": jpeg, "cls": 2, "json": {"wnid": "n01484850"}},
    ]
    found = measured(write_tar("a.tar", entries))
    assert [pair[:2] for pair in found.wnids] == [
        (0, "n01440764"),
        (1, "n01443537"),
        (2, "n01484850"),
    ]
    assert found.side == 0


def test_file_twice_in_a_sample_is_refused(tmp_path, jpeg):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for _ in range(2):
            tar.addfile(header := tarfile.TarInfo("a.jpg"), io.BytesIO(jpeg))
            header.size = len(jpeg)
    with pytest.raises(SourceError, match="duplicate"):
        measured(tmp_path / "a.tar")


@pytest.mark.parametrize("at", [0.3, 0.6, 0.9])
def test_truncated_tar_is_refused_and_not_recorded(tars, cache, at):
    path = tars / "set-train-000002.tar"
    content = path.read_bytes()
    path.write_bytes(content[: int(at * len(content))])
    for _ in range(2):  # were it remembered, it would pass the second time
        with pytest.raises(DatasetError, match="set-train-000002"):
            measure_all([str(path) for path in sorted(tars.iterdir())], allow_pipe=False)
    assert len(list((cache / "measured").glob("*.json"))) <= 3  # the others, if they came so far


def test_later_pass_that_differs_is_refused(tars):
    found = measured(tars / "set-train-000000.tar")
    found.check(7, found.sha256)
    with pytest.raises(DatasetError, match="6 samples, 7 were measured"):
        found.check(6, found.sha256)
    with pytest.raises(DatasetError, match="other bytes"):
        found.check(7, "0" * 64)


def test_sizes_are_read_from_headers(jpeg):
    assert image_size_of(jpeg) == (30, 20)
    png = io.BytesIO()
    Image.new("RGB", (8, 8)).save(png, "png")
    assert square_side(png.getvalue()) == 8
    assert image_size_of(b"no image") == (0, 0)


def test_samples_come_in_the_measured_order(tars):
    path = tars / "set-val-000000.tar"
    with path.open("rb") as file:
        keys = [sample.key for sample in read_samples(TarStream(file, "a"))]
    assert keys == list(measured(path).keys)
