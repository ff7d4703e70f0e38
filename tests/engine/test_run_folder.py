"""A run's files: never overwritten by another run, never half written."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from alexnet_cli.engine.run_folder import RunFolder
from alexnet_cli.errors import CheckpointError, InputError
from alexnet_cli.model.checkpoint import Checkpoint, Progressed, load_checkpoint
from alexnet_cli.recipe import Recipe
from alexnet_cli.recipes.small import DEMO


def build(epoch: int) -> Checkpoint:
    tensor = np.full((2, 2), epoch, np.float32)
    return Checkpoint(
        recipe=DEMO,
        weights={"a.weight": tensor},
        velocity={"a.weight": -tensor},
        pixels={},
        classes=[("n01", "one")],
        fingerprint="f",
        progressed=Progressed(epoch=epoch),
    )


@pytest.fixture
def run(tmp_path) -> RunFolder:
    """A new run."""
    folder = RunFolder(tmp_path / "runs" / "a")
    folder.create(DEMO)
    return folder


def epochs(run: RunFolder) -> list[int]:
    return [json.loads(line)["epoch"] for line in run.log.read_text().splitlines()]


# --- beginning


def test_new_run_holds_its_recipe(run):
    assert [path.name for path in run.path.iterdir()] == ["recipe.json"]
    assert Recipe.from_json((run.path / "recipe.json").read_text()) == DEMO


def test_empty_folder_becomes_a_run(tmp_path):
    RunFolder(tmp_path).create(DEMO)

    assert (tmp_path / "recipe.json").is_file()


def refused(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        RunFolder(path).create(replace(DEMO, seed=9))
    assert caught.value.exit_code == 3
    assert "left as it is" in str(caught.value)
    return str(caught.value)


def test_run_with_a_checkpoint_is_left_as_it_is(run):
    run.save(build(1), is_best=True)
    before = {path.name: path.read_bytes() for path in run.path.iterdir()}

    assert "--resume" in refused(run.path)

    assert {path.name: path.read_bytes() for path in run.path.iterdir()} == before


def test_folder_with_anything_in_it_is_left_as_it_is(tmp_path):
    (tmp_path / ".hidden").write_text("mine")

    assert "--resume" not in refused(tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == [".hidden"]


def test_file_in_place_of_the_folder_is_left_as_it_is(tmp_path):
    (tmp_path / "run").write_text("mine")

    refused(tmp_path / "run")

    assert (tmp_path / "run").read_text() == "mine"


# --- checkpoints


def test_last_has_velocity_and_best_has_none(run):
    run.save(build(1), is_best=True)

    assert load_checkpoint(run.last, with_velocity=True).velocity.keys() == {"a.weight"}
    assert load_checkpoint(run.best, with_velocity=True).velocity == {}


def test_best_stays_while_it_is_the_best(run):
    run.save(build(1), is_best=True)
    run.save(build(2), is_best=False)

    assert load_checkpoint(run.best).progressed.epoch == 1
    assert load_checkpoint(run.last).progressed.epoch == 2


def test_saving_leaves_the_checkpoint_in_memory_as_it_is(run):
    checkpoint = build(1)

    run.save(checkpoint, is_best=True)

    assert np.array_equal(checkpoint.velocity["a.weight"], build(1).velocity["a.weight"])


@pytest.mark.parametrize("num_syncs", [0, 1, 2, 3])
def test_last_is_never_newer_than_a_best_that_was_to_be_written(run, monkeypatch, num_syncs: int):
    run.save(build(1), is_best=True)
    done, real_fsync = [], os.fsync

    def fail(descriptor):
        if len(done) == num_syncs:
            raise OSError(28, "No space left on device")
        done.append(real_fsync(descriptor))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        run.save(build(2), is_best=True)

    best, last = (load_checkpoint(path).progressed.epoch for path in (run.best, run.last))
    assert last <= best


def test_last_comes_back_with_its_velocity(run):
    run.save(build(3), is_best=False)

    found = run.load_last()

    assert found.progressed == Progressed(epoch=3)
    assert np.array_equal(found.velocity["a.weight"], build(3).velocity["a.weight"])


def test_run_without_a_checkpoint_cannot_be_resumed(run):
    with pytest.raises(CheckpointError, match="no checkpoint to resume"):
        run.load_last()


def test_run_whose_last_is_a_copy_of_its_best_cannot_be_resumed(run):
    run.save(build(1), is_best=True)
    run.last.write_bytes(run.best.read_bytes())

    with pytest.raises(CheckpointError, match="holds no velocity"):
        run.load_last()


def test_damaged_last_cannot_be_resumed(run):
    run.save(build(1), is_best=True)
    run.last.write_bytes(run.last.read_bytes()[:-1])

    with pytest.raises(CheckpointError, match=r"last\.safetensors"):
        run.load_last()


# --- the log


def test_rows_come_one_a_line_in_order(run):
    run.add_row({"epoch": 1, "train_loss": 2.5})
    run.add_row({"epoch": 2, "train_loss": 1.5})

    assert run.log.read_text() == (
        '{"epoch": 1, "train_loss": 2.5}\n{"epoch": 2, "train_loss": 1.5}\n'
    )


def test_rows_of_epochs_that_come_again_are_dropped(run):
    for epoch in (1, 2, 3):
        run.add_row({"epoch": epoch})

    run.keep_rows(2)

    assert epochs(run) == [1, 2]


def test_row_that_was_half_written_is_dropped(run):
    for epoch in (1, 2):
        run.add_row({"epoch": epoch})
    with run.log.open("a") as file:
        file.write('{"epoch": 3, "trai')

    run.keep_rows(5)
    run.add_row({"epoch": 3})

    assert epochs(run) == [1, 2, 3]


def test_log_that_was_never_written_is_empty(run):
    run.keep_rows(0)

    assert epochs(run) == []
