"""Checkpoints written by a thread: in order, one at a time, and their errors."""

import os
import threading
from dataclasses import replace

import pytest
from helpers import a_checkpoint

from alexnet_cli.cli import hints
from alexnet_cli.errors import MachineError
from alexnet_cli.model.checkpoint import Checkpoint, load_checkpoint
from alexnet_cli.recipes.small import DEMO
from alexnet_cli.training import checkpointer as saver_module
from alexnet_cli.training.checkpointer import Checkpointer, SaveInterval
from alexnet_cli.training.run_directory import RunDirectory

WAIT = 60  # seconds, for a thread that is stuck


@pytest.fixture
def run(tmp_path) -> RunDirectory:
    """A new run."""
    folder = RunDirectory(tmp_path / "run")
    folder.create(DEMO)
    return folder


@pytest.fixture
def checkpointer(run):
    """A saver by neither time nor steps."""
    checkpointer = Checkpointer(run, SaveInterval(0, 0))
    yield checkpointer
    checkpointer.close()


class Gate:
    """Lets the saves of a run through one by one, and notes what happens."""

    def __init__(self, run: RunDirectory, monkeypatch):
        self.notes, self.began, self.may_end = [], threading.Semaphore(0), threading.Semaphore(0)
        self._save = run.save
        monkeypatch.setattr(run, "save", self._save_later)

    def _save_later(self, checkpoint: Checkpoint, *, is_best: bool) -> None:
        self.notes.append(("begins", checkpoint.train_state.epoch))
        self.began.release()
        assert self.may_end.acquire(timeout=WAIT)
        self._save(checkpoint, is_best=is_best)
        self.notes.append(("ends", checkpoint.train_state.epoch))

    def wait_until_it_begins(self) -> None:
        assert self.began.acquire(timeout=WAIT)


@pytest.fixture
def gate(run, monkeypatch) -> Gate:
    """The gate before the disk."""
    return Gate(run, monkeypatch)


def epoch_of(path) -> int:
    return load_checkpoint(path).train_state.epoch


# --- written meanwhile


def test_training_continues_while_a_checkpoint_is_written(run, checkpointer, gate):
    checkpointer.save(a_checkpoint(1), is_best=False)
    gate.wait_until_it_begins()

    assert not checkpointer.is_due()
    assert not run.last.exists()

    gate.may_end.release()
    checkpointer.wait()
    assert epoch_of(run.last) == 1


def test_second_save_waits_for_the_first(run, checkpointer, gate):
    checkpointer.save(a_checkpoint(1), is_best=False)
    gate.wait_until_it_begins()
    threading.Timer(0.05, gate.may_end.release).start()

    checkpointer.save(a_checkpoint(2), is_best=False)

    assert gate.notes[:2] == [("begins", 1), ("ends", 1)]
    gate.may_end.release()
    checkpointer.wait()
    assert gate.notes[2:] == [("begins", 2), ("ends", 2)]
    assert epoch_of(run.last) == 2


def test_best_is_written_when_it_is_one(run, checkpointer):
    checkpointer.save(a_checkpoint(1), is_best=True)
    checkpointer.save(a_checkpoint(2), is_best=False)
    checkpointer.wait()

    assert (epoch_of(run.best), epoch_of(run.last)) == (1, 2)


def test_close_lets_what_was_begun_end(run, checkpointer, gate):
    checkpointer.save(a_checkpoint(3), is_best=False)
    gate.may_end.release()

    checkpointer.close()

    assert epoch_of(run.last) == 3


def test_nothing_to_wait_for_is_no_fault(checkpointer):
    checkpointer.wait()
    checkpointer.wait()


# --- when


@pytest.fixture
def clock(monkeypatch):
    """A clock set by hand, in seconds."""
    now = [1000.0]
    monkeypatch.setattr(saver_module.time, "monotonic", lambda: now[0])
    return now


def test_by_minutes_since_the_last_checkpoint(run, clock):
    checkpointer = Checkpointer(run, SaveInterval(minutes=10))
    clock[0] += 599
    assert not checkpointer.is_due()
    clock[0] += 1
    assert checkpointer.is_due()
    assert checkpointer.is_due()  # until one is written

    checkpointer.save(a_checkpoint(1), is_best=False)

    assert not checkpointer.is_due()
    clock[0] += 600
    assert checkpointer.is_due()
    checkpointer.close()


def test_by_steps_since_the_last_checkpoint(run, clock):
    checkpointer = Checkpointer(run, SaveInterval(minutes=0, steps=3))
    clock[0] += 1e9
    assert [checkpointer.is_due() for _ in range(4)] == [False, False, True, True]

    checkpointer.save(a_checkpoint(1), is_best=False)

    assert [checkpointer.is_due() for _ in range(3)] == [False, False, True]
    checkpointer.close()


def test_by_whichever_comes_first(run, clock):
    checkpointer = Checkpointer(run, SaveInterval(minutes=1, steps=2))
    assert [checkpointer.is_due(), checkpointer.is_due()] == [False, True]
    checkpointer.save(a_checkpoint(1), is_best=False)
    clock[0] += 60
    assert checkpointer.is_due()
    checkpointer.close()


def test_not_at_all_where_neither_is_wanted(run, clock):
    checkpointer = Checkpointer(run, SaveInterval(0, 0))
    clock[0] += 1e9
    assert not any(checkpointer.is_due() for _ in range(1000))
    checkpointer.close()


# --- faults


@pytest.fixture
def full_disk(monkeypatch):
    """From now on nothing can be written."""

    def fill() -> None:
        def fail(_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", fail)

    return fill


def shown_error(error: MachineError, run: RunDirectory) -> str:
    message = hints.message(error)
    assert error.exit_code == 4
    assert message.startswith(str(run.last))
    assert "the checkpoint could not be written" in message
    assert "No space left on device" in message
    assert message.count("\n") < 3
    return message


def test_full_disk_keeps_the_checkpoint_before_and_advises_to_resume(run, checkpointer, full_disk):
    checkpointer.save(a_checkpoint(1), is_best=False)
    checkpointer.wait()
    before = run.last.read_bytes()

    full_disk()
    checkpointer.save(a_checkpoint(2), is_best=False)
    with pytest.raises(MachineError) as caught:
        checkpointer.wait()

    message = shown_error(caught.value, run)
    assert f"{run.last} is kept" in message
    assert "--resume" in message
    assert run.last.read_bytes() == before
    assert not list(run.path.glob("*.partial"))


def test_full_disk_at_the_first_checkpoint_does_not_promise_one(run, checkpointer, full_disk):
    full_disk()
    checkpointer.save(a_checkpoint(1), is_best=False)
    with pytest.raises(MachineError) as caught:
        checkpointer.wait()

    message = shown_error(caught.value, run)
    assert "is kept" not in message
    assert "--resume" not in message


@pytest.mark.parametrize("when", ["save", "is_due"])
def test_error_is_raised_at_the_next_step_or_checkpoint(run, checkpointer, full_disk, when):
    full_disk()
    checkpointer.save(a_checkpoint(1), is_best=False)
    checkpointer._pool.submit(int).result(WAIT)  # behind it in the only thread

    with pytest.raises(MachineError, match="could not be written"):
        checkpointer.is_due() if when == "is_due" else checkpointer.save(
            a_checkpoint(2), is_best=False
        )


def test_error_is_raised_once(run, checkpointer, full_disk):
    full_disk()
    checkpointer.save(a_checkpoint(1), is_best=False)
    with pytest.raises(MachineError):
        checkpointer.wait()

    checkpointer.wait()


def test_error_other_than_of_the_disk_is_raised_unchanged(run, checkpointer):
    checkpointer.save(replace(a_checkpoint(1), weights={"a.weight": object()}), is_best=False)

    with pytest.raises(TypeError, match="data-type"):
        checkpointer.wait()
