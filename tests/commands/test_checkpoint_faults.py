"""Checkpoints that are hostile, of other kinds, or too large: exit 3, early, and nothing is run."""

import io
import json
import pickle
import struct
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from alexnet_cli.model import checkpoint as checkpoint_module
from alexnet_cli.model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from alexnet_cli.model.network import AlexNet

ON_CPU = ("--device", "cpu")


@pytest.fixture(scope="module")
def whole(runs) -> Checkpoint:
    """A resumable checkpoint. Read only."""
    return load_checkpoint(runs.first / "last.safetensors", with_optimizer=True)


def with_weights(whole: Checkpoint, change) -> Checkpoint:
    """Return the checkpoint with other weights; optimizer state changed likewise."""
    weights, optimizer = (
        {change(name, t)[0]: change(name, t)[1] for name, t in kind.items()}
        for kind in (whole.weights, whole.optimizer)
    )
    return replace(whole, weights=weights, optimizer=optimizer)


# --- files that hold something else


def bomb(tmp_path: Path, metadata: str, num_bytes: int) -> Path:
    """Write a file of one tensor that takes no room on the disk."""
    entry = {"dtype": "F32", "shape": [num_bytes // 4], "data_offsets": [0, num_bytes]}
    header = json.dumps({"__metadata__": {"alexnet": metadata}, "conv1.weight": entry}).encode()
    path = tmp_path / "bomb.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + num_bytes)
    return path


def metadata_of(whole: Checkpoint, tmp_path: Path) -> str:
    save_checkpoint(tmp_path / "whole.safetensors", whole)
    content = (tmp_path / "whole.safetensors").read_bytes()
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length])["__metadata__"]["alexnet"]


def huge(whole, tmp_path):
    return bomb(tmp_path, metadata_of(whole, tmp_path), 1 << 40)


def nested(whole, tmp_path):
    return bomb(tmp_path, "[" * 200_000, 4)


def many_keys(whole, tmp_path):
    empty = '{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    header = "{" + ",".join(f'"k{number}":{empty}' for number in range(200_000)) + "}"
    path = tmp_path / "keys.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header.encode())
    return path


def many_classes(whole, tmp_path):
    path = tmp_path / "classes.safetensors"
    save_checkpoint(path, replace(whole, classes=[("n01", "one")] * 600_000))
    return path


@pytest.mark.parametrize("make", [huge, nested, many_keys, many_classes])
def test_file_that_would_fill_the_memory_is_refused_before_its_tensors_are_read(
    fails, whole, tmp_path, monkeypatch, make
):
    path = make(whole, tmp_path)
    monkeypatch.setattr(checkpoint_module, "_read_tensors", lambda _: pytest.fail("it is read"))
    began = time.process_time()

    message = fails(3, "info", path).message

    assert time.process_time() - began < 10
    assert str(path) in message


def test_recipe_of_a_huge_network_is_refused_before_that_is_built(
    fails, dataset, whole, tmp_path, monkeypatch
):
    wide = replace(whole.recipe.fc6, units=1 << 16), replace(whole.recipe.fc7, units=1 << 16)
    path = tmp_path / "wide.safetensors"
    save_checkpoint(path, replace(whole, recipe=replace(whole.recipe, fc6=wide[0], fc7=wide[1])))

    message = fails(3, "eval", path, dataset, *ON_CPU).message

    assert "fc6.weight is (256, " in message
    assert "fc7.weight is (256, 256), not (65536, 65536); ..." in message


# --- weights of other kinds


def half(name, tensor):
    return name, tensor.astype(np.float16)


def double(name, tensor):
    return name, tensor.astype(np.float64)


def parallel(name, tensor):
    return f"module.{name}", tensor


def renamed(name, tensor):
    return f"model.{name}", tensor


def extra(whole):
    more = {"conv9.weight": np.zeros(3, np.float32)}
    buffers = {"conv9.weight.momentum_buffer": np.zeros(3, np.float32)}
    return replace(whole, weights=whole.weights | more, optimizer=whole.optimizer | buffers)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda whole: with_weights(whole, half), "is float16, not float32"),
        (lambda whole: with_weights(whole, double), "is float64, not float32"),
        (lambda whole: with_weights(whole, renamed), "there is no conv1.weight; there is no"),
        (extra, "conv9.weight is not part of it"),
    ],
    ids=["half", "double", "renamed", "extra"],
)
def test_weights_of_another_kind_are_refused_by_name(fails, dataset, whole, tmp_path, make, words):
    path = tmp_path / "last.safetensors"
    save_checkpoint(path, make(whole))

    evaluated = fails(3, "eval", path, dataset, *ON_CPU)
    resumed = fails(3, "train", dataset, "--run", tmp_path, "--resume", *ON_CPU)

    for failure in (evaluated, resumed):
        assert str(path) in failure.message
        assert words in failure.message


def test_other_architecture_shows_its_first_three_differences(fails, dataset, whole, tmp_path):
    path = tmp_path / "last.safetensors"
    save_checkpoint(path, with_weights(whole, renamed))
    first = [name for name, _ in AlexNet(whole.recipe, 10).named_parameters()][:3]

    evaluated = fails(3, "eval", path, dataset, *ON_CPU)
    resumed = fails(3, "train", dataset, "--run", tmp_path, "--resume", *ON_CPU)

    friendly_oom_errors = "; ".join(f"there is no {name}" for name in first)
    for failure in (evaluated, resumed):
        assert (
            f"{path}: its tensors do not fit its recipe ({friendly_oom_errors}; ...)."
            in failure.message
        )


def test_names_of_data_parallelism_are_read_by_every_command(
    answer, dataset, images, runs, whole, tmp_path
):
    run = tmp_path / "run"
    run.mkdir()
    path = run / "last.safetensors"
    save_checkpoint(path, with_weights(whole, parallel))
    plain, other = runs.first / "last.safetensors", ("--views", 1, *ON_CPU)

    found, expected = (answer("eval", file, dataset, *other) for file in (path, plain))
    assert found["top1_error"] == expected["top1_error"]
    assert found["log_loss"] == expected["log_loss"]
    predicted = [answer("predict", images, "--model", p, *ON_CPU) for p in (path, plain)]
    assert predicted[0]["images"] == predicted[1]["images"]
    assert answer("info", path)["layers"] == answer("info", plain)["layers"]
    assert answer("train", dataset, "--run", run, "--resume", *ON_CPU)["steps"] == 8
    tiny = ("--set", "width=0.0625", "--set", "crop_size=99", "--epochs", 1, *ON_CPU)
    new = ("--run", tmp_path / "new", "--init-from", path, *tiny)
    assert answer("train", dataset, *new)["epochs"] == 1


def test_run_whose_momentum_does_not_fit_its_weights_is_not_resumed(
    fails, dataset, runs, whole, tmp_path
):
    run = tmp_path / "run"
    run.mkdir()
    cut = {name: tensor[:1] for name, tensor in whole.optimizer.items()}
    save_checkpoint(run / "last.safetensors", replace(whole, optimizer=cut))

    failure = fails(3, "train", dataset, "--run", run, "--resume", *ON_CPU)

    assert "its momentum_buffer does not fit its weights" in failure.message


def test_fields_that_are_missing_are_the_paper_s(answer, dataset, whole, tmp_path):
    """As a file of a version without averages, smoothing and milestones."""
    path = tmp_path / "older.safetensors"
    save_checkpoint(path, whole)
    content = path.read_bytes()
    assert b"ema_decay" in content
    newer = {"ema_decay", "label_smoothing", "milestones", "until_train_error", "init_layers"}

    class Older:
        """A recipe that writes fewer fields."""

        def __getattr__(self, name):
            return getattr(whole.recipe, name)

        def to_json(self):
            fields = json.loads(whole.recipe.to_json())
            return json.dumps({n: value for n, value in fields.items() if n not in newer})

    save_checkpoint(path, replace(whole, recipe=Older()))
    assert b"ema_decay" not in path.read_bytes()

    assert load_checkpoint(path).recipe == whole.recipe


# --- code


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def in_zip(trap) -> bytes:
    content = io.BytesIO()
    torch.save(trap, content)
    return content.getvalue()


def legacy(trap) -> bytes:
    content = io.BytesIO()
    torch.save(trap, content, _use_new_zipfile_serialization=False)
    return content.getvalue()


PAYLOADS = {
    "pickle": pickle.dumps,
    "zip": in_zip,
    "legacy": legacy,
    "nested": lambda trap: in_zip({"state": {"layers": [{"weight": trap}]}}),
    "optimizer": lambda trap: in_zip({"model": {}, "optimizer": {"state": {0: trap}}}),
}


@pytest.mark.parametrize("name", PAYLOADS)
def test_pickle_is_refused_by_every_command_and_not_run(fails, dataset, images, tmp_path, name):
    sprung, run = tmp_path / "sprung", tmp_path / "run"
    run.mkdir()
    content = PAYLOADS[name](Trap(sprung))
    paths = [tmp_path / "model.pt", tmp_path / "model.safetensors", run / "last.safetensors"]
    for path in paths:
        path.write_bytes(content)
    new = ("train", dataset, "--run", tmp_path / "new", "--recipe", "small")
    for path in paths[:2]:
        fails(3, "info", path)
        fails(3, "eval", path, dataset, *ON_CPU)
        fails(3, "predict", images, "--model", path, *ON_CPU)
        fails(3, "export", path, "-o", tmp_path / "model.onnx")
        fails(3, "ensemble", path, path, "--data", dataset, *ON_CPU)
        fails(3, *new, "--set", "crop_size=99", "--init-from", path, *ON_CPU)
    fails(3, "train", dataset, "--run", run, "--resume", *ON_CPU)

    assert not sprung.exists()


# --- export


def test_flipped_bit_of_an_exported_model_is_found(fails, onnx_model, images, tmp_path):
    content = bytearray(onnx_model.read_bytes())
    content[len(content) // 2] ^= 16  # of a weight, where nothing else would notice
    (tmp_path / "flipped.onnx").write_bytes(content)

    message = fails(3, "predict", images, "--model", tmp_path / "flipped.onnx").message

    assert "its checksum does not match" in message


def test_full_disk_leaves_the_old_model(fails, checkpoint, onnx_model, tmp_path, monkeypatch):
    path = tmp_path / "model.onnx"
    path.write_bytes(onnx_model.read_bytes())

    def fail(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    message = fails(4, "export", checkpoint, "-o", path, "--force").message

    assert "No space left" in message
    assert path.read_bytes() == onnx_model.read_bytes()
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.onnx"]
