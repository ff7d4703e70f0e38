import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import Listener, flip, refused

from alexnet_cli.data.shards.index import read_index, write_index
from alexnet_cli.errors import DatasetError, Stopped
from alexnet_cli.io.progress import SILENT
from alexnet_cli.prep.audit import Audit, audit_dataset


def audit(folder: Path, **options) -> Audit:
    return audit_dataset(folder, **{"deep": False, "num_threads": 2, "progress": SILENT, **options})


def files(found: Audit) -> list[str]:
    return sorted({finding.file for finding in found.findings})


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("num_threads", [1, 3])
def test_whole_dataset_has_no_findings(dataset, deep, num_threads):
    found = audit(dataset, deep=deep, num_threads=num_threads)
    assert found.findings == []
    assert (found.num_shards, found.num_samples) == (5, 90)
    assert found.num_bytes == sum(path.stat().st_size for path in dataset.glob("*.tar"))


def test_folder_without_an_index_is_no_dataset(tmp_path):
    with refused(DatasetError, r"no index.json"):
        audit(tmp_path)


@pytest.mark.parametrize("place", [0, 40, 900])
def test_damaged_index_is_the_only_finding(copy, place):
    flip(copy / "index.json", place)
    found = audit(copy)
    assert found.index is None
    assert files(found) == ["index.json"]


@pytest.mark.parametrize(
    "name", ["train.samples.npy", "val.samples.npy", "rejected.csv", "val-000001.tar"]
)
def test_missing_file_is_found(copy, name):
    (copy / name).unlink()
    assert files(audit(copy)) == [name]


@pytest.mark.parametrize("name", ["train.samples.npy", "rejected.csv"])
@pytest.mark.parametrize("place", [0, 20, -1])
def test_changed_file_beside_the_shards_is_found(copy, name, place):
    flip(copy / name, place)
    found = audit(copy)
    assert files(found) == [name]
    assert [finding.what for finding in found.findings] == ["SHA-256"]


def test_damaged_sample_index_does_not_hide_a_damaged_shard(copy):
    flip(copy / "train.samples.npy", -1)
    flip(copy / "train-000000.tar", 3)
    assert files(audit(copy)) == ["train-000000.tar", "train.samples.npy"]


def test_swapped_shards_are_recognized(copy):
    for old, new in (("000000", "x"), ("000002", "000000"), ("x", "000002")):
        (copy / f"train-{old}.tar").rename(copy / f"train-{new}.tar")
    found = audit(copy).findings
    assert [(finding.file, finding.found) for finding in found] == [
        ("train-000000.tar", "the bytes of train-000002.tar"),
        ("train-000002.tar", "the bytes of train-000000.tar"),
    ]


def test_renamed_shard_is_missing_and_a_copy(copy):
    (copy / "train-000001.tar").rename(copy / "train-000009.tar")
    found = audit(copy)
    assert files(found) == ["train-000001.tar", "train-000009.tar"]
    assert found.copies == ("train-000009.tar",)
    assert found.findings[-1].found == "a copy of train-000001.tar"


def test_extra_shard_is_found(copy):
    (copy / "test-000000.tar").write_bytes(bytes(10_240))
    found = audit(copy)
    assert files(found) == ["test-000000.tar"]
    assert found.copies == ()


def test_copy_of_the_index_that_differs_is_found_and_a_missing_one_is_not(copy):
    flip(copy / ".index.json", -1)
    assert files(audit(copy)) == [".index.json"]
    (copy / ".index.json").unlink()
    assert audit(copy).findings == []


def test_files_of_others_are_left_alone(copy):
    (copy / "notes.txt").write_text("mine")
    assert audit(copy).findings == []


def test_file_that_the_index_does_not_know_is_found(copy):
    index = read_index(copy)
    files = {name: record for name, record in index.files.items() if name != "val.samples.npy"}
    write_index(copy, replace(index, files=files))
    (finding,) = audit(copy).findings
    assert (finding.file, finding.found) == ("val.samples.npy", "none")


class Stopping(Listener):
    """A progress that sends SIGTERM after the first shard."""

    def advance(self, count: int = 1, note: str = "") -> None:
        os.kill(os.getpid(), signal.SIGTERM)


def test_signal_stops_prep_with_what_was_looked_at(dataset):
    with refused(Stopped, r"1 of 5 shards were read.\nNothing was changed") as stop:
        audit(dataset, num_threads=1, progress=Stopping())
    assert stop.value.exit_code == 143
