"""A run's files: never overwritten by another run, never half written."""

import json
import math
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import a_checkpoint

from alexnet_cli.cli import hints
from alexnet_cli.errors import CheckpointError, InputError, MachineError
from alexnet_cli.io.folder_lock import LOCK_NAME
from alexnet_cli.model.architecture import parameter_shapes
from alexnet_cli.model.checkpoint import TrainState, load_checkpoint
from alexnet_cli.recipes.recipe import Recipe
from alexnet_cli.recipes.small import DEMO
from alexnet_cli.training.run_directory import RunDirectory


@pytest.fixture
def run(tmp_path) -> RunDirectory:
    """A new run."""
    folder = RunDirectory(tmp_path / "runs" / "a")
    folder.create(DEMO)
    return folder


def epochs(run: RunDirectory) -> list[int]:
    return [json.loads(line)["epoch"] for line in run.log.read_text().splitlines()]


# --- beginning


def test_new_run_holds_its_recipe(run):
    assert [path.name for path in run.path.iterdir()] == ["recipe.json"]
    assert Recipe.from_json((run.path / "recipe.json").read_text()) == DEMO


def test_empty_folder_becomes_a_run(tmp_path):
    RunDirectory(tmp_path).create(DEMO)

    assert (tmp_path / "recipe.json").is_file()


def refused(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        RunDirectory(path).create(replace(DEMO, seed=9))
    assert caught.value.exit_code == 3
    assert "left as it is" in hints.message(caught.value)
    return hints.message(caught.value)


def test_run_with_a_checkpoint_is_left_as_it_is(run):
    run.save(a_checkpoint(1), is_best=True)
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


def begin_again(path: Path) -> None:
    RunDirectory(path).create(replace(DEMO, seed=9))

    assert Recipe.from_json((path / "recipe.json").read_text()).seed == 9


def test_run_that_holds_only_its_recipe_can_begin_again(run):
    begin_again(run.path)

    assert [path.name for path in run.path.iterdir()] == ["recipe.json"]


def test_run_stopped_before_its_first_checkpoint_can_begin_again(run):
    run.log.touch()
    run.evidence.touch()
    (run.path / "last.safetensors.123.partial").write_bytes(b"half")

    begin_again(run.path)
    assert not run.evidence.exists()


@pytest.mark.parametrize(
    "name", ["last.safetensors", "best.safetensors", "notes.txt", ".hidden", "recipe.json.bak"]
)
def test_run_with_any_other_file_cannot_begin_again(run, name: str):
    run.log.touch()
    (run.path / name).write_text("mine")
    before = {path.name: path.read_bytes() for path in run.path.iterdir()}

    assert ("--resume" in refused(run.path)) == (name == "last.safetensors")

    assert {path.name: path.read_bytes() for path in run.path.iterdir()} == before


def test_run_with_a_folder_of_someone_else_in_it_cannot_begin_again(run):
    (run.path / "figures").mkdir()

    refused(run.path)


# --- one process at a time


def no_entry(run: RunDirectory) -> str:
    with pytest.raises(MachineError) as caught, RunDirectory(run.path).locked():
        pytest.fail("two hold the folder")
    assert caught.value.exit_code == 4
    assert hints.message(caught.value).count("\n") < 3
    return hints.message(caught.value)


def test_second_holder_of_a_run_is_refused_with_its_path(run):
    with run.locked():
        message = no_entry(run)

    assert f"{run.path}: in use by another process (" in message
    assert "trains there" in message
    assert "--run" in message


def test_second_run_in_a_folder_is_refused_before_and_after_a_checkpoint(run):
    with run.locked():
        assert "--run" in no_entry(run)
        run.save(a_checkpoint(1), is_best=True)

        with pytest.raises(MachineError, match="in use by another process"):
            RunDirectory(run.path).check_unused()

    with pytest.raises(InputError, match="already contains a run"):
        RunDirectory(run.path).check_unused()


def test_run_that_began_and_ended_while_the_lock_was_waited_for_is_left_as_it_is(run):
    run.save(a_checkpoint(1), is_best=True)
    with run.locked(), pytest.raises(InputError, match="already contains a run"):
        run.create(DEMO)


def test_run_can_be_held_again_when_the_first_holder_has_gone(run):
    for _ in range(3):
        with run.locked():
            no_entry(run)


def test_run_is_let_go_when_training_fails(run):
    with pytest.raises(ZeroDivisionError), run.locked():
        raise ZeroDivisionError

    with run.locked():
        pass


def test_refused_holder_leaves_the_first_ones_lock(run):
    with run.locked():
        no_entry(run)
        no_entry(run)


HOLD = """
import sys
from pathlib import Path
from alexnet_cli.training.run_directory import RunDirectory
with RunDirectory(Path(sys.argv[1])).locked():
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def other_process(run):
    """Another process that holds the run."""
    command = [sys.executable, "-c", HOLD, str(run.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def test_run_that_another_process_holds_is_refused_until_that_is_killed(run, other_process):
    no_entry(run)

    other_process.kill()
    other_process.wait()

    with run.locked():
        no_entry(run)


def test_half_written_files_of_a_killed_process_are_removed(run):
    run.save(a_checkpoint(1), is_best=True)
    run.add_row({"epoch": 1})
    kept = {path.name: path.read_bytes() for path in run.path.iterdir()}
    for name in ("last.safetensors.123.partial", "recipe.json.4.partial", "log.jsonl.55.partial"):
        (run.path / name).write_bytes(b"half")

    with run.locked():
        found = {path.name: path.read_bytes() for path in run.path.iterdir()}
        assert found.pop(LOCK_NAME)
        assert found == kept

    assert {path.name: path.read_bytes() for path in run.path.iterdir()} == kept


def test_file_that_the_holder_is_writing_is_not_removed_by_who_is_refused(run):
    with run.locked():
        partial = run.path / "last.safetensors.123.partial"
        partial.write_bytes(b"half")

        no_entry(run)

        assert partial.read_bytes() == b"half"


def test_half_written_file_beside_the_run_stays(run):
    (run.path.parent / "mine.partial").write_text("mine")

    with run.locked():
        pass

    assert (run.path.parent / "mine.partial").read_text() == "mine"


def test_holding_a_run_that_is_not_there_makes_no_folder(tmp_path):
    with RunDirectory(tmp_path / "none").locked():
        pass

    assert list(tmp_path.iterdir()) == []


# --- checkpoints


def test_last_has_optimizer_state_and_best_has_none(run):
    run.save(a_checkpoint(1), is_best=True)

    assert load_checkpoint(run.last, with_optimizer=True).optimizer.keys() == {
        "a.weight.momentum_buffer"
    }
    assert load_checkpoint(run.best, with_optimizer=True).optimizer == {}


def test_best_is_the_average_of_the_weights_where_there_is_one(run):
    average = {"a.weight": np.full((2, 2), 0.5, np.float32)}

    run.save(replace(a_checkpoint(1), ema=average), is_best=True)

    best, last = (load_checkpoint(path, with_optimizer=True) for path in (run.best, run.last))
    assert np.array_equal(best.weights["a.weight"], average["a.weight"])
    assert best.ema == {}
    assert np.array_equal(last.weights["a.weight"], a_checkpoint(1).weights["a.weight"])
    assert np.array_equal(last.ema["a.weight"], average["a.weight"])


def test_best_stays_while_it_is_the_best(run):
    run.save(a_checkpoint(1), is_best=True)
    run.save(a_checkpoint(2), is_best=False)

    assert load_checkpoint(run.best).train_state.epoch == 1
    assert load_checkpoint(run.last).train_state.epoch == 2


def test_saving_leaves_the_checkpoint_in_memory_as_it_is(run):
    checkpoint = a_checkpoint(1)

    run.save(checkpoint, is_best=True)

    assert np.array_equal(
        checkpoint.optimizer["a.weight.momentum_buffer"],
        a_checkpoint(1).optimizer["a.weight.momentum_buffer"],
    )


@pytest.mark.parametrize("num_syncs", [0, 1, 2, 3])
def test_last_is_never_newer_than_a_best_that_was_to_be_written(run, monkeypatch, num_syncs: int):
    run.save(a_checkpoint(1), is_best=True)
    done, real_fsync = [], os.fsync

    def fail(descriptor):
        if len(done) == num_syncs:
            raise OSError(28, "No space left on device")
        done.append(real_fsync(descriptor))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        run.save(a_checkpoint(2), is_best=True)

    best, last = (load_checkpoint(path).train_state.epoch for path in (run.best, run.last))
    assert last <= best


def test_last_comes_back_with_its_optimizer_state(run):
    run.save(a_checkpoint(3), is_best=False)

    found = run.load_last()

    assert found.train_state == TrainState(epoch=3)
    assert np.array_equal(
        found.optimizer["a.weight.momentum_buffer"],
        a_checkpoint(3).optimizer["a.weight.momentum_buffer"],
    )


def test_run_without_a_checkpoint_cannot_be_resumed(run):
    with pytest.raises(CheckpointError, match="no checkpoint to resume") as caught:
        run.load_last()
    assert "without --resume" in hints.message(caught.value)


@pytest.mark.parametrize(
    ("name", "advice"), [("best.safetensors", "--init-from"), ("thesis.txt", "another --run")]
)
def test_folder_where_no_run_can_begin_is_not_offered_for_one(run, name, advice):
    (run.path / name).write_text("mine")

    with pytest.raises(CheckpointError, match="no checkpoint to resume") as caught:
        run.load_last()

    assert advice in hints.message(caught.value)
    assert "without --resume" not in hints.message(caught.value)
    assert hints.message(caught.value).count("\n") < 3


def test_run_whose_last_is_a_copy_of_its_best_cannot_be_resumed(run):
    run.save(a_checkpoint(1), is_best=True)
    run.last.write_bytes(run.best.read_bytes())

    with pytest.raises(CheckpointError, match="has no optimizer state"):
        run.load_last()


def test_damaged_last_cannot_be_resumed(run):
    run.save(a_checkpoint(1), is_best=True)
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

    run.go_back(2)

    assert epochs(run) == [1, 2]


def test_row_that_was_half_written_is_dropped(run):
    for epoch in (1, 2):
        run.add_row({"epoch": epoch})
    with run.log.open("a") as file:
        file.write('{"epoch": 3, "trai')

    run.go_back(5)
    run.add_row({"epoch": 3})

    assert epochs(run) == [1, 2, 3]


def test_log_that_was_never_written_is_empty(run):
    run.go_back(0)

    assert epochs(run) == []


def test_rows_are_the_finished_epochs_in_order(run):
    for epoch in (1, 2, 3):
        run.add_row({"epoch": epoch, "train_loss": 1 / epoch, "val": {"top1_error": 0.5}})

    assert run.rows() == [
        {"epoch": epoch, "train_loss": 1 / epoch, "val": {"top1_error": 0.5}} for epoch in (1, 2, 3)
    ]


@pytest.mark.parametrize("end", ['{"epoch": 3, "trai', "{", "\0\0\0\0", ""])
def test_rows_leave_out_one_that_was_half_written(run, end: str):
    for epoch in (1, 2):
        run.add_row({"epoch": epoch})
    before = run.log.read_text() + end
    run.log.write_text(before)

    assert run.rows() == [{"epoch": 1}, {"epoch": 2}]
    assert run.log.read_text() == before


def test_run_that_finished_no_epoch_has_no_rows(run):
    assert run.rows() == []
    assert not run.log.exists()


def test_rows_after_dropping_some_are_those_that_were_kept(run):
    for epoch in (1, 2, 3):
        run.add_row({"epoch": epoch})

    run.go_back(2)

    assert run.rows() == [{"epoch": 1}, {"epoch": 2}]


def test_row_that_was_cut_by_a_full_disk_leaves_no_trace(run):
    """The kernel writes up to a limit, and then refuses."""
    run.add_row({"epoch": 1})
    program = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from alexnet_cli.training.run_directory import RunDirectory\n"
        "run = RunDirectory(Path(sys.argv[1]))\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "limit = run.log.stat().st_size + 4\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))\n"
        "try:\n"
        "    run.add_row({'epoch': 2})\n"
        "except OSError as error:\n"
        "    print(error.strerror, run.log.stat().st_size)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)\n"
        "run.add_row({'epoch': 3})\n"
    )

    said = subprocess.run(
        [sys.executable, "-c", program, str(run.path)], capture_output=True, text=True, check=True
    ).stdout

    assert said == "File too large 13\n"
    assert epochs(run) == [1, 3]


# --- room on the disk


def test_disk_without_room_for_the_checkpoints_is_refused_before_anything_is_made(
    tmp_path, monkeypatch
):
    """Both checkpoints of a new run and the one being written: five times the weights."""
    run, recipe = RunDirectory(tmp_path / "runs" / "a"), replace(DEMO, ema_decay=0.0)
    num_weights = sum(math.prod(shape) for shape in parameter_shapes(recipe, 10).values())
    needed = 5 * 4 * num_weights
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=needed - 1))

    with pytest.raises(MachineError, match="the checkpoints of the run need") as caught:
        run.check_room(recipe, 10)

    assert "Make room" in hints.message(caught.value)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=needed))
    run.check_room(recipe, 10)


def test_checkpoints_that_are_there_need_no_more_room(run, monkeypatch):
    run.best.write_bytes(bytes(1000))
    run.last.write_bytes(bytes(2000))
    num_weights = sum(math.prod(shape) for shape in parameter_shapes(DEMO, 10).values())
    usage = shutil.disk_usage(run.path)
    free = (7 if DEMO.ema_decay else 5) * 4 * num_weights - 3000
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=free))

    run.check_room(DEMO, 10)


def test_looking_whether_a_folder_is_unused_makes_none(tmp_path):
    RunDirectory(tmp_path / "runs" / "a").check_unused()

    assert list(tmp_path.iterdir()) == []


def test_run_that_just_began_elsewhere_is_in_use(run):
    with run.locked(), pytest.raises(MachineError, match="in use by another process"):
        RunDirectory(run.path).check_unused()
