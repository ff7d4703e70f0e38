import shutil
from pathlib import Path

import pytest
from helpers import files_of, flip

import alexnet_cli.prep.repair as repair_module
from alexnet_cli.data.images.resize import to_jpeg
from alexnet_cli.errors import DatasetError, ImageError, MachineError
from alexnet_cli.io.progress import SILENT
from alexnet_cli.prep.audit import audit_dataset
from alexnet_cli.prep.build import PrepOptions, prep
from alexnet_cli.prep.repair import STAGING, repair


def audit(folder: Path):
    return audit_dataset(folder, deep=False, num_threads=1, progress=SILENT)


def put_right(folder: Path, source: Path) -> list[str]:
    how = {"layout": None, "num_workers": 1, "progress": SILENT}
    return repair(folder, source, audit(folder), **how)


@pytest.mark.parametrize(
    "names",
    [
        ["train-000001.tar"],
        ["val.samples.npy"],
        ["rejected.csv"],
        ["train-000000.tar", "val-000001.tar", "train.samples.npy", "rejected.csv"],
    ],
    ids=len,
)
@pytest.mark.parametrize("how", ["damaged", "missing"])
def test_exactly_what_is_damaged_is_made_again(copy, dataset, release, names, how):
    before = {path: path.stat().st_mtime_ns for path in copy.iterdir()}
    for name in names:
        flip(copy / name, 20) if how == "damaged" else (copy / name).unlink()
    assert sorted(put_right(copy, release)) == sorted(names)
    assert files_of(copy) == files_of(dataset)
    kept = {path: stamp for path, stamp in before.items() if path.name not in names}
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_swapped_and_renamed_shards_come_back(copy, dataset, release):
    (copy / "val-000000.tar").rename(copy / "x.tar")
    (copy / "val-000001.tar").rename(copy / "val-000000.tar")
    put_right(copy, release)
    assert files_of(copy) == files_of(dataset)


def test_shard_that_nothing_is_known_of_is_left(copy, release):
    (copy / "train-000009.tar").write_bytes(b"of somebody")
    assert put_right(copy, release) == []
    assert (copy / "train-000009.tar").read_bytes() == b"of somebody"


def test_another_source_is_refused_untouched(copy, tmp_path):
    (tmp_path / "other" / "cat").mkdir(parents=True)
    (tmp_path / "other" / "cat" / "1.jpg").write_bytes(b"x")
    flip(copy / "train-000001.tar", 2000)
    before = files_of(copy)
    with pytest.raises(DatasetError, match="is not what the dataset was made of"):
        put_right(copy, tmp_path / "other")
    assert files_of(copy) == before


def test_other_bytes_are_refused_and_everything_left(copy, release, monkeypatch):
    flip(copy / "train-000001.tar", 2000)
    flip(copy / "train.samples.npy", 20)
    before = files_of(copy)
    monkeypatch.setattr(
        "alexnet_cli.data.shards.writer.to_jpeg",
        lambda pixels, quality: to_jpeg(pixels, quality - 1),
    )
    with pytest.raises(DatasetError, match=r"train-000001.tar.* do not get the bytes they had"):
        put_right(copy, release)
    assert files_of(copy) == before


def test_damaged_index_cannot_be_repaired_by(copy, release):
    flip(copy / "index.json", 100)
    with pytest.raises(DatasetError, match="without its index"):
        put_right(copy, release)


def test_too_small_a_disk_is_refused_untouched(copy, release, monkeypatch):
    flip(copy / "train-000001.tar", 2000)
    before = files_of(copy)
    usage = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(MachineError, match="the repair needs"):
        put_right(copy, release)
    assert files_of(copy) == before


def test_what_a_killed_repair_left_goes(copy, dataset, release):
    (copy / STAGING).mkdir()
    (copy / STAGING / "train-000001.tar").write_bytes(b"half")
    flip(copy / "train-000001.tar", 2000)
    put_right(copy, release)
    assert files_of(copy) == files_of(dataset)


def test_rejected_images_are_tried_once_more_for_their_reasons(tmp_path):
    for name in ("ant", "bee"):
        (tmp_path / "in" / name).mkdir(parents=True)
        (tmp_path / "in" / name / "1.jpg").write_bytes(draw())
    (tmp_path / "in" / "ant" / "2.jpg").write_bytes(b"text")
    (tmp_path / "in" / "bee" / "2.jpg").write_bytes(b"")
    prep(tmp_path / "in", tmp_path / "out", PrepOptions(size=32, shard_size=3), num_workers=1)
    before = files_of(tmp_path / "out")
    (tmp_path / "out" / "rejected.csv").unlink()
    assert put_right(tmp_path / "out", tmp_path / "in") == ["rejected.csv"]
    assert files_of(tmp_path / "out") == before


def draw() -> bytes:
    import numpy as np

    return to_jpeg(np.full((40, 40, 3), 99, np.uint8))


def test_image_that_is_rejected_now_makes_other_bytes(copy, release, monkeypatch):
    def reject(image, size, quality):
        raise ImageError("corrupt", "today")

    monkeypatch.setattr("alexnet_cli.data.shards.writer.make_jpeg", reject)
    monkeypatch.setattr(repair_module, "make_jpeg", reject)
    flip(copy / "val-000001.tar", 2000)
    before = files_of(copy)
    with pytest.raises(DatasetError, match="do not get the bytes"):
        put_right(copy, release)
    assert files_of(copy) == before
