"""Prep under the limits that a shell can set: for the size of files, open files and processes."""

import os
import resource
import subprocess
import sys

import pytest

LIMITED = (
    "import resource, sys; number, value = map(int, sys.argv[1:3]); del sys.argv[1:3]\n"
    "resource.setrlimit(number, (value, value))\n"
    "from alexnet_cli.cli import main\n"
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


@pytest.mark.parametrize(
    ("number", "value"),
    [
        (resource.RLIMIT_NOFILE, 64),
        pytest.param(
            resource.RLIMIT_NPROC,
            1,  # this process itself
            marks=pytest.mark.skipif(os.geteuid() == 0, reason="root has no limit of processes"),
        ),
    ],
    ids=["open files", "processes"],
)
def test_few_files_and_processes_are_enough(class_folders, tmp_path, number, value):
    command = [sys.executable, "-c", LIMITED, number, value, "prep", class_folders]
    command += [tmp_path / "new", "--size", 16, "--shard-size", 1, "--workers", 8]
    ended = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr
    assert len(list((tmp_path / "new").glob("train-*.tar"))) == 6
