import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from alexnet_cli.engine.folder_lock import locked
from alexnet_cli.errors import MachineError

HOLD = (
    "import sys, pathlib\n"
    "from alexnet_cli.engine.folder_lock import locked\n"
    "with locked(pathlib.Path(sys.argv[1]), Exception):\n"
    "    print('mine', flush=True)\n"
    "    sys.stdin.read()\n"
)


@pytest.fixture
def holder(tmp_path):
    """Another process that has the lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "mine\n"
    yield process
    process.kill()
    process.communicate()


def test_lock_is_taken_and_given_back(tmp_path):
    for _ in range(2):
        with locked(tmp_path, MachineError):
            pass


def test_lock_of_another_process_is_refused_with_its_number_and_its_age(tmp_path, holder):
    before = time.time()
    with pytest.raises(MachineError) as refusal, locked(tmp_path, MachineError):
        pass
    match = re.fullmatch(r"another process \((\d+), since (.*)\)", str(refusal.value))
    assert int(match[1]) == holder.pid
    since = time.mktime(time.strptime(match[2], "%Y-%m-%d %H:%M"))
    assert before - 180 < since <= before + 1


@pytest.mark.parametrize("content", ["", "1: FLOCK\n", "1: FLOCK ADVISORY WRITE 0 00:00:0 0 EOF\n"])
def test_lock_of_nobody_knows_whom_is_refused_all_the_same(tmp_path, holder, monkeypatch, content):
    read_text = Path.read_text
    monkeypatch.setattr(
        Path, "read_text", lambda p: content if str(p) == "/proc/locks" else read_text(p)
    )
    with pytest.raises(MachineError, match=r"^another process$"), locked(tmp_path, MachineError):
        pass


def test_lock_ends_with_its_process_however_that_ends(tmp_path, holder):
    holder.kill()
    holder.wait()
    with locked(tmp_path, MachineError):
        pass


def test_lock_is_given_back_after_a_fault(tmp_path):
    with pytest.raises(ZeroDivisionError), locked(tmp_path, MachineError):
        raise ZeroDivisionError
    with locked(tmp_path, MachineError):
        pass


def test_lock_writes_nothing(tmp_path):
    with locked(tmp_path, MachineError):
        assert list(tmp_path.iterdir()) == []


def test_folder_that_is_not_there_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError), locked(tmp_path / "none", MachineError):
        pass
