"""Every exit code that `alexnet --help` documents is what some command line ends with."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

CIFAR = ("cifar-13pct", "--set", "conv1.filters=16", "--set", "conv2.filters=16", "--steps", 1)
# The names in braces are files that the test makes.
COMMANDS = {
    0: ("recipes",),
    1: ("recipes", "--json"),  # with a fault of the program, see below
    2: ("recipes", "--nonsense"),
    3: ("pca", "{missing}"),
    4: ("train", "{dataset}", "--run", "{run}", "--device", "cuda", "--gpus", 98),
    5: ("prep", "{images}", "{new}", "--size", 64),
    6: ("check", *CIFAR),
}
SIGNALS = {128 + number: number for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)}


@pytest.fixture
def images(tmp_path) -> Path:
    """One class folder with an image and a file that is none."""
    folder = tmp_path / "images"
    (folder / "cat").mkdir(parents=True)
    Image.new("RGB", (99, 88)).save(folder / "cat" / "image.png")
    (folder / "cat" / "text.jpg").write_text("no image")
    return folder


def test_every_documented_exit_code_is_tested_here(alexnet):
    documented = re.findall(r"\d+", alexnet("--help").output.partition("Exit codes:")[2])

    assert {int(code) for code in documented} == {*COMMANDS, *SIGNALS}


@pytest.mark.parametrize("code", COMMANDS)
def test_command_ends_with_its_exit_code(alexnet, dataset, images, tmp_path, monkeypatch, code):
    files = {name: tmp_path / name for name in ("missing", "run", "new")}
    files |= {"dataset": dataset, "images": images}
    if code == 1:
        monkeypatch.setattr(json, "dumps", lambda *_, **__: 1 / 0)

    result = alexnet(*(str(argument).format_map(files) for argument in COMMANDS[code]))

    assert result.exit_code == code, result.output
    assert "error: " in result.stderr or code == 0
    assert "Traceback" not in result.output


@pytest.mark.parametrize("code", SIGNALS)
def test_signal_ends_a_command_with_its_exit_code(tmp_path, code):
    pipe = tmp_path / "recipe.json"  # reading it waits until somebody writes
    os.mkfifo(pipe)
    command = [sys.executable, "-m", "alexnet_cli", "check", str(pipe)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        writer = open_for_reader(pipe, process)
        process.send_signal(SIGNALS[code])
        message = process.communicate(timeout=20)[1]
        os.close(writer)
    finally:
        process.kill()

    assert process.returncode == code, message
    assert message.startswith("error: ")
    assert "Traceback" not in message


def open_for_reader(pipe: Path, process: subprocess.Popen) -> int:
    """Open a pipe as soon as the process reads it."""
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        try:
            return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:  # nobody reads yet
            time.sleep(0.02)
    raise AssertionError("the command does not read its recipe")


@pytest.mark.parametrize("as_json", [("--json",), ()])
def test_broken_pipe_ends_a_command_quietly_with_exit_code_141(as_json):
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "alexnet_cli", "recipes", *as_json]
    buffered = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    try:
        finished = subprocess.run(
            command, stdout=writer, stderr=subprocess.PIPE, env=buffered, check=False
        )
    finally:
        os.close(writer)

    assert (finished.returncode, finished.stderr) == (141, b"")
