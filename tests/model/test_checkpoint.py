"""Checkpoint files: exact round trips, and every kind of damage refused; about three seconds."""

import json
import os
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.numpy
import safetensors.torch
import torch

from alexnet_cli.errors import CheckpointError
from alexnet_cli.model import checkpoint as module
from alexnet_cli.model.checkpoint import Checkpoint, TrainState, load_checkpoint, save_checkpoint
from alexnet_cli.recipes.recipe import PAPER
from alexnet_cli.recipes.small import DEMO

# A file that ought to be read and is not one. Building it needs no network: names and shapes of
# tensors mean nothing to this module.
rng = np.random.default_rng(0)
WEIGHTS = {
    "conv1.weight": rng.normal(size=(4, 3, 2, 2)).astype(np.float32),
    "conv1.bias": np.array([0.0, -0.0, 1e-40, 3e38], np.float32),
    "fc8.weight": rng.normal(size=(3, 5)).astype(np.float32),
}


def build(**changes) -> Checkpoint:
    values = {
        "recipe": replace(DEMO, learning_rate=0.1 + 0.2),
        "weights": WEIGHTS,
        "optimizer": {f"{name}.momentum_buffer": tensor * 0.5 for name, tensor in WEIGHTS.items()},
        "pixels": {"mean_image": np.ones((2, 2, 3), np.float32), "eigenvalues": np.arange(3.0)},
        "classes": [("n01", "tench, Tinca"), ("n02", "\u00e9l\u00e9phant"), ("n03", 'a "b"\n')],
        "fingerprint": "0123456789abcdef",
        "train_state": TrainState(3, 7, 99, [0.9, 1 / 3], {"epoch": 2}, 112, 60, 0.1 + 0.7),
    }
    return Checkpoint(**{**values, **changes})


def save(path: Path, **changes) -> bytes:
    save_checkpoint(path, build(**changes))
    return path.read_bytes()


def same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> bool:
    return found.keys() == expected.keys() and all(
        found[name].dtype == tensor.dtype
        and found[name].shape == tensor.shape
        and found[name].tobytes() == tensor.tobytes()
        for name, tensor in expected.items()
    )


def edit(path: Path, change) -> None:
    """Change a saved checkpoint's header as a newer or foreign tool might write it."""
    with safetensors.safe_open(path, framework="numpy") as file:
        header = json.loads(file.metadata()["alexnet"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(header)
    path.write_bytes(safetensors.numpy.save(tensors, {"alexnet": json.dumps(header)}))


@pytest.fixture
def path(tmp_path) -> Path:
    """A saved checkpoint."""
    save(tmp_path / "a.safetensors")
    return tmp_path / "a.safetensors"


# --- round trips


def test_everything_comes_back_exactly(path: Path):
    found, expected = load_checkpoint(path, with_optimizer=True), build()

    for name in ("weights", "optimizer", "pixels"):
        assert same(getattr(found, name), getattr(expected, name)), name
    for name in ("recipe", "classes", "fingerprint", "train_state", "tool"):
        assert getattr(found, name) == getattr(expected, name), name


def test_optimizer_state_is_returned_only_when_asked_for(path: Path):
    assert load_checkpoint(path).optimizer == {}


AVERAGE = {name: tensor * 0.25 for name, tensor in WEIGHTS.items()}


def test_averaged_weights_are_those_to_use_and_both_come_back_to_go_on(tmp_path):
    save(tmp_path / "a", ema=AVERAGE)

    to_use = load_checkpoint(tmp_path / "a")
    to_go_on = load_checkpoint(tmp_path / "a", with_optimizer=True)

    assert same(to_use.weights, AVERAGE)
    assert (to_use.optimizer, to_use.ema) == ({}, {})
    assert same(to_go_on.weights, WEIGHTS)
    assert same(to_go_on.ema, AVERAGE)
    assert same(to_go_on.optimizer, build().optimizer)


def test_what_is_of_use_of_a_checkpoint_is_the_same_from_memory_and_from_disk(tmp_path):
    save(tmp_path / "a", ema=AVERAGE)

    assert same(build(ema=AVERAGE).for_use().weights, load_checkpoint(tmp_path / "a").weights)
    assert same(build().for_use().weights, WEIGHTS)
    assert build().for_use().optimizer == {}


def test_hash_is_that_of_the_weights_to_use(tmp_path):
    save(tmp_path / "a", ema=AVERAGE)

    assert load_checkpoint(tmp_path / "a").weights_hash() == build(weights=AVERAGE).weights_hash()


def test_average_that_is_no_number_is_refused_where_it_is_to_be_used(tmp_path):
    save(tmp_path / "a", ema={**AVERAGE, "conv1.bias": np.full(4, np.nan, np.float32)})

    assert "conv1.bias" in refused(tmp_path / "a")


def test_same_checkpoint_makes_the_same_bytes(tmp_path):
    assert save(tmp_path / "a") == save(tmp_path / "b")


def test_tensors_that_are_not_contiguous_are_saved_as_they_read(tmp_path):
    turned = {name: np.asfortranarray(tensor) for name, tensor in WEIGHTS.items()}
    save(tmp_path / "a", weights=turned)

    assert same(load_checkpoint(tmp_path / "a").weights, WEIGHTS)


def test_hash_names_the_weights_and_nothing_else():
    other = {**WEIGHTS, "conv1.bias": WEIGHTS["conv1.bias"] + 1}

    assert build(recipe=PAPER, fingerprint="another").weights_hash() == build().weights_hash()
    assert build(weights=other).weights_hash() != build().weights_hash()


def test_origin_says_where_the_weights_come_from():
    origin = build(tool="alexnet 9").origin()

    assert origin == {
        "tool": "alexnet 9",
        "dataset": "0123456789abcdef",
        "recipe": "demo",
        "epoch": "3",
        "step": "99",
    }


# --- writing


def test_failing_write_leaves_the_old_checkpoint(path: Path, monkeypatch):
    before = path.read_bytes()

    def fail(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(path, build(fingerprint="new"))

    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


# --- damage


def refused(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    assert caught.value.exit_code == 3
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_file_cut_anywhere_is_refused(path: Path):
    content = path.read_bytes()
    for length in [*range(0, len(content), 61), len(content) - 1]:
        path.write_bytes(content[:length])
        refused(path)


def test_file_with_bytes_after_its_end_is_refused(path: Path):
    path.write_bytes(path.read_bytes() + b"\0")

    refused(path)


def test_flipped_bit_is_noticed_wherever_it_is(path: Path):
    content, expected = path.read_bytes(), load_checkpoint(path, with_optimizer=True)
    noticed = 0
    for position in range(0, len(content), 5):
        damaged = bytearray(content)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        try:
            found = load_checkpoint(path, with_optimizer=True)
        except CheckpointError:
            noticed += 1
        else:  # 1e-06 and 1E-06 are the same number
            assert found.train_state == expected.train_state, position
            assert (found.recipe, found.classes) == (expected.recipe, expected.classes), position
            assert (found.fingerprint, found.tool) == (expected.fingerprint, expected.tool)
            assert same(found.weights, expected.weights), position
    assert noticed > 0.98 * len(content) / 5


@pytest.mark.parametrize("start", [0, 8, 200, -40])
def test_file_whose_disk_lost_a_part_is_refused(path: Path, start: int):
    content = bytearray(path.read_bytes())
    content[start:] = bytes(len(content[start:]))
    path.write_bytes(content)

    refused(path)


@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 4096, b"\xff" * 4096, b"hello\n", b"PK\x03\x04" + b"\0" * 100],
    ids=["empty", "zeros", "ones", "text", "zip"],
)
def test_file_of_another_kind_is_refused(path: Path, content: bytes):
    path.write_bytes(content)

    assert "not an alexnet checkpoint" in refused(path)


def test_folder_is_refused(tmp_path):
    refused(tmp_path)


def test_missing_file_is_refused(tmp_path):
    assert "no such file" in refused(tmp_path / "none.safetensors")


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_pickle_is_refused_and_not_run(tmp_path):
    sprung = tmp_path / "sprung"
    (tmp_path / "model.pt").write_bytes(pickle.dumps(Trap(sprung)))

    refused(tmp_path / "model.pt")

    assert not sprung.exists()


# --- files of other tools and versions


def test_safetensors_of_another_tool_is_refused(path: Path):
    path.write_bytes(safetensors.numpy.save(WEIGHTS))
    refused(path)
    path.write_bytes(safetensors.numpy.save(WEIGHTS, {"format": "pt"}))
    refused(path)


@pytest.mark.parametrize("header", ["", "null", "[]", "3", '"text"', "{}", "{", '{"format": 1}'])
def test_header_of_another_kind_is_refused(path: Path, header: str):
    path.write_bytes(safetensors.numpy.save(WEIGHTS, {"alexnet": header}))

    refused(path)


def test_newer_format_asks_for_an_update(path: Path):
    edit(path, lambda header: header.update(format=2, tool="alexnet 9.9", new={"things": 1}))

    with pytest.raises(CheckpointError, match=r"written by alexnet 9\.9, which is newer") as caught:
        load_checkpoint(path)
    assert caught.value.hint == "Update alexnet."


@pytest.mark.parametrize(
    "name",
    ["format", "tool", "recipe", "classes", "dataset", "train_state", "init_from", "checksum"],
)
def test_header_without_one_of_its_parts_is_refused(path: Path, name: str):
    edit(path, lambda header: header.pop(name))

    assert name in refused(path)


def test_recipe_without_a_name_is_refused(path: Path):
    edit(path, lambda header: header["recipe"].pop("name"))

    assert "name" in refused(path)


@pytest.mark.parametrize("value", [None, 3, "text", [], {}, [1], [["n01"]], {"epoch": []}])
@pytest.mark.parametrize("name", ["format", "recipe", "classes", "train_state", "checksum"])
def test_header_with_a_value_of_another_kind_is_refused(path: Path, name: str, value):
    edit(path, lambda header: header.update({name: value}))

    refused(path)


def test_edited_header_is_refused(path: Path):
    edit(path, lambda header: header["classes"].reverse())

    assert "damaged" in refused(path)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers_are_refused(tmp_path, number: float):
    bad = WEIGHTS["fc8.weight"].copy()
    bad[1, 2] = number
    save(tmp_path / "a", weights={**WEIGHTS, "fc8.weight": bad})

    assert "fc8.weight" in refused(tmp_path / "a")


@pytest.fixture
def full(tmp_path) -> Path:
    """A saved checkpoint with averaged weights."""
    save(tmp_path / "a.safetensors", ema=AVERAGE)
    return tmp_path / "a.safetensors"


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
    """Return the name after wrapping the network; statistics keep theirs."""
    kind, dot, rest = name.partition(".")
    if kind == "pixels":
        return name
    return f"{kind}.module.{rest}" if kind in ("optimizer", "ema") else f"module.{kind}{dot}{rest}"


@pytest.mark.parametrize("rename", [all_of_them, weights_alone])
def test_prefix_of_data_parallelism_is_taken_off_and_the_checksum_still_holds(full, rename):
    expected = load_checkpoint(full, with_optimizer=True)

    rewrite(full, lambda name, tensor: (rename(name), tensor))

    assert all("module." in name for name in module._read_tensors(full) if "pixels" not in name)
    found = load_checkpoint(full, with_optimizer=True)
    for kind in ("weights", "optimizer", "ema", "pixels"):
        mine, theirs = getattr(found, kind), getattr(expected, kind)
        assert mine.keys() == theirs.keys()
        for name, tensor in theirs.items():
            np.testing.assert_array_equal(mine[name], tensor)


@pytest.mark.parametrize("rename", [all_of_them, weights_alone])
def test_damage_behind_the_prefix_is_found(full, rename):
    def change(name, tensor):
        return rename(name), tensor + 1 if name == "conv1.bias" else tensor

    rewrite(full, change)

    with pytest.raises(CheckpointError, match="checksum does not match"):
        load_checkpoint(full)


@pytest.mark.parametrize(
    "names",
    [
        ("module.conv1.weight", "fc8.bias"),
        ("conv1.weight", "module.conv1.weight"),
        ("module.conv1.weight", "pixels.mean_image", "module.pixels.mean_image"),
        ("conv1.module.weight", "fc8.bias"),
    ],
)
def test_prefix_that_not_all_weights_have_is_kept(names):
    tensors = {name: np.zeros(number + 1) for number, name in enumerate(names)}

    assert module._without_parallel(tensors) is tensors


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
def test_converted_weights_are_refused_by_name(full, dtype, name):
    rewrite(full, lambda key, t: (key, t.to(dtype) if key == "conv1.bias" else t))

    with pytest.raises(
        CheckpointError, match=f"{full}: conv1.bias is {name}, not float32"
    ) as caught:
        load_checkpoint(full)

    assert str(caught.value).count("\n") < 3


# --- files


def test_header_and_tensors_are_read_by_name(full):
    assert module.read_header(full)["tool"].startswith("alexnet ")
    tensors = module._read_tensors(full)
    np.testing.assert_array_equal(tensors["conv1.weight"], WEIGHTS["conv1.weight"])
    buffer = tensors["optimizer.conv1.bias.momentum_buffer"]
    np.testing.assert_array_equal(buffer, WEIGHTS["conv1.bias"] * 0.5)
    np.testing.assert_array_equal(tensors["ema.conv1.bias"], AVERAGE["conv1.bias"])


def test_reading_parts_of_another_file_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="no such file"):
        module.read_header(tmp_path / "none")
    (tmp_path / "text").write_text("no tensors here")
    for read in (module.read_header, module._read_tensors):
        with pytest.raises(CheckpointError, match="not an alexnet checkpoint"):
            read(tmp_path / "text")


# --- how far a run is


def test_progress_averages_over_images():
    at = TrainState(num_seen=40, num_wrong=24, loss_sum=30 * 1.0 + 10 * 3.0)

    assert at.train_loss == pytest.approx(1.5)
    assert at.train_error == pytest.approx(0.6)


def test_progress_before_the_first_image_is_zero():
    assert (TrainState().train_loss, TrainState().train_error) == (0, 0)


def test_next_epoch_starts_its_sums_again_and_keeps_the_total():
    at = TrainState(step=1, total_steps=1, num_seen=30, num_wrong=15, loss_sum=30.0)
    at.next_epoch({"top1_error": 0.7, "top5_error": 0.4}, is_best=False)

    assert at == TrainState(epoch=1, total_steps=1, val_errors=[0.7], train_errors=[0.5])


def test_best_epoch_is_noted_with_its_errors():
    at = TrainState()
    at.next_epoch({"top1_error": 0.7, "top5_error": 0.4}, is_best=True)
    at.next_epoch({"top1_error": 0.8, "top5_error": 0.3}, is_best=False)

    assert at.best == {"epoch": 1, "top1_error": 0.7, "top5_error": 0.4}


def test_best_epoch_without_validation_has_no_errors():
    at = TrainState()
    at.next_epoch(None, is_best=True)

    assert at.best == {"epoch": 1, "top1_error": None, "top5_error": None}
    assert at.val_errors == []
