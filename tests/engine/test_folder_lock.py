import subprocess
import sys

import pytest

from alexnet_cli.engine.folder_lock import locked
from alexnet_cli.errors import MachineError

HOLD = (
    "import sys, pathlib\n"
    "from alexnet_cli.engine.folder_lock import locked\n"
    "with locked(pathlib.Path(sys.argv[1]), Exception('taken')):\n"
    "    print('mine', flush=True)\n"
    "    sys.stdin.read()\n"
)
TAKEN = MachineError("taken")


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
        with locked(tmp_path, TAKEN):
            pass


def test_lock_of_another_process_is_refused(tmp_path, holder):
    with pytest.raises(MachineError, match="taken"), locked(tmp_path, TAKEN):
        pass


def test_lock_ends_with_its_process_however_that_ends(tmp_path, holder):
    holder.kill()
    holder.wait()
    with locked(tmp_path, TAKEN):
        pass


def test_lock_is_given_back_after_a_fault(tmp_path):
    with pytest.raises(ZeroDivisionError), locked(tmp_path, TAKEN):
        raise ZeroDivisionError
    with locked(tmp_path, TAKEN):
        pass


def test_lock_writes_nothing(tmp_path):
    with locked(tmp_path, TAKEN):
        assert list(tmp_path.iterdir()) == []


def test_folder_that_is_not_there_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError), locked(tmp_path / "none", TAKEN):
        pass
