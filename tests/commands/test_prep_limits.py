"""Prep under the limits that a shell can set: for the size of files, open files and processes."""

import os
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

LIMITED = (
    "import resource, sys; number, value = map(int, sys.argv[1:3]); del sys.argv[1:3]\n"
    "resource.setrlimit(number, (value, value))\n"
    "from alexnet_cli.cli.app import main\n"
    "main()\n"
)


@pytest.fixture
def limit_of_files():
    """Set the largest size of a file for this process, for the time of a test."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def set_limit(num_bytes: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))

    yield set_limit
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_file_over_the_limit_is_exit_4_and_no_death_by_signal(
    fails, answer, class_folders, tmp_path, limit_of_files
):
    arguments = ("prep", class_folders, tmp_path / "new", "--size", 64, "--workers", 1)
    limit_of_files(4096)
    message = fails(4, *arguments).message
    assert "train-000000.tar: the file is larger than is allowed here (ulimit -f)." in message
    assert not list(tmp_path.rglob("*.partial"))
    limit_of_files(1 << 30)
    assert answer(*arguments)["splits"]["train"]["written"] == 6


def call_limited(number: int, value: int, *arguments) -> subprocess.CompletedProcess:
    """Run prep under a limit; root, which has no limit of processes, changes its user ID."""
    command = [*AS_ANOTHER_USER] if number == resource.RLIMIT_NPROC and os.geteuid() == 0 else []
    command += [sys.executable, "-c", LIMITED, number, value, "prep", *arguments]
    one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.run(
        [*map(str, command)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | one_thread,
    )


# Its permission to read and write any file stays, so that pytest's folders can be used.
ABILITIES = "-all,+dac_override,+dac_read_search"
AS_ANOTHER_USER = ("setpriv", "--reuid=31234", "--clear-groups")
AS_ANOTHER_USER += (f"--inh-caps={ABILITIES}", f"--ambient-caps={ABILITIES}")


@pytest.fixture
def limit_of_processes() -> int:
    """Return the limit's number; skip where root cannot become a user that has one."""
    if os.geteuid() == 0:
        if not shutil.which("setpriv"):
            pytest.skip("root has no limit of processes, and setpriv is missing")
        if subprocess.run([*AS_ANOTHER_USER, "true"], capture_output=True, check=False).returncode:
            pytest.skip("root has no limit of processes, and cannot become another user here")
    return resource.RLIMIT_NPROC


@pytest.fixture
def everybodys_folder():
    """A folder that another user can write, as pytest's own cannot be."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)


def test_few_open_files_are_enough(class_folders, tmp_path):
    options = ("--size", 16, "--shard-size", 1, "--workers", 8)
    ended = call_limited(resource.RLIMIT_NOFILE, 64, class_folders, tmp_path / "new", *options)
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr
    assert len(list((tmp_path / "new").glob("train-*.tar"))) == 6


@pytest.mark.parametrize("processes", [1, 2])
def test_worker_that_cannot_be_started_is_exit_4_and_one_worker_is_enough(
    class_folders, everybodys_folder, limit_of_processes, processes
):
    new = everybodys_folder / "new"
    arguments = (class_folders, new, "--size", 16, "--shard-size", 1, "--workers")
    ended = call_limited(limit_of_processes, processes, *arguments, 8)
    assert ended.returncode == 4, ended.stderr
    assert "too many processes or threads (ulimit -u)" in ended.stderr
    assert "fewer --workers" in ended.stderr
    assert "Traceback" not in ended.stderr
    ended = call_limited(limit_of_processes, processes, *arguments, 1)
    assert ended.returncode == 0, ended.stderr
    assert len(list(new.glob("train-*.tar"))) == 6
