import errno
import fcntl
import json
import os
import re
import socket
import subprocess
import sys
import time

import pytest

from alexnet_cli.errors import MachineError
from alexnet_cli.io.folder_lock import LOCK_NAME, locked

HOLD = (
    "import sys, pathlib\n"
    "from alexnet_cli.io.folder_lock import locked\n"
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


def test_lock_is_acquired_and_released(tmp_path):
    for _ in range(2):
        with locked(tmp_path, MachineError):
            pass


def test_lock_of_another_process_is_refused_with_its_number_and_its_age(tmp_path, holder):
    before = time.time()
    with pytest.raises(MachineError) as refusal, locked(tmp_path, MachineError):
        pass
    pattern = r"another process \((\d+) on (.*), alexnet .*, since (.*)\)"
    match = re.fullmatch(pattern, str(refusal.value))
    assert int(match[1]) == holder.pid
    assert match[2] == socket.gethostname()
    since = time.mktime(time.strptime(match[3], "%Y-%m-%d %H:%M"))
    assert before - 180 < since <= before + 1


def test_lock_file_names_its_owner(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/bin/alexnet", "--debug", "prep", "secret", "set"])
    with locked(tmp_path, MachineError):
        owner = json.loads((tmp_path / LOCK_NAME).read_text())
    assert owner.pop("since").startswith("2")
    assert owner == {"host": socket.gethostname(), "pid": os.getpid(), "command": "alexnet prep"}


@pytest.mark.parametrize("content", ["", "17", "{}", '{"pid": 17, "since": "yesterday"}'])
def test_lock_without_a_readable_owner_is_refused_as_well(tmp_path, holder, content):
    (tmp_path / LOCK_NAME).write_text(content)
    with pytest.raises(MachineError, match=r"^another process$"), locked(tmp_path, MachineError):
        pass


def test_lock_ends_with_its_process_however_that_ends(tmp_path, holder):
    holder.kill()
    holder.wait()
    with locked(tmp_path, MachineError):
        assert json.loads((tmp_path / LOCK_NAME).read_text())["pid"] == os.getpid()


def test_lock_is_released_after_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError), locked(tmp_path, MachineError):
        raise ZeroDivisionError
    with locked(tmp_path, MachineError):
        pass


def test_lock_leaves_no_file_not_even_of_a_killed_process(tmp_path, holder):
    holder.kill()
    holder.wait()
    assert [path.name for path in tmp_path.iterdir()] == [LOCK_NAME]
    with locked(tmp_path, MachineError):
        assert [path.name for path in tmp_path.iterdir()] == [LOCK_NAME]
    assert list(tmp_path.iterdir()) == []


def test_refused_process_leaves_the_lock_file(tmp_path, holder):
    content = (tmp_path / LOCK_NAME).read_bytes()
    for _ in range(2):
        with pytest.raises(MachineError), locked(tmp_path, MachineError):
            pass
        assert (tmp_path / LOCK_NAME).read_bytes() == content


# Adds 1 to a file many times; two processes at once would lose some.
COUNTING = """
import sys
import time
from pathlib import Path
from alexnet_cli.io.folder_lock import locked
from alexnet_cli.errors import MachineError

total, done = Path(sys.argv[1]) / "total", 0
while done < 150:
    try:
        with locked(total.parent, MachineError):
            count = int(total.read_text())
            time.sleep(0)
            total.write_text(str(count + 1))
            done += 1
    except MachineError:
        pass
"""


def test_processes_that_make_and_remove_the_lock_file_never_hold_it_together(tmp_path):
    (tmp_path / "total").write_text("0")
    command = [sys.executable, "-c", COUNTING, str(tmp_path)]
    processes = [subprocess.Popen(command) for _ in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    assert (tmp_path / "total").read_text() == "600"
    assert [path.name for path in tmp_path.iterdir()] == ["total"]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_disk_without_locks_locks_nothing(tmp_path, monkeypatch, number):
    def fail(descriptor, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", fail)
    with locked(tmp_path, MachineError), locked(tmp_path, MachineError):
        pass
    assert list(tmp_path.iterdir()) == []


def _fail_to_open_lock(monkeypatch, number: int) -> None:
    real = os.open

    def open_file(path, *arguments, **options):
        if str(path).endswith(LOCK_NAME):
            raise OSError(number, os.strerror(number), str(path))
        return real(path, *arguments, **options)

    monkeypatch.setattr(os, "open", open_file)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_folder_that_cannot_be_written_is_entered_without_a_lock(tmp_path, monkeypatch, number):
    _fail_to_open_lock(monkeypatch, number)
    with locked(tmp_path, MachineError):
        assert list(tmp_path.iterdir()) == []


def test_lock_of_another_user_is_refused_with_its_owner(tmp_path, monkeypatch):
    owner = {"host": "node3", "pid": 17, "command": "alexnet train"}
    owner["since"] = "2012-09-30T18:05:00+00:00"
    (tmp_path / LOCK_NAME).write_text(json.dumps(owner))
    _fail_to_open_lock(monkeypatch, errno.EACCES)
    with pytest.raises(MachineError, match=r"17 on node3, alexnet train, since 2012-"):
        with locked(tmp_path, MachineError):
            pass


def test_disk_that_fails_is_an_os_error(tmp_path, monkeypatch):
    _fail_to_open_lock(monkeypatch, errno.EIO)
    with pytest.raises(OSError, match="Input/output error"), locked(tmp_path, MachineError):
        pass


def test_lock_file_that_cannot_be_removed_is_reported_after_the_block_only(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "unlink", fail)
    with pytest.raises(OSError, match="Input/output error"), locked(tmp_path, MachineError):
        pass
    with pytest.raises(ZeroDivisionError), locked(tmp_path, MachineError):
        raise ZeroDivisionError
    monkeypatch.undo()
    with locked(tmp_path, MachineError):
        pass
    assert list(tmp_path.iterdir()) == []


def test_folder_that_is_not_there_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError), locked(tmp_path / "none", MachineError):
        pass
