"""Without the extras every command works, or says in one line what to install."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import evaluate
from narrow import Narrow
from PIL import Image

from alexnet_cli.inference.export import export
from alexnet_cli.inference.predictions import load_predictions

# What no base installation has. A module that asks for one of them gets Python's own error.
HIDDEN = (
    *("torch", "torchvision", "webdataset", "tensorboard", "matplotlib", "jinja2"),
    *("pyarrow", "fsspec", "distributed", "pillow_heif"),
)
PROGRAM = f"""
import json, sys

class Hider:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {HIDDEN!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Hider())
from typer.testing import CliRunner
from alexnet_cli.cli.app import app

for line in json.load(sys.stdin):
    result = CliRunner().invoke(app, line)
    print(json.dumps([result.exit_code, result.stderr, repr(result.exception)]))
"""
TRAIN = 'pip install "alexnet-cli[train]"'
ON_CPU = ("--device", "cpu")


@pytest.fixture(scope="module")
def outcomes(runs, dataset, checkpoint, tmp_path_factory):
    """What each command line ends with where the extras are missing: exit code, stderr, error."""
    folder = tmp_path_factory.mktemp("light")
    export(checkpoint, folder / "model.onnx")
    evaluate(checkpoint, dataset, num_views=1, predictions=folder / "a.npz")
    evaluate(runs.second / "best.safetensors", dataset, num_views=1, predictions=folder / "b.npz")
    torch.save(Narrow(num_classes=2).state_dict(), folder / "two.pth")
    (folder / "two.txt").write_text("cat\ndog\n")
    two = ("--classes", folder / "two.txt", "-o", folder / "two.safetensors")
    photos = folder / "photos"
    for name in ("cat", "dog"):
        (photos / name).mkdir(parents=True)
        for number in range(4):
            Image.new("RGB", (90, 80), (60 * number, 90, 9)).save(photos / name / f"{number}.png")
    model = ("--model", folder / "model.onnx", *ON_CPU)
    made, ref, pair = folder / "made", folder / "run", (checkpoint, runs.second)
    lines = {
        "prep": ("prep", photos, made, "--size", 64, "--workers", 1, "--val-fraction", 0.5),
        "verify": ("verify", made),
        "pca": ("pca", made),
        "show": ("show", made),
        "predict": ("predict", photos, *model),
        "predict to CSV": ("predict", photos, *model, "-o", folder / "out.csv"),
        "eval of an ONNX model": ("eval", folder / "model.onnx", dataset, *ON_CPU),
        "info of a recipe": ("info", "paper"),
        "info of a checkpoint": ("info", checkpoint),
        "info of a model": ("info", folder / "model.onnx"),
        "info of a dataset": ("info", made),
        "features": ("features", folder / "model.onnx", made, "-o", folder / "index", *ON_CPU),
        "similar": ("similar", photos / "cat" / "0.png", "--index", folder / "index", *ON_CPU),
        "recipes": ("recipes",),
        "runs": ("runs", runs.first),
        "ensemble": ("ensemble", folder / "a.npz", folder / "b.npz"),
        "compare": ("compare", folder / "a.npz", folder / "b.npz"),
        "errors": ("errors", folder / "a.npz"),
        "report": ("report", runs.first, "--data", dataset, "-o", folder / "report.html"),
        "doctor": ("doctor",),
        "train": ("train", made, "--run", ref, *ON_CPU),
        "eval": ("eval", checkpoint, dataset, *ON_CPU, "--json", "-o", folder / "light.npz"),
        "eval on two GPUs": ("eval", checkpoint, dataset, "--gpus", 2),
        "ensemble of checkpoints": ("ensemble", *pair, "--data", dataset, *ON_CPU),
        "ensemble in bf16": ("ensemble", *pair, "--data", dataset, "--precision", "bf16", *ON_CPU),
        "export": ("export", checkpoint, "-o", folder / "new.onnx"),
        "check": ("check", "cifar-13pct"),
        "bench": ("bench", made, *ON_CPU),
        "demo": ("demo", folder / "demo"),
        "reproduce": ("reproduce", "ilsvrc-2012", "--dry-run"),
        "predict by a checkpoint": ("predict", photos, "--model", checkpoint, *ON_CPU),
        "predict to Parquet": ("predict", photos, *model, "-o", folder / "out.parquet"),
        "import": ("import", folder / "two.pth", *two),
        "predict by imported weights": ("predict", photos, "--model", folder / "two.safetensors"),
        "import of nothing": ("import", folder / "weights.pth", "-o", folder / "new.safetensors"),
        "figure": ("figure", "filters", checkpoint, "-o", folder / "filters.png"),
        "download": ("download", "nonsense"),
        "info of a URL": ("info", "s3://bucket/dataset"),
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=json.dumps([[str(word) for word in line] for line in lines.values()]),
        capture_output=True,
        text=True,
        check=True,
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return {name: (*end, folder) for name, end in zip(lines, found, strict=True)}


WORKS = [
    *("prep", "verify", "pca", "predict", "predict to CSV", "recipes", "runs", "doctor"),
    *("show", "features", "similar", "ensemble", "compare", "errors", "eval of an ONNX model"),
    *("info of a recipe", "info of a checkpoint", "info of a model", "info of a dataset"),
    *("eval", "predict by a checkpoint", "ensemble of checkpoints"),
    *("import", "predict by imported weights"),
]
NEEDS = {
    **dict.fromkeys(["train", "export", "check", "bench", "demo", "reproduce"], TRAIN),
    **dict.fromkeys(["figure", "report", "eval on two GPUs", "ensemble in bf16"], TRAIN),
    "predict to Parquet": 'pip install "alexnet-cli[parquet]"',
    "info of a URL": 'pip install "alexnet-cli[cloud]"',
}


@pytest.mark.parametrize("name", WORKS)
def test_command_works_without_the_extras(outcomes, name):
    exit_code, message, error, _ = outcomes[name]
    assert exit_code == 0, (message, error)


@pytest.mark.parametrize("name", NEEDS)
def test_command_names_the_extra_that_it_needs(outcomes, name):
    exit_code, message, _, folder = outcomes[name]
    assert exit_code == 4, message
    assert NEEDS[name] in message
    assert message.partition("error: ")[2].count("\n") <= 3
    left = {path.name for path in Path(folder).iterdir()}
    assert not left & {"run", "new.onnx", "demo", "out.parquet"}


@pytest.mark.parametrize(
    ("name", "words"), [("import of nothing", "no such file"), ("download", "nonsense")]
)
def test_command_refuses_wrong_input_without_the_extras(outcomes, name, words):
    exit_code, message, _, _ = outcomes[name]
    assert exit_code in (2, 3)
    assert words in message


def test_checkpoint_gives_the_same_probabilities_without_torch(outcomes, checkpoint, dataset):
    folder = outcomes["eval"][3]
    evaluate(checkpoint, dataset, num_views=10, predictions=folder / "torch.npz")
    light, whole = load_predictions(folder / "light.npz"), load_predictions(folder / "torch.npz")
    assert light.keys == whole.keys
    assert light.weights_hash == whole.weights_hash
    assert np.abs(light.probs - whole.probs).max() < 1e-5


def test_every_command_is_tried(outcomes):
    from typer.main import get_command

    from alexnet_cli.cli.app import app

    assert set(get_command(app).commands) == {name.split()[0] for name in outcomes}
