"""Processes that are killed when they start, and shared memory that cannot be used."""

import multiprocessing
import multiprocessing.spawn
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import draw_image, encoded, refused

from alexnet_cli.data.batches import readers
from alexnet_cli.data.batches.loader import load_batches
from alexnet_cli.data.shards.dataset import open_dataset
from alexnet_cli.distributed.launcher import run_replicas
from alexnet_cli.errors import MachineError
from alexnet_cli.io.starting import shared_memory_fault, starting

PREP = "from alexnet_cli.cli.app import main; main()"
NEW_NAMESPACE = ("unshare", "-rm", "sh", "-c")


@pytest.fixture
def class_folders(tmp_path) -> Path:
    """Three images in each of two class folders."""
    for name in (f"{kind}/{number}.png" for kind in ("cat", "dog") for number in range(3)):
        path = tmp_path / "folders" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(draw_image(30, 40)))
    return tmp_path / "folders"


@pytest.fixture
def killer(tmp_path) -> Path:
    """A Python whose processes are killed when they start, but for Python's own helper."""
    path = tmp_path / "python"
    path.write_text(
        '#!/bin/sh\ncase "$*" in\n'
        f'*resource_tracker*) exec "{sys.executable}" "$@" ;;\n'
        "*) kill -KILL $$ ;;\nesac\n"
    )
    path.chmod(0o755)
    return path


@pytest.fixture
def killed(killer):
    """Kill the processes that this one starts."""
    before = multiprocessing.spawn.get_executable()
    multiprocessing.set_executable(str(killer))
    yield
    multiprocessing.set_executable(before)


def prep_command(source, folder, program: str = PREP) -> list[str]:
    """Return a command line that preps with two workers in a process of its own."""
    options = ["--size", 16, "--shard-size", 1, "--workers", 2]
    return [sys.executable, "-c", program, *map(str, ["prep", source, folder, *options])]


def in_namespace(mount: str, command: list[str]) -> subprocess.CompletedProcess:
    """Run a command where other file systems are mounted; skip where that is not allowed."""
    if subprocess.run([*NEW_NAMESPACE, mount], capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    command = [*NEW_NAMESPACE, f'{mount} && exec "$@"', "sh", *command]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_fork_server_that_is_killed_is_exit_4(class_folders, killer, tmp_path):
    program = f"import multiprocessing; multiprocessing.set_executable({str(killer)!r}); {PREP}"
    command = prep_command(class_folders, tmp_path / "new", program)
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 4, ended.stderr
    assert "error: a prep worker ended when it started: killed as memory is full" in ended.stderr
    assert "fewer --workers" in ended.stderr


def test_reading_process_that_is_killed_at_its_start_is_reported(dataset, killed):
    split = open_dataset(dataset).split("train")
    with refused(MachineError, r"a process that reads images (died of signal 9|ended when)"):
        with readers.ProcessReader(split, 2) as reader:
            list(load_batches(split, range(len(split)), 4, reader=reader))


def test_replica_that_is_killed_at_its_start_is_reported(killed):
    with refused(MachineError, r"replica.* (died of signal 9|ended when it started)"):
        run_replicas(int, 2)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (EOFError(), "ended when it started"),
        (BrokenPipeError(32, "Broken pipe"), "ended when it started"),
        (ConnectionResetError(104, "reset"), "ended when it started"),
        (BlockingIOError(11, "Resource temporarily unavailable"), "cannot be started"),
        (RuntimeError("can't start new thread"), "cannot be started"),
        (PermissionError(13, "Permission denied", "/a/python"), "cannot be started: /a/python: Pe"),
        (OSError(24, "Too many open files"), "cannot be started: Too many open files"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_fault_of_a_start_is_one_of_the_machine(error, words):
    with refused(MachineError, f"a worker {words}"), starting("a worker"):
        raise error


def test_fault_of_the_program_stays_one():
    with pytest.raises(RuntimeError, match="other"), starting("a worker"):
        raise RuntimeError("other")


# --- shared memory


def test_shared_memory_works_here():
    assert shared_memory_fault() is None


READ_ONLY = "mount -t tmpfs -o ro none /dev/shm"
FULL = "mount -t tmpfs -o nr_inodes=1 none /dev/shm"
MISSING = (
    "mount -t tmpfs none /mnt && touch /mnt/null && mount --bind /dev/null /mnt/null"
    " && mount --rbind /mnt /dev"
)


@pytest.mark.parametrize(
    ("mount", "reason"),
    [(READ_ONLY, "Read-only file system"), (FULL, "No space left"), (MISSING, "")],
)
def test_shared_memory_that_cannot_be_used_is_named(mount, reason):
    program = (
        "from alexnet_cli.io.starting import shared_memory_fault; print(shared_memory_fault())"
    )
    ended = in_namespace(mount, [sys.executable, "-c", program])
    assert ended.stdout.startswith(f"/dev/shm cannot be used: {reason}"), ended.stderr


def test_prep_goes_on_with_one_worker_without_shared_memory(class_folders, tmp_path):
    ended = in_namespace(READ_ONLY, prep_command(class_folders, tmp_path / "new"))
    assert ended.returncode == 0, ended.stderr
    assert "1 worker: /dev/shm cannot be used: Read-only file system" in ended.stderr
    assert len(list((tmp_path / "new").glob("train-*.tar"))) == 6


UNGUARDED = """
import sys
from pathlib import Path
import numpy as np
from alexnet_cli import open_dataset
from alexnet_cli.data.batches.loader import load_batches
from alexnet_cli.data.batches.readers import ProcessReader
from alexnet_cli.prep.build import prep
from alexnet_cli.prep.plan import PrepOptions, PrepRequest

print("run")
source, folder = map(Path, sys.argv[1:])
prep(PrepRequest(source, folder, PrepOptions(size=16, shard_size=1), workers=2))
split = open_dataset(folder)["train"]
with ProcessReader(split, 2) as reader:
    print(sum(len(batch.labels) for batch in load_batches(split, np.arange(6), 2, reader=reader)))
assert sys.modules["__main__"].split is split
"""


def test_program_without_a_guard_is_not_run_again_by_the_processes(class_folders, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(UNGUARDED)
    command = [sys.executable, str(program), str(class_folders), str(tmp_path / "shards")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["run", "6"]
