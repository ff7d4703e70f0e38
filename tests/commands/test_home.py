"""Commands leave nothing in HOME but our own cache folder, and ask the network nothing."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
from typer.testing import CliRunner
from alexnet_cli.cli.app import app

source, dataset, run, checkpoint, images = sys.argv[1:]
model = run + ".onnx"
replicas = ["--device", "cpu", "--gpus", "2", "--columns", "1"]
small = ["--set=width=0.0625", "--set=crop_size=99", "--set=batch_size=16", "--epochs=1"]
for line in (
    ["prep", source, dataset, "--size", "112", "--workers", "1"],
    ["verify", dataset],
    ["pca", dataset],
    ["train", dataset, "--run", run, "--device", "cpu", "--log", "tensorboard", *small],
    ["eval", checkpoint, dataset, "--output", run + ".npz", *replicas],
    ["ensemble", checkpoint, run + "/best.safetensors", "--data", dataset, "--device", "cpu"],
    ["export", checkpoint, "-o", model],
    ["predict", images, "--model", model, "--device", "cpu"],
    ["predict", images, "--model", checkpoint, "--device", "cpu"],
    ["check", "cifar-13pct", "--steps", "1", "--set=width=0.25"],
    ["info", "paper"],
    ["recipes"],
):
    result = CliRunner().invoke(app, line)
    print(line[0], result.exit_code, repr(result.output[-300:]) if result.exit_code else "")
"""


@pytest.fixture(scope="module")
def home(release, runs, images, tmp_path_factory) -> tuple[Path, list[str], str]:
    """Run the commands in a HOME of their own; its path, what they printed, their sockets."""
    folder = tmp_path_factory.mktemp("home")
    home = folder / "home"
    home.mkdir()
    arguments = [release, folder / "data", folder / "run", runs.first / "best.safetensors", images]
    command = [sys.executable, "-c", PROGRAM, *map(str, arguments)]
    trace = folder / "trace"
    if shutil.which("strace"):
        command = [
            "strace",
            "-f",
            "-qq",
            "--seccomp-bpf",
            "-e",
            "trace=connect",
            "-o",
            str(trace),
            *command,
        ]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "ALEXNET_"))}
    finished = subprocess.run(
        command,
        check=True,
        capture_output=True,
        text=True,
        env=environment | {"HOME": str(home)},
    )
    assert not re.search(r"(?i)warn|onnxruntime|\[[WE]", finished.stderr), finished.stderr
    return home, finished.stdout.splitlines(), trace.read_text() if trace.exists() else ""


def test_every_command_works_in_an_empty_home(home):
    codes = dict(line.split()[:2] for line in home[1])
    assert codes.pop("check") == "6"  # one step is too few to overfit a batch
    assert set(codes.values()) == {"0"}, home[1]


def test_nothing_appears_in_home_but_the_cache(home):
    found = {str(path.relative_to(home[0])) for path in home[0].rglob("*")}
    assert {name for name in found if not name.startswith(".cache/alexnet")} <= {".cache"}


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
def test_no_command_leaves_this_machine(home):
    abroad = [
        line
        for line in home[2].splitlines()
        if "AF_INET" in line and "127.0.0.1" not in line and '"::1"' not in line
    ]
    assert abroad == []
