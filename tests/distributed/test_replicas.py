"""Several processes learn what one does; each launch takes some seconds."""

import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import assert_near, evaluate, read_last, resume, train

from alexnet_cli.cli.hints import message
from alexnet_cli.distributed import launcher
from alexnet_cli.distributed.replicas import AGAIN, ALONE, in_group, num_local, was_restarted
from alexnet_cli.errors import LostReplicaError, Stopped
from alexnet_cli.recipes.recipe import Recipe
from alexnet_cli.training import run as train_module

TWO = {"num_devices": 2, "columns": 1}
NUM_STEPS = 4  # an epoch: 60 images, 16 a step
NUM_EPOCHS = 20  # a signal takes up to half a second to reach the replicas


@pytest.fixture(scope="module")
def recipe(tiny_recipe) -> Recipe:
    """Eighty steps, dropout and color noise included.

    ReLU and max pooling turn the smallest difference of rounding into a large one when a unit is
    near zero or two are near each other; tanh and average pooling do not.
    """
    pools = {
        name: replace(conv, then=tuple(step.replace("max-", "average-") for step in conv.then))
        for name, conv in tiny_recipe.convs().items()
    }
    return replace(tiny_recipe, epochs=NUM_EPOCHS, activation="tanh", **pools)


@pytest.fixture(scope="module")
def straight(dataset, recipe, tmp_path_factory) -> Path:
    """The run of one process."""
    run = tmp_path_factory.mktemp("alone") / "run"
    train(dataset, run, recipe)
    return run


def test_two_replicas_stopped_and_resumed_learn_what_one_process_does(
    dataset, recipe, straight, tmp_path
):
    """Of a batch of 12, the last of each epoch, both take six; SIGTERM comes in the middle."""
    run = tmp_path / "run"
    watcher = threading.Thread(target=_terminate_once, args=(run / "log.jsonl",))
    watcher.start()
    with pytest.raises(Stopped, match="stopped and saved") as caught:
        train(dataset, run, recipe, **TWO)
    watcher.join()
    assert caught.value.exit_code == 128 + signal.SIGTERM
    assert 1 <= read_last(run).train_state.epoch < NUM_EPOCHS

    found = resume(dataset, run, None, **TWO)

    assert (found.replicas, found.steps) == (2, NUM_EPOCHS * NUM_STEPS)
    assert_near(run, straight)
    best = run / "best.safetensors"
    alone, together = (evaluate(best, dataset, **how) for how in ({}, TWO))
    assert together.images == 30
    assert (together.top1_error, together.top5_error) == (alone.top1_error, alone.top5_error)
    assert together.log_loss == pytest.approx(alone.log_loss, rel=1e-6)


def _terminate_once(path: Path) -> None:
    """Send this process SIGTERM, as a cluster would, when a file appears."""
    deadline = time.monotonic() + 120
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGTERM)


def test_one_process_is_alone(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    values = torch.arange(3.0)

    ALONE.all_reduce(values)
    ALONE.barrier()

    assert not in_group()
    assert num_local() == 1
    assert ALONE.is_main
    assert values.tolist() == [0, 1, 2]
    assert ALONE.all_gather(values).tolist() == [[0, 1, 2]]
    assert ALONE.wrap(net := torch.nn.Linear(1, 1), ()) is net


@pytest.mark.parametrize("name", ["TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT"])
def test_restarted_run_is_recognized(monkeypatch, name):
    assert not was_restarted()
    monkeypatch.setenv(name, "0")
    assert not was_restarted()
    monkeypatch.setenv(name, "2")
    assert was_restarted()


def test_lost_replica_advises_to_resume_in_train_only(
    dataset, recipe, checkpoint, tmp_path, monkeypatch
):
    def lose(*_):
        raise LostReplicaError("replica 1 of 2 died", hint=AGAIN)

    monkeypatch.setattr(train_module, "on_replicas", lose)
    monkeypatch.setattr(launcher, "on_replicas", lose)
    with pytest.raises(LostReplicaError) as in_train:
        train(dataset, tmp_path / "run", recipe)
    with pytest.raises(LostReplicaError) as in_eval:
        evaluate(checkpoint, dataset)

    assert "--resume" in message(in_train.value)
    assert message(in_eval.value) == f"replica 1 of 2 died\n{AGAIN}"
