"""What a safetensors file may hold, by name and by kind; under a second."""

from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch

from alexnet_cli.errors import CheckpointError
from alexnet_cli.model.checkpoint import Checkpoint, TrainState, load_checkpoint, save_checkpoint
from alexnet_cli.model.tensor_file import read_header, read_tensors, without_parallel
from alexnet_cli.recipes.small import DEMO

WEIGHTS = {
    "conv1.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2),
    "fc8.bias": np.arange(3, dtype=np.float32),
}


@pytest.fixture
def path(tmp_path) -> Path:
    """A saved checkpoint with velocity and average."""
    path = tmp_path / "a.safetensors"
    more = {
        kind: {name: tensor + number for name, tensor in WEIGHTS.items()}
        for number, kind in enumerate(("velocity", "average"), 1)
    }
    pixels = {"mean_image": np.ones((2, 2, 3), np.float32), "eigenvalues": np.arange(3.0)}
    save_checkpoint(
        path, Checkpoint(DEMO, WEIGHTS, pixels, [("n01", "a")], "f", TrainState(), **more)
    )
    return path


def rewrite(path: Path, change) -> None:
    """Write a checkpoint again as a user's script would: other tensors, the same metadata."""
    with safetensors.safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    changed = dict(change(name, tensor) for name, tensor in tensors.items())
    safetensors.torch.save_file(changed, path, metadata)


# --- names


def all_of_them(name: str) -> str:
    return f"module.{name}"


def weights_alone(name: str) -> str:
    """What wrapping the network before it is saved gives: statistics keep their names."""
    kind, dot, rest = name.partition(".")
    if kind == "pixels":
        return name
    return (
        f"{kind}.module.{rest}" if kind in ("velocity", "average") else f"module.{kind}{dot}{rest}"
    )


@pytest.mark.parametrize("rename", [all_of_them, weights_alone])
def test_prefix_of_data_parallelism_is_taken_off_and_the_checksum_still_holds(path, rename):
    expected = load_checkpoint(path, with_velocity=True)

    rewrite(path, lambda name, tensor: (rename(name), tensor))

    assert all("module." in name for name in read_tensors(path) if "pixels" not in name)
    found = load_checkpoint(path, with_velocity=True)
    for kind in ("weights", "velocity", "average", "pixels"):
        mine, theirs = getattr(found, kind), getattr(expected, kind)
        assert mine.keys() == theirs.keys()
        for name, tensor in theirs.items():
            np.testing.assert_array_equal(mine[name], tensor)


@pytest.mark.parametrize("rename", [all_of_them, weights_alone])
def test_damage_behind_the_prefix_is_found(path, rename):
    def change(name, tensor):
        return rename(name), tensor + 1 if name == "fc8.bias" else tensor

    rewrite(path, change)

    with pytest.raises(CheckpointError, match="checksum does not match"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "names",
    [
        ("module.conv1.weight", "fc8.bias"),
        ("conv1.weight", "module.conv1.weight"),
        ("module.conv1.weight", "pixels.mean_image", "module.pixels.mean_image"),
        ("conv1.module.weight", "fc8.bias"),
    ],
)
def test_names_that_not_all_weights_have_or_that_meet_stay_as_they_are(names):
    tensors = {name: np.zeros(number + 1) for number, name in enumerate(names)}

    assert without_parallel(tensors) is tensors


# --- kinds


@pytest.mark.parametrize(
    ("dtype", "name"),
    [
        (torch.float16, "float16"),
        (torch.bfloat16, "bfloat16"),
        (torch.float8_e4m3fn, "F8_E4M3"),
        (torch.int8, "I8"),
    ],
)
def test_converted_weights_are_refused_by_name(path, dtype, name):
    rewrite(path, lambda key, t: (key, t.to(dtype) if key == "fc8.bias" else t))

    with pytest.raises(CheckpointError, match=f"{path}: fc8.bias is {name}, not float32") as caught:
        load_checkpoint(path)

    assert str(caught.value).count("\n") < 3


# --- files


def test_header_is_the_story_and_tensors_come_by_name(path):
    assert read_header(path)["tool"].startswith("alexnet ")
    tensors = read_tensors(path)
    np.testing.assert_array_equal(tensors["conv1.weight"], WEIGHTS["conv1.weight"])
    np.testing.assert_array_equal(tensors["velocity.fc8.bias"], WEIGHTS["fc8.bias"] + 1)


def test_what_is_no_checkpoint_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="no such file"):
        read_header(tmp_path / "none")
    (tmp_path / "text").write_text("no tensors here")
    for read in (read_header, read_tensors):
        with pytest.raises(CheckpointError, match="not an alexnet checkpoint"):
            read(tmp_path / "text")
