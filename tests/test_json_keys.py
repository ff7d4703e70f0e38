"""The keys of every command's --json, as they were when they were last looked at.

Programs read them. After a change that is meant to change them, write them again:

    ALEXNET_WRITE_JSON_KEYS=1 pytest tests/test_json_keys.py
"""

import difflib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

KEYS = Path(__file__).parent / "assets" / "json_keys.txt"
ON_CPU = ("--device", "cpu")
TINY = ("--set", "width=0.03125", "--set", "crop_size=59", "--set", "batch_size=16")
CIFAR = ("cifar-13pct", "--set", "conv1.filters=16", "--set", "conv2.filters=16", "--steps", 1)
# Below these, keys are names found in the data, of recipes or of their fields.
NAMED_BY_DATA = (
    "changes",
    "differences",
    "ignored",
    "ignored_by_split",
    "noted",
    "rates",
    "reasons",
    "to_prepare",
)


def paths_of(content: object, path: str = "") -> Iterator[str]:
    """Yield the dotted path of every value; an item of a list is `[]`, as is an empty list."""
    if path.rpartition(".")[2] in NAMED_BY_DATA and isinstance(content, dict):
        yield f"{path}.*"
    elif isinstance(content, dict) and content:
        for key, value in content.items():
            yield from paths_of(value, f"{path}.{key}".lstrip("."))
    elif isinstance(content, list):
        for value in content or [None]:
            yield from paths_of(value, f"{path}[]")
    else:
        yield path


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """Two class folders: an image in both, a file that is no image, and one that is ignored."""
    folder = tmp_path_factory.mktemp("images")
    for number, name in enumerate(("cat", "dog")):
        (folder / name).mkdir()
        for level in (0, 20, 40 + 10 * number):
            Image.new("RGB", (99, 88), (level, 90, 200)).save(folder / name / f"{level}.png")
    (folder / "cat" / "text.jpg").write_text("no image")
    (folder / "cat" / ".DS_Store").write_text("left by a file manager")
    return folder


@pytest.fixture
def foreign_weights(tmp_path, cache) -> tuple:
    """A state dict of torchvision's layout with three classes; an archive in the cache."""
    shapes = {"features.0": (8, 3, 11, 11), "features.3": (8, 8, 5, 5)}
    shapes |= dict.fromkeys(("features.6", "features.8", "features.10"), (8, 8, 3, 3))
    shapes |= {"classifier.1": (8, 288), "classifier.4": (8, 8), "classifier.6": (3, 8)}
    state = {f"{name}.weight": torch.zeros(shape) for name, shape in shapes.items()}
    state |= {f"{name}.bias": torch.zeros(shape[0]) for name, shape in shapes.items()}
    torch.save(state, tmp_path / "weights.pth")
    (tmp_path / "names.txt").write_text("cat\ndog\nemu\n")
    (cache / "downloads").mkdir()
    (cache / "downloads" / "cifar-10-binary.tar.gz").write_bytes(b"fetched before")
    return "weights.pth", "--classes", "names.txt"


@pytest.fixture
def python_that_answers(tmp_path) -> Path:
    """Stands for Python in the commands that `demo` starts, which would take minutes."""
    numbers = {"top1_error": 0.5, "top5_error": 0.1, "log_loss": 2.0}
    program = tmp_path / "python"
    content = json.dumps({**numbers, "center": numbers})
    program.write_text(f"#!/bin/sh\necho '{content}' > $ALEXNET_RESULT_FILE\n")
    program.chmod(0o755)
    return program


def test_keys_of_every_command_are_as_kept(
    alexnet, copy, runs, images, foreign_weights, python_that_answers, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    found, best = set(), runs.first / "best.safetensors"

    def see(*arguments, name: str | None = None, exit_code: int = 0) -> None:
        result = alexnet(*arguments, "--json")
        assert result.exit_code == exit_code, f"{arguments}: {result.output}"
        paths = paths_of(json.loads(result.stdout))
        found.update(f"{name or arguments[0]} {path}" for path in paths)

    see("prep", images, "new", "--val-fraction", 0.4, "--dry-run", name="prep-dry-run")
    see("prep", images, "new", "--val-fraction", 0.4, "--size", 64, exit_code=5)
    see("pca", copy)
    see("show", copy, "-o", "a.png")
    see("train", copy, "--run", "run", *TINY, "--epochs", 1, *ON_CPU)
    see("eval", best, copy, "--output", "a.npz", *ON_CPU)
    see("ensemble", "a.npz", runs.second / "best.safetensors", "--data", copy, *ON_CPU)
    see("eval", runs.second, copy, "--output", "b.npz", *ON_CPU)
    see("compare", "a.npz", "b.npz")
    see("errors", "a.npz", "-o", "a.csv")
    see("export", best, "-o", "a.onnx")
    see("predict", images, "--model", "a.onnx", *ON_CPU, exit_code=5)
    see("info", "paper", name="info-recipe")
    see("info", best, name="info-checkpoint")
    see("info", "a.onnx", name="info-onnx")
    see("info", copy, name="info-dataset")
    see("figure", "filters", best, "-o", "a.png")
    see("features", "a.onnx", copy, "-o", "index")
    see("similar", images / "cat" / "0.png", "--index", "index")
    see("report", "a.npz", "-o", "a.html")
    see("import", *foreign_weights, "-o", "b.safetensors")
    see("download", "cifar-10")
    see("recipes")
    see("runs", runs.first, runs.second)
    see("recipes", "paper")
    see("check", *CIFAR, exit_code=6)
    see("bench", copy, *TINY, "--batch-size", 2, "--seconds", 0.01, *ON_CPU)
    see("reproduce", "ilsvrc-2012", "--only", "1 CNN", "--dry-run", *TINY, *ON_CPU)
    with (copy / "train-000000.tar").open("r+b") as file:
        file.truncate(9000)
    see("verify", copy, exit_code=3)
    monkeypatch.setattr(sys, "executable", str(python_that_answers))
    see("demo", "demo", *ON_CPU)
    if os.environ.get("ALEXNET_WRITE_JSON_KEYS"):
        KEYS.write_text("".join(f"{line}\n" for line in sorted(found)))

    kept = KEYS.read_text().splitlines()
    changes = [line for line in difflib.ndiff(kept, sorted(found)) if line[0] in "+-"]
    assert not changes, "\n".join([*changes, __doc__])
