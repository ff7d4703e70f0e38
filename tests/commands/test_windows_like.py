"""The commands work in a process that lacks what Windows lacks, and leave the same shards.

`tests/assets/windows_like` says what is hidden, and which rules of files are imitated.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import files_of

TESTS = Path(__file__).parent.parent
PROGRAM = """
import multiprocessing
import os
import signal
import sys

from typer.testing import CliRunner

from alexnet_cli.cli.app import app

if __name__ == "__main__":
    for module in ("fcntl", "resource", "pwd"):
        try:
            __import__(module)
        except ImportError:
            continue
        sys.exit(f"{module} is not hidden")
    hidden = ("pread", "preadv", "fork", "setpgid", "killpg", "O_NONBLOCK", "sched_getaffinity")
    assert not any(hasattr(os, name) for name in hidden)
    assert not hasattr(signal, "SIGHUP") and not hasattr(signal, "SIGUSR1")
    assert multiprocessing.get_all_start_methods() == ["spawn"]

    source, folder, images = sys.argv[1:]
    dataset, run, model = f"{folder}/data", f"{folder}/run", f"{folder}/model.onnx"
    small = ["--set=width=0.0625", "--set=crop_size=99", "--set=batch_size=16", "--epochs=1"]
    best = f"{run}/best.safetensors"
    for line in (
        ["prep", source, dataset, "--size", "112", "--shard-size", "25", "--workers", "2"],
        ["verify", dataset],
        ["pca", dataset],
        ["train", dataset, "--run", run, "--cache", "raw", "--save-steps", "1", "--device", "cpu",
            *small],
        ["eval", best, dataset, "--device", "cpu", "--output", f"{folder}/p.npz"],
        ["export", best, "-o", model, "--views", "1"],
        ["export", best, "-o", model, "--views", "1", "--force"],
        ["predict", images, "--model", model, "--device", "cpu"],
        ["predict", images, "--model", best, "--device", "cpu"],
        ["info", best],
        ["info", dataset],
        ["verify", dataset, "--repair", source],
    ):
        if "--repair" in line:
            with open(f"{dataset}/train-000001.tar", "r+b") as file:
                file.seek(3000)
                file.write(b"damage")
        result = CliRunner().invoke(app, line)
        print(line[0], result.exit_code, repr(result.output[-600:]) if result.exit_code else "")
        if result.exit_code:
            import traceback
            traceback.print_exception(*result.exc_info)
"""


@pytest.fixture(scope="module")
def windows_like(release, images, tmp_path_factory) -> tuple[Path, list[str]]:
    """Run the commands; the folder they wrote to, and a line for each with its exit code."""
    folder = tmp_path_factory.mktemp("windows-like")
    program = folder / "program.py"
    program.write_text(PROGRAM)
    paths = [TESTS / "assets" / "windows_like", TESTS.parent]
    finished = subprocess.run(
        [sys.executable, program, release, folder, images],
        capture_output=True,
        text=True,
        env=os.environ
        | {
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
            "PYTHONWARNDEFAULTENCODING": "1",
            "PYTHONIOENCODING": "cp437:strict",
        },
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return folder, [finished.stderr, *finished.stdout.splitlines()]


def test_every_command_works(windows_like):
    report, *lines = windows_like[1]
    codes = [line.split()[:2] for line in lines]
    assert len(codes) == 12, lines
    assert {code for _, code in codes} == {"0"}, "\n".join([*lines, report])


def test_shards_are_those_of_linux(windows_like, dataset):
    found, usual = files_of(windows_like[0] / "data"), files_of(dataset)
    shards = {name for name in usual if name.endswith((".tar", ".samples.npy"))}
    assert len(shards) >= 6
    assert {name: found[name] for name in shards} == {name: usual[name] for name in shards}


def test_no_work_file_is_left(windows_like):
    names = files_of(windows_like[0])
    assert not [name for name in names if name.endswith((".partial", ".lock"))]
