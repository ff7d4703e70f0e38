"""Prep's shards made through stops and damages; the command's own tests have the processes."""

import io
import os
import shutil
import signal
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from helpers import Listener
from PIL import Image

from alexnet_cli.data.sources.detect import read_source
from alexnet_cli.errors import MachineError, SourceError, Stopped
from alexnet_cli.io.progress import SILENT
from alexnet_cli.io.stop_signal import StopSignal
from alexnet_cli.prep.folder import entered
from alexnet_cli.prep.plan import PrepOptions, plan_shards
from alexnet_cli.prep.tasks import PrepWork

OPTIONS = PrepOptions(size=32, shard_size=4)
PLAN = {"options": asdict(OPTIONS)}


@pytest.fixture
def source(tmp_path) -> Path:
    """Two class folders of six images."""
    for label, name in enumerate(("ant", "bee")):
        (tmp_path / "in" / name).mkdir(parents=True)
        for number in range(6):
            pixels = np.random.default_rng([label, number]).integers(0, 256, (40, 36, 3), np.uint8)
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, "PNG")
            (tmp_path / "in" / name / f"{number}.png").write_bytes(file.getvalue())
    return tmp_path / "in"


class Signalling(Listener):
    """A progress that notes a signal after so many shards."""

    def __init__(self, stop_signal: StopSignal, after: int):
        super().__init__()
        self.stop_signal, self.left = stop_signal, after

    def advance(self, count: int = 1, note: str = "") -> None:
        self.left -= 1
        if self.left == 0:
            self.stop_signal.signal_number = signal.SIGTERM


def make(source: Path, folder: Path, *, after: int = -1, force: bool = False) -> list[str]:
    """Make the shards of a source; return what was said."""
    stop_signal = StopSignal()
    progress = Signalling(stop_signal, after)
    with entered(folder):
        release = read_source(source, folder / "spool")
        tasks = plan_shards(release, folder, OPTIONS)
        work = PrepWork(folder, tasks, 1, stop_signal, progress)
        work.make_all(PLAN, release, force=force)
        assert set(work.records) == {task.name for task in tasks}
    return progress.lines


def tars(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.tar")}


@pytest.mark.parametrize("after", [1, 2])
def test_signal_stops_it_with_what_is_done_and_the_rest_is_made_later(source, tmp_path, after):
    make(source, tmp_path / "whole")
    with pytest.raises(Stopped, match=f"stopped: {after} of 3 shards are done") as stop:
        make(source, tmp_path / "new", after=after)
    assert stop.value.exit_code == 143
    assert len(tars(tmp_path / "new")) == after
    assert make(source, tmp_path / "new") == [f"resuming: {after} of 3 shards are done"]
    assert tars(tmp_path / "new") == tars(tmp_path / "whole")


def test_signal_after_the_last_shard_stops_nothing(source, tmp_path):
    make(source, tmp_path / "new", after=3)


def test_signal_while_finished_shards_are_checked_stops_it(source, tmp_path):
    with pytest.raises(Stopped):
        make(source, tmp_path / "new", after=2)
    with pytest.raises(Stopped, match="2 of 3"):
        make(source, tmp_path / "new", after=1)


@pytest.mark.parametrize("place", [0, 700, -1])
def test_shard_whose_bytes_changed_is_made_again(source, tmp_path, place):
    make(source, tmp_path / "whole")
    make(source, tmp_path / "new")
    path = tmp_path / "new" / "train-000001.tar"
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    assert make(source, tmp_path / "new") == ["resuming: 2 of 3 shards are done"]
    assert tars(tmp_path / "new") == tars(tmp_path / "whole")


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\xff" * 80])
def test_damaged_record_counts_for_nothing(source, tmp_path, content):
    make(source, tmp_path / "new")
    (tmp_path / "new" / ".prep" / "train-000001.tar.json").write_bytes(content)
    assert make(source, tmp_path / "new") == ["resuming: 2 of 3 shards are done"]


def test_too_small_a_disk_is_refused_unless_forced(source, tmp_path, monkeypatch):
    usage = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(MachineError, match="--force"):
        make(source, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    make(source, tmp_path / "new", force=True)


def test_archive_that_changes_meanwhile_is_refused(release, tmp_path):
    shutil.copytree(release, tmp_path / "in")
    folder, stop_signal = tmp_path / "new", StopSignal()
    listed = read_source(tmp_path / "in", folder / "spool")
    work = PrepWork(folder, plan_shards(listed, folder, OPTIONS), 1, stop_signal, SILENT)
    (folder / ".prep").mkdir(parents=True)
    archive = tmp_path / "in" / "ILSVRC2012_img_train.tar"

    class Touching(Signalling):
        def advance(self, count: int = 1, note: str = "") -> None:
            os.utime(archive, (1, 1))

    work.progress = Touching(stop_signal, -1)
    with pytest.raises(SourceError, match=r"ILSVRC2012_img_train.tar: changed while prep"):
        work.make_all(PLAN, listed, force=False)
