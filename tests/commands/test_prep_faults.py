"""Prep on a disk that fails: every call once, in turn; and the order of the calls that publish.

tools/torture/prep_io does the same with the system's own calls, and with worker processes.
"""

import errno
import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

CALLS = (
    "open", "close", "fsync", "replace", "mkdir", "unlink", "rmdir", "stat", "listdir", "scandir",
)  # fmt: skip
OPTIONS = ("--size", 8, "--workers", 1)


class Disk:
    """Notes every call on a path below a folder, and lets one of them fail.

    Attributes:
        calls: (name, path) of each; a file's own calls are write and close.
        failing: the number of the call to fail, from 1 on.
    """

    def __init__(self, below: Path):
        self.below, self.calls = below, []
        self.failing, self.error = 0, errno.EIO

    def holds(self, path) -> bool:
        return str(path).startswith(str(self.below))

    def barrier(self, name: str, where) -> None:
        is_open = isinstance(where, int)
        path = str(Path(f"/proc/self/fd/{where}").readlink()) if is_open else str(where)
        if self.holds(path):
            self.calls.append((name, path))
            if len(self.calls) == self.failing:
                names = () if is_open else (path,)
                raise OSError(self.error, os.strerror(self.error), *names)


def watched_file(disk: Disk) -> type[io.FileIO]:
    """Return a kind of file whose writes and whose end the disk meets."""

    class File(io.FileIO):
        def write(self, content):
            disk.barrier("write", self.fileno())
            return super().write(content)

        def close(self):
            try:
                if not self.closed:
                    disk.barrier("close", self.fileno())
            finally:
                super().close()

    return File


@pytest.fixture
def disk(tmp_path, monkeypatch) -> Disk:
    """The disk below tmp_path/new."""
    disk = Disk(tmp_path / "new")
    file_kind, real_open = watched_file(disk), io.open

    def open_file(file, mode="r", *arguments, **options):
        if mode == "wb" and disk.holds(file):
            disk.barrier("create", file)
            return io.BufferedWriter(file_kind(file, "w"))
        return real_open(file, mode, *arguments, **options)

    def watched(name):
        real = getattr(os, name)

        def call(where, *arguments, **options):
            try:
                disk.barrier(name, where)
            except OSError:
                if name == "close":
                    real(where)
                raise
            return real(where, *arguments, **options)

        return call

    monkeypatch.setattr(io, "open", open_file)
    for name in CALLS:
        monkeypatch.setattr(os, name, watched(name))
    return disk


@pytest.fixture
def source(tmp_path) -> Path:
    """A class of two images for training, so that one of them can be missed, and one of val."""
    for number, name in enumerate(("train/ant/1.png", "train/ant/2.png", "val/ant/1.png")):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((9, 9, 3), 99 * number, np.uint8)).save(path)
    return tmp_path / "in"


def bytes_of(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def remove(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    if folder.exists():
        folder.rmdir()


def count_calls(alexnet, disk: Disk, *arguments) -> int:
    assert alexnet(*arguments).exit_code == 0
    return len(disk.calls)


def fail_call(alexnet, disk: Disk, number: int, *arguments):
    """Run a command, one call failing; return its result and a line to tell it by."""
    disk.calls, disk.failing = [], number
    result = alexnet(*arguments)
    disk.failing = 0
    assert isinstance(result.exception, SystemExit | None)
    where = f"{number}: {disk.calls[number - 1]}: {result.output}"
    message = result.stderr.partition("error: ")[2]
    if result.exit_code not in (0, 5):
        # Too many open files are no fault of the image: the shard in the making is named.
        shard_is_named = disk.error == errno.EMFILE and ".tar: too many open" in message
        assert str(disk.below) in message or shard_is_named, where
        assert 1 <= message.count("\n") <= 3, where
    return result, where


def test_every_call_on_the_dataset_fails_once_and_nothing_is_lost(alexnet, source, tmp_path, disk):
    target, arguments = tmp_path / "new", ("prep", source, tmp_path / "new", *OPTIONS)
    num_calls, whole = count_calls(alexnet, disk, *arguments), bytes_of(target)
    assert num_calls > 60
    for number in range(1, num_calls + 1):
        remove(target)
        disk.error = (errno.EIO, errno.ENOSPC)[number % 2]
        result, where = fail_call(alexnet, disk, number, *arguments)
        found = bytes_of(target) if target.exists() else {}
        assert result.exit_code == 4 or found == whole, where
        assert all(found[name] == whole[name] for name in found if name in whole), where
        if result.exit_code:
            again = alexnet(*arguments)
            assert again.exit_code == 0, f"{where}\n{again.output}"
            assert bytes_of(target) == whole, where


def test_every_call_on_the_source_fails_once_and_no_image_is_missed(
    alexnet, source, tmp_path, disk
):
    target, arguments = tmp_path / "new", ("prep", source, tmp_path / "new", *OPTIONS)
    disk.below = source
    num_calls, whole = count_calls(alexnet, disk, *arguments), bytes_of(target)
    assert num_calls > 20
    for turn in range(2 * num_calls):
        remove(target)
        disk.error = (errno.EMFILE, (errno.EIO, errno.EACCES)[turn // 2 % 2])[turn % 2]
        result, where = fail_call(alexnet, disk, turn // 2 + 1, *arguments)
        if result.exit_code == 0:
            assert bytes_of(target) == whole, where
        elif result.exit_code == 5:
            assert disk.error != errno.EMFILE, where
            assert ",unreadable," in (target / "rejected.csv").read_text(), where
        else:
            assert result.exit_code == (4 if disk.error == errno.EMFILE else 3), where
            assert not list(tmp_path.glob("new/index.json")), where


def test_every_file_is_on_the_disk_before_its_name_and_the_index_is_last(
    alexnet, source, tmp_path, disk
):
    target = tmp_path / "new"
    count_calls(alexnet, disk, "prep", source, target, *OPTIONS)
    calls = [(name, Path(path)) for name, path in disk.calls]
    published = []
    for number, (call, path) in enumerate(calls):
        if call == "replace":
            published.append(path.name)
            before = [name for name, other in calls[:number] if other == path]
            without_writes = [name for name in before if name != "write"]
            assert without_writes[-3:] == ["create", "fsync", "close"], path
            assert before[-2:] == ["fsync", "close"], path  # no write after it
            after = [other for name, other in calls[number:] if name in ("fsync", "replace")]
            assert after[1] == path.parent, path
    names = bytes_of(target)
    assert all(any(partial.startswith(f"{name}.") for partial in published) for name in names)
    assert published[-1].startswith("index.json.")
