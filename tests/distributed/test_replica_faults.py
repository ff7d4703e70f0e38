"""Faults, slow data and other files of one replica of several, in real processes.

NCCL's way of destroying a group, in which every process waits for all others, is emulated with gloo
by a barrier. Each test starts two or three processes, which take some seconds.
"""

import os
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import alive, files_of, left_of

from alexnet_cli.model.checkpoint import load_checkpoint, save_checkpoint

# As TINY in tests/conftest.py; one epoch of four steps.
TINY = ["width=0.0625", "crop_size=99", "batch_size=16", "schedule=linear", "epochs=1"]
TINY = [part for setting in TINY for part in ("--set", setting)]

# The command line, with what a test wants to be otherwise. Spawned replicas import it too.
PROGRAM = """
import atexit, os, sys, time
from datetime import timedelta
import torch.distributed as dist
from alexnet_cli.cli.app import main
from alexnet_cli.data.dataset_ref import DatasetRef
from alexnet_cli.distributed import replicas
from alexnet_cli.training.run_directory import RunDirectory

real_destroy, real_open = dist.destroy_process_group, DatasetRef.open
wanted = os.environ["EMULATED"].split()

def destroy():
    dist.barrier()
    real_destroy()

def at_exit():
    if dist.is_initialized():
        try:
            destroy()
        except RuntimeError:
            os.abort()  # as NCCL's watchdog does

def open_late(*given, **more):
    if os.environ.get("RANK") == "1":  # which a spawned replica knows after its imports
        time.sleep(float(os.environ["LATE"]))
    return real_open(*given, **more)

def fail(run, recipe):
    raise OSError(28, "No space left on device", str(run.recipe))

if "nccl" in wanted:
    dist.destroy_process_group = destroy
    atexit.register(at_exit)
    replicas.TIMEOUT = timedelta(seconds=40)
if "slow" in wanted:
    DatasetRef.open = open_late
    replicas.TIMEOUT = timedelta(seconds=6)
if "full" in wanted:
    RunDirectory.create = fail

if __name__ == "__main__":
    main()
"""


@pytest.fixture
def started(tmp_path):
    """Start a program in a session of its own: `started(arguments, emulated, environment)`."""
    (tmp_path / "program.py").write_text(PROGRAM)
    processes = []

    def start(arguments, emulated: str = "", **environment) -> subprocess.Popen:
        command = [sys.executable, tmp_path / "program.py", *map(str, arguments)]
        environment = {name: str(value) for name, value in environment.items()}
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        processes.append(
            subprocess.Popen(
                command,
                start_new_session=True,
                env=os.environ | {"EMULATED": emulated, "OMP_NUM_THREADS": "1"} | environment,
                **streams,
            )
        )
        return processes[-1]

    yield start
    for process in processes:
        for left in alive(process.pid):
            os.kill(left, 9)
        process.communicate()


@pytest.fixture
def torchrun(started):
    """Start two processes as torchrun would, each with its own arguments."""

    def start(*arguments, emulated: str = "", **environment) -> list[subprocess.Popen]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        group = {"WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 1, "MASTER_PORT": port}
        group |= {"MASTER_ADDR": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo"}
        return [
            started(given, emulated, RANK=rank, LOCAL_RANK=0, **group, **environment)
            for rank, given in enumerate(arguments)
        ]

    return start


@pytest.fixture
def pair(torchrun):
    """Run two processes as torchrun would; `(exit code, stderr)` of each."""

    def run(*arguments, emulated: str = "") -> list[tuple[int, str]]:
        both = torchrun(*arguments, emulated=emulated)
        said = [process.communicate(timeout=240)[1] for process in both]
        return [(process.returncode, text) for process, text in zip(both, said, strict=True)]

    return run


def train(dataset: Path, run: Path, *more) -> list:
    return ["train", dataset, "--run", run, "--device", "cpu", *more]


# --- faults


def test_used_run_folder_is_refused_at_once_with_its_own_message(started, dataset, runs, tmp_path):
    run = shutil.copytree(runs.first, tmp_path / "run")
    before = files_of(run)
    three = ("--gpus", 3, "--columns", 1)

    process = started(train(dataset, run, *TINY, *three), "nccl")
    said = process.communicate(timeout=240)[1]

    assert process.returncode == 3, said
    assert "already contains a run.\nIt is left as it is." in said
    assert "lost the others" not in said
    assert files_of(run) == before


def test_error_of_one_replica_is_reported_although_the_group_cannot_be_destroyed(
    started, dataset, tmp_path
):
    """The disk of the first replica is full when the others already train."""
    two = ("--gpus", 2, "--columns", 1)

    process = started(train(dataset, tmp_path / "run", *TINY, *two), "nccl full")
    said = process.communicate(timeout=240)[1]

    assert process.returncode == 4, said
    assert "recipe.json: No space left on device" in said
    assert "lost the others" not in said
    assert left_of(process.pid) == []


def test_process_of_torchrun_ends_after_its_fault_although_the_group_cannot_be_destroyed(
    pair, dataset, tmp_path
):
    """The interpreter, too, would wait for the other process when it ends."""
    given = train(dataset, tmp_path / "run", *TINY)

    (code, said), (other_code, other_said) = pair(given, given, emulated="nccl full")

    assert code == 4, said
    assert "recipe.json: No space left on device" in said
    assert other_code == 4
    assert "replica 1 of 2 lost the others" in other_said


# --- slow data


def test_replica_whose_data_is_slow_is_waited_for_longer_than_one_that_hangs(
    started, torchrun, dataset, checkpoint, tmp_path
):
    run, evaluate = tmp_path / "run", ["eval", checkpoint, dataset, "--device", "cpu"]
    launched = train(dataset, run, *TINY, "--gpus", 2, "--columns", 1)

    processes = [started(launched, "slow", LATE=9)]
    processes += torchrun(evaluate, evaluate, emulated="slow", LATE=9)
    said = [process.communicate(timeout=240)[1] for process in processes]

    assert [process.returncode for process in processes] == [0, 0, 0], said
    assert load_checkpoint(run / "last.safetensors").train_state.epoch == 1


# --- other files


def test_replicas_that_would_resume_from_other_weights_are_refused(pair, dataset, runs, tmp_path):
    mine, other = (shutil.copytree(runs.first, tmp_path / name) for name in ("a", "b"))
    last = load_checkpoint(other / "last.safetensors", with_optimizer=True)
    weights = {name: tensor * np.float32(1.5) for name, tensor in last.weights.items()}
    save_checkpoint(other / "last.safetensors", replace(last, weights=weights))
    before = files_of(tmp_path / "a"), files_of(tmp_path / "b")
    more = ("--resume", "--epochs", 3)

    ends = pair(train(dataset, mine, *more), train(dataset, other, *more))

    for code, said in ends:
        assert code == 3, said
        assert "replica 1 of 2 would begin with other weights than replica 0." in said
        assert said.partition("error: ")[2].count("\n") <= 3
    assert (files_of(tmp_path / "a"), files_of(tmp_path / "b")) == before


def test_replicas_whose_pixel_statistics_differ_are_refused_before_the_run_begins(
    pair, dataset, tmp_path
):
    copy = shutil.copytree(dataset, tmp_path / "copy")
    with np.load(copy / "pixel_stats.npz") as content:
        changed = {**content, "mean_image": content["mean_image"] + np.float32(1)}
    np.savez(copy / "pixel_stats.npz", **changed)
    run = tmp_path / "run"

    ends = pair(train(dataset, run, *TINY), train(copy, run, *TINY))

    assert [code for code, _ in ends] == [3, 3]
    assert "would begin with other pixel statistics than replica 0." in ends[0][1]
    assert not run.exists()
