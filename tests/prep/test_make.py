"""Prep's shards made through stops and damages, and the room that they need."""

import errno
import os
import shutil
import signal
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from helpers import Listener, encoded, flip, refused

from alexnet_cli.cli.hints import message
from alexnet_cli.data.shards.writer import RECORDS, ShardTask, make_shard
from alexnet_cli.data.sources.detect import read_source
from alexnet_cli.data.sources.source import SourceImage, SourceOptions
from alexnet_cli.errors import MachineError, SourceError, Stopped
from alexnet_cli.io.progress import SILENT
from alexnet_cli.io.signals import StopSignal
from alexnet_cli.prep.folder import entered
from alexnet_cli.prep.make import PrepWork, check_space, explain_fault
from alexnet_cli.prep.plan import PrepOptions, plan_shards

OPTIONS = PrepOptions(size=32, shard_size=4)
PLAN = {"options": asdict(OPTIONS)}


@pytest.fixture
def source(tmp_path) -> Path:
    """Two class folders of six images."""
    for label, name in enumerate(("ant", "bee")):
        (tmp_path / "in" / name).mkdir(parents=True)
        for number in range(6):
            path = tmp_path / "in" / name / f"{number}.png"
            path.write_bytes(png(40, 36, [label, number]))
    return tmp_path / "in"


class Signalling(Listener):
    """A progress that records a signal after some shards."""

    def __init__(self, stop_signal: StopSignal, after: int):
        super().__init__()
        self.stop_signal, self.left = stop_signal, after

    def advance(self, count: int = 1, note: str = "") -> None:
        self.left -= 1
        if self.left == 0:
            self.stop_signal.signal_number = signal.SIGTERM


def make(source: Path, folder: Path, *, after: int = -1, force: bool = False) -> list[str]:
    """Make the shards of a source; return the lines reported."""
    stop_signal = StopSignal()
    progress = Signalling(stop_signal, after)
    with entered(folder):
        release = read_source(source, SourceOptions(folder / "staging"))
        tasks = plan_shards(release, folder, OPTIONS)
        work = PrepWork(folder, tasks, 1, stop_signal, progress)
        made = work.make_all(PLAN, release.staged, force=force)
        assert [(task, record.shard.name) for task, record in made] == [
            (task, task.name) for task in tasks
        ]
    return progress.lines


def tars(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.tar")}


@pytest.mark.parametrize("after", [1, 2])
def test_signal_stops_prep_with_what_is_done_and_the_rest_is_made_later(source, tmp_path, after):
    make(source, tmp_path / "whole")
    with refused(Stopped, f"stopped: {after} of 3 shards are done") as stop:
        make(source, tmp_path / "new", after=after)
    assert stop.value.exit_code == 143
    assert len(tars(tmp_path / "new")) == after
    assert make(source, tmp_path / "new")[0] == f"resuming: {after} of 3 shards are done"
    assert tars(tmp_path / "new") == tars(tmp_path / "whole")


def test_signal_after_the_last_shard_stops_nothing(source, tmp_path):
    make(source, tmp_path / "new", after=3)


def test_signal_while_finished_shards_are_checked_stops_it(source, tmp_path):
    with pytest.raises(Stopped):
        make(source, tmp_path / "new", after=2)
    with refused(Stopped, "2 of 3"):
        make(source, tmp_path / "new", after=1)


@pytest.mark.parametrize("place", [0, 700, -1])
def test_shard_whose_bytes_changed_is_made_again(source, tmp_path, place):
    make(source, tmp_path / "whole")
    make(source, tmp_path / "new")
    flip(tmp_path / "new" / "train-000001.tar", place)
    assert make(source, tmp_path / "new")[0] == "resuming: 2 of 3 shards are done"
    assert tars(tmp_path / "new") == tars(tmp_path / "whole")


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\xff" * 80])
def test_damaged_record_is_ignored(source, tmp_path, content):
    make(source, tmp_path / "new")
    (tmp_path / "new" / ".prep" / "train-000001.tar.json").write_bytes(content)
    assert make(source, tmp_path / "new")[0] == "resuming: 2 of 3 shards are done"


def test_too_small_a_disk_is_refused_unless_forced(source, tmp_path, monkeypatch):
    usage = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with refused(MachineError, "--force"):
        make(source, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    make(source, tmp_path / "new", force=True)


def test_archive_that_changes_meanwhile_is_refused(release, tmp_path):
    shutil.copytree(release, tmp_path / "in")
    folder, stop_signal = tmp_path / "new", StopSignal()
    listed = read_source(tmp_path / "in", SourceOptions(folder / "staging"))
    work = PrepWork(folder, plan_shards(listed, folder, OPTIONS), 1, stop_signal, SILENT)
    (folder / ".prep").mkdir(parents=True)
    archive = tmp_path / "in" / "ILSVRC2012_img_train.tar"

    class Touching(Signalling):
        def advance(self, count: int = 1, note: str = "") -> None:
            os.utime(archive, (1, 1))

    work.progress = Touching(stop_signal, -1)
    with refused(SourceError, r"ILSVRC2012_img_train.tar: changed while prep"):
        work.make_all(PLAN, listed.staged, force=False)


SIZE = 64


def png(height: int, width: int, seed: int | list[int]) -> bytes:
    """Return noise as a PNG."""
    return encoded(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


@pytest.fixture
def tasks(tmp_path) -> list[ShardTask]:
    """Four shards of twenty noisy images."""
    (tmp_path / "new" / RECORDS).mkdir(parents=True)
    images = []
    for number in range(80):
        path = tmp_path / f"{number}.png"
        path.write_bytes(png(70, 80, number))
        images.append(SourceImage(path.name, path, -1, path.stat().st_size, 0))
    return [
        ShardTask(
            tmp_path / "new", "train", i, 20 * i, tuple(images[20 * i : 20 * i + 20]),
            ("n01",) * len(images[20 * i : 20 * i + 20]), SIZE, 90,
        )
        for i in range(4)
    ]  # fmt: skip


@pytest.fixture
def disk(monkeypatch):
    """Set how many bytes are free."""

    def set_free(count: int) -> None:
        usage = shutil.disk_usage("/")._replace(free=count)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)

    return set_free


def made_bytes(tasks: list[ShardTask]) -> int:
    return sum(make_shard(task).shard.num_bytes for task in tasks)


def test_disk_with_room_is_accepted(tasks, tmp_path, disk):
    disk(1 << 40)
    check_space(tmp_path, tasks)


def test_nothing_to_do_needs_no_room(tmp_path, disk):
    disk(0)
    check_space(tmp_path, [])


def test_estimate_is_within_a_tenth_of_what_is_written(tasks, tmp_path, disk):
    written = made_bytes(tasks)
    disk(int(1.15 * written))
    check_space(tmp_path, tasks)
    disk(int(0.95 * written))
    with refused(MachineError, r"need about \d+\.\d MB, \d+\.\d MB are free"):
        check_space(tmp_path, tasks)


def test_only_shards_that_are_missing_are_counted(tasks, tmp_path, disk):
    written = made_bytes(tasks)
    disk(int(0.3 * written))
    check_space(tmp_path, tasks[3:])


def test_refusal_names_the_option_that_overrides_it(tasks, tmp_path, disk):
    disk(1000)
    with refused(MachineError, f"{tmp_path}.*\nNothing was begun.*\n.*--force"):
        check_space(tmp_path, tasks)


def test_images_that_cannot_be_read_fall_back_to_a_known_size(tasks, tmp_path, disk):
    for path in Path(tmp_path).glob("*.png"):
        path.write_bytes(b"none")
    disk(10_000)
    with refused(MachineError, r"need about 0\.4 MB"):
        check_space(tmp_path, tasks)


def test_copies_of_the_images_are_counted_too(tasks, tmp_path, disk):
    written = made_bytes(tasks)
    disk(int(1.15 * written))
    check_space(tmp_path, tasks, num_staged=1000)
    with refused(MachineError, "need about"):
        check_space(tmp_path, tasks, num_staged=written)


def fault_lines(number: int, folder: Path, tasks: list[ShardTask]) -> str:
    error = OSError(number, os.strerror(number), str(folder / "train-000002.tar"))
    return message(explain_fault(error, folder, tasks))


def test_full_disk_says_how_much_more_is_needed(tasks, tmp_path, disk):
    written = made_bytes(tasks[2:])
    disk(0)
    lines = fault_lines(errno.ENOSPC, tmp_path, tasks[2:]).splitlines()
    name, what, rest = lines[0].split(": ")
    assert (name, what) == (str(tmp_path / "train-000002.tar"), "disk full")
    more, unit = rest.removeprefix("about ").removesuffix(" more are needed.").split()
    assert unit == "MB"
    assert float(more) * 1e6 == pytest.approx(written, rel=0.15)
    assert lines[1:] == [
        "Finished shards are kept.",
        "Make room and run the same command again.",
    ]


def test_used_up_quota_is_reported_with_the_room_needed(tasks, tmp_path, disk):
    disk(1 << 40)
    text = fault_lines(errno.EDQUOT, tmp_path, tasks)
    assert "the disk quota is used up: the shards still to be made need about" in text


def test_unknown_free_space_is_no_error(tasks, tmp_path, monkeypatch):
    def fail(path):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(shutil, "disk_usage", fail)
    assert "disk full: the shards still to be made need about" in fault_lines(
        errno.ENOSPC, tmp_path, tasks
    )


def test_other_errors_name_no_room(tasks, tmp_path):
    assert "train-000002.tar: Input/output error.\nFinished" in fault_lines(
        errno.EIO, tmp_path, tasks
    )
