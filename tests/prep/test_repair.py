"""Lost and damaged files are made again to the bytes they had, or nothing is changed."""

import os
import shutil
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from helpers import Listener, draw_image, encoded, files_of, flip, refused

import alexnet_cli.prep.repair as repair_module
from alexnet_cli.data.images.resize import to_jpeg
from alexnet_cli.data.shards.index import FileRecord, read_index, write_index
from alexnet_cli.errors import DatasetError, ImageError, MachineError, Stopped
from alexnet_cli.io.progress import SILENT, Progress
from alexnet_cli.prep.audit import audit_dataset
from alexnet_cli.prep.build import prep
from alexnet_cli.prep.plan import PrepOptions, PrepRequest
from alexnet_cli.prep.repair import REPAIR_FOLDER, is_index, rebuild_samples, repair, restore_index


def audit(folder: Path):
    return audit_dataset(folder, deep=False, num_threads=1, progress=SILENT)


def repaired(folder: Path, source: Path, progress: Progress = SILENT) -> list[str]:
    found = audit(folder)
    return repair(folder, source, found, layout=None, num_workers=1, progress=progress)


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
    assert sorted(repaired(copy, release)) == sorted(names)
    assert files_of(copy) == files_of(dataset)
    kept = {path: stamp for path, stamp in before.items() if path.name not in names}
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_swapped_and_renamed_shards_come_back(copy, dataset, release):
    (copy / "val-000000.tar").rename(copy / "x.tar")
    (copy / "val-000001.tar").rename(copy / "val-000000.tar")
    repaired(copy, release)
    assert files_of(copy) == files_of(dataset)


def test_unknown_shard_is_kept(copy, release):
    (copy / "train-000009.tar").write_bytes(b"of somebody")
    assert repaired(copy, release) == []
    assert (copy / "train-000009.tar").read_bytes() == b"of somebody"


def test_another_source_is_refused_untouched(copy, tmp_path):
    (tmp_path / "other" / "cat").mkdir(parents=True)
    (tmp_path / "other" / "cat" / "1.jpg").write_bytes(b"x")
    flip(copy / "train-000001.tar", 2000)
    before = files_of(copy)
    with refused(DatasetError, "is not what the dataset was made of"):
        repaired(copy, tmp_path / "other")
    assert files_of(copy) == before


def test_other_bytes_are_refused_and_everything_left(copy, release, monkeypatch):
    flip(copy / "train-000001.tar", 2000)
    flip(copy / "train.samples.npy", 20)
    before = files_of(copy)
    monkeypatch.setattr(
        "alexnet_cli.data.shards.writer.to_jpeg",
        lambda pixels, quality: to_jpeg(pixels, quality - 1),
    )
    with refused(DatasetError, r"train-000001.tar.* do not get the bytes they had"):
        repaired(copy, release)
    assert files_of(copy) == before


def test_damaged_index_cannot_be_repaired_by(copy, release):
    flip(copy / "index.json", 100)
    with refused(DatasetError, "without its index"):
        repaired(copy, release)


def test_too_small_a_disk_is_refused_untouched(copy, release, monkeypatch):
    flip(copy / "train-000001.tar", 2000)
    before = files_of(copy)
    usage = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with refused(MachineError, "the shards still to be made need"):
        repaired(copy, release)
    assert files_of(copy) == before


class Stopping(Listener):
    """A progress that sends SIGTERM when the first shard is made."""

    def advance(self, count: int = 1, note: str = "") -> None:
        os.kill(os.getpid(), signal.SIGTERM)


def test_signal_stops_repair_and_changes_nothing(copy, release):
    for name in ("train-000000.tar", "train-000001.tar"):
        flip(copy / name, 2000)
    before = files_of(copy)
    with refused(Stopped, r"stopped: 1 of 2 shards are done\.\nNothing was changed\.") as stop:
        repaired(copy, release, Stopping())
    assert stop.value.exit_code == 143
    assert files_of(copy) == before


def test_files_of_a_killed_repair_are_removed(copy, dataset, release):
    (copy / REPAIR_FOLDER).mkdir()
    (copy / REPAIR_FOLDER / "train-000001.tar").write_bytes(b"half")
    flip(copy / "train-000001.tar", 2000)
    repaired(copy, release)
    assert files_of(copy) == files_of(dataset)


def test_rejected_images_are_tried_once_more_for_their_reasons(tmp_path):
    for name in ("ant", "bee"):
        (tmp_path / "in" / name).mkdir(parents=True)
        (tmp_path / "in" / name / "1.jpg").write_bytes(encoded(draw_image(40, 40)))
    (tmp_path / "in" / "ant" / "2.jpg").write_bytes(b"text")
    (tmp_path / "in" / "bee" / "2.jpg").write_bytes(b"")
    prep(
        PrepRequest(
            tmp_path / "in", tmp_path / "out", PrepOptions(size=32, shard_size=3), workers=1
        )
    )
    before = files_of(tmp_path / "out")
    (tmp_path / "out" / "rejected.csv").unlink()
    assert repaired(tmp_path / "out", tmp_path / "in") == ["rejected.csv"]
    assert files_of(tmp_path / "out") == before


def test_image_that_is_rejected_now_makes_other_bytes(copy, release, monkeypatch):
    def reject(image, size, quality):
        raise ImageError("corrupt", "today")

    monkeypatch.setattr("alexnet_cli.data.shards.writer.make_jpeg", reject)
    monkeypatch.setattr(repair_module, "make_jpeg", reject)
    flip(copy / "val-000001.tar", 2000)
    before = files_of(copy)
    with refused(DatasetError, "do not get the bytes"):
        repaired(copy, release)
    assert files_of(copy) == before


def rebuilt(folder: Path) -> list[str]:
    found = audit_dataset(folder, deep=False, num_threads=1, progress=SILENT)
    return rebuild_samples(folder, found.index, {finding.file for finding in found.findings})


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:300])


DAMAGES = [Path.unlink, partial(flip, place=200), cut]


@pytest.mark.parametrize("damage", DAMAGES, ids=["missing", "edited", "cut"])
@pytest.mark.parametrize("name", ["index.json", ".index.json"])
def test_index_and_copy_restore_each_other(copy, dataset, name, damage):
    damage(copy / name)
    assert restore_index(copy) == [name]
    assert files_of(copy) == files_of(dataset)
    assert restore_index(copy) == []


def test_copy_follows_an_index_that_can_be_trusted(copy, other_index):
    (copy / ".index.json").write_bytes(other_index)
    whole = (copy / "index.json").read_bytes()
    assert restore_index(copy) == [".index.json"]
    assert (copy / ".index.json").read_bytes() == (copy / "index.json").read_bytes() == whole


@pytest.fixture
def other_index(dataset) -> bytes:
    """An index that can be trusted, of another dataset."""
    return replace(read_index(dataset), tool="another").to_json().encode()


def test_two_damaged_indexes_are_unchanged(copy):
    flip(copy / "index.json", 200)
    cut(copy / ".index.json")
    before = files_of(copy)
    with refused(DatasetError, r"neither index.json nor its copy .*\nNothing was changed"):
        restore_index(copy)
    assert files_of(copy) == before


def test_folder_without_an_index_is_no_dataset_to_rebuild(tmp_path):
    with refused(DatasetError, "so no dataset"):
        restore_index(tmp_path)


@pytest.mark.parametrize("damage", DAMAGES, ids=["missing", "edited", "cut"])
def test_sample_indexes_are_made_again_from_the_shards(copy, dataset, damage):
    damage(copy / "train.samples.npy")
    damage(copy / "val.samples.npy")
    assert rebuilt(copy) == ["train.samples.npy", "val.samples.npy"]
    assert files_of(copy) == files_of(dataset)


@pytest.mark.parametrize("place", [3, 5000], ids=["header", "image"])
def test_sample_index_of_a_damaged_shard_waits_for_its_repair(copy, place):
    flip(copy / "train.samples.npy", 200)
    flip(copy / "val.samples.npy", 200)
    flip(copy / "train-000001.tar", place)
    before = (copy / "train.samples.npy").read_bytes()
    assert rebuilt(copy) == ["val.samples.npy"]
    assert (copy / "train.samples.npy").read_bytes() == before


def test_sample_index_that_would_get_other_bytes_is_unchanged(copy, dataset):
    index = read_index(copy)
    files = {**index.files, "train.samples.npy": FileRecord.of(b"others")}
    write_index(copy, replace(index, files=files))
    assert rebuilt(copy) == []
    name = "train.samples.npy"
    assert (copy / name).read_bytes() == (dataset / name).read_bytes()


def test_whole_dataset_needs_nothing(dataset):
    assert rebuilt(dataset) == []


def test_indexes_are_told_from_what_needs_the_source():
    assert all(map(is_index, ["index.json", ".index.json", "val.samples.npy"]))
    assert not any(map(is_index, ["rejected.csv", "train-000000.tar"]))
