"""Evidence of a run that diverges, on one device, on two, and with replicas."""

import errno
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import resume, train
from torch.nn import functional as F

from alexnet_cli.cli import hints
from alexnet_cli.data.batches.loader import epoch_order
from alexnet_cli.data.pixel_stats import load_pixel_stats
from alexnet_cli.data.shards.dataset import open_dataset
from alexnet_cli.distributed.device_plan import Runtime
from alexnet_cli.distributed.replicas import Replicas
from alexnet_cli.errors import DivergedError
from alexnet_cli.model.checkpoint import TrainState
from alexnet_cli.model.split import load_whole_state, whole_state
from alexnet_cli.recipes.recipe import Recipe
from alexnet_cli.training import divergence
from alexnet_cli.training import trainer as trainer_module
from alexnet_cli.training.divergence import Divergence
from alexnet_cli.training.run_directory import RunDirectory
from alexnet_cli.training.train_step import TrainStep


@pytest.fixture
def recipe(tiny_recipe) -> Recipe:
    """Batches of 16, four an epoch."""
    return replace(tiny_recipe, epochs=1)


@pytest.fixture
def overflow(monkeypatch):
    """Make the loss of one call NaN: `overflow(3)`."""

    def begin(number: int) -> None:
        calls, real_loss = [], F.cross_entropy

        def loss(scores, labels, **how):
            calls.append(labels)
            return real_loss(scores, labels, **how) * (math.nan if len(calls) == number else 1)

        monkeypatch.setattr(F, "cross_entropy", loss)

    return begin


def diverge(dataset: Path, run: Path, recipe: Recipe, **where) -> tuple[dict, DivergedError]:
    with pytest.raises(DivergedError) as caught:
        train(dataset, run, recipe, **where)
    assert caught.value.exit_code == 6
    assert hints.message(caught.value).count("\n") == 2
    text = (run / "diverged.json").read_text()
    return json.loads(text, parse_constant=pytest.fail), caught.value


@pytest.mark.parametrize("num_devices", [1, 2])
def test_evidence_contains_the_step_and_its_images(
    dataset, recipe, tmp_path, overflow, num_devices: int
):
    overflow(3)

    found, error = diverge(dataset, tmp_path / "run", recipe, num_devices=num_devices)

    assert f"evidence: {tmp_path}/run/diverged.json" in str(error)
    assert found["what"] == "the loss is nan"
    assert (found["epoch"], found["step"], found["updates"]) == (1, 2, 2)
    assert (found["seed"], found["batch_size"]) == (recipe.seed, 16)
    assert found["last_finite_loss"] == pytest.approx(math.log(10), rel=0.2)
    assert found["learning_rate"] > 0
    assert found["devices"] == ["cpu"] * num_devices
    assert found["not_finite"] == {}
    split = open_dataset(dataset).split("train")
    expected = epoch_order(60, recipe.seed, 0)[32:48]
    assert [sample["position"] for sample in found["samples"]] == expected.tolist()
    assert [sample["key"] for sample in found["samples"]] == [split.keys()[p] for p in expected]
    assert [sample["label"] for sample in found["samples"]] == split.labels[expected].tolist()
    assert {sample["step"] for sample in found["samples"]} == {2}


def test_first_loss_that_is_not_finite_has_no_finite_one_before(
    dataset, recipe, tmp_path, overflow
):
    overflow(1)

    found, _ = diverge(dataset, tmp_path / "run", recipe)

    assert found["last_finite_loss"] is found["mean_loss_of_epoch"] is None


def test_stored_order_is_recorded(dataset, recipe, tmp_path, overflow):
    overflow(2)

    found, _ = diverge(dataset, tmp_path / "run", replace(recipe, reshuffle=False))

    assert [sample["position"] for sample in found["samples"]] == list(range(16, 32))


def test_images_of_every_step_since_the_last_reading_are_recorded(
    dataset, recipe, tmp_path, overflow, monkeypatch
):
    """On a GPU the loss is not read at every step."""
    begin = trainer_module.Trainer.start

    def start(trainer, source) -> None:
        trainer._read_every = 2
        begin(trainer, source)

    monkeypatch.setattr(trainer_module.Trainer, "start", start)
    overflow(3)

    found, _ = diverge(dataset, tmp_path / "run", recipe)

    assert [sample["step"] for sample in found["samples"]] == [2] * 16 + [3] * 12


@pytest.mark.parametrize("num_devices", [1, 2])
def test_weights_that_are_not_finite_are_named_and_counted(
    dataset, recipe, tmp_path, monkeypatch, num_devices: int
):
    def spoil(trainer):
        state = whole_state(trainer.train_step.net)
        state["conv2.weight"].view(-1)[:3] = torch.tensor([math.nan, math.inf, -math.inf])
        state["fc8.bias"][-1] = math.nan
        load_whole_state(trainer.train_step.net, state)
        return {"top1_error": 0.5, "top5_error": 0.5, "log_loss": 1.0}, True

    monkeypatch.setattr(trainer_module.Trainer, "_validate", spoil)

    found, error = diverge(dataset, tmp_path / "run", recipe, num_devices=num_devices)

    assert "not finite" in str(error)
    assert found["not_finite"] == {"weights conv2.weight": 3, "weights fc8.bias": 1}
    assert found["samples"] == []
    assert not list((tmp_path / "run").glob("*.safetensors"))


def test_full_disk_changes_neither_code_nor_checkpoint(
    dataset, recipe, runs, tmp_path, overflow, monkeypatch
):
    run = Path(shutil.copytree(runs.first, tmp_path / "run"))
    before = {path.name: path.read_bytes() for path in run.iterdir()}

    def fail(path, content):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(divergence, "write_bytes", fail)
    overflow(2)
    with pytest.raises(DivergedError, match="No space left on device") as caught:
        resume(dataset, run, None, 3)

    assert (caught.value.exit_code, hints.message(caught.value).count("\n")) == (6, 2)
    after = {path.name: path.read_bytes() for path in run.iterdir()}
    changed = dict.fromkeys(("recipe.json", "environment.json"), b"")
    assert {**after, **changed} == {**before, **changed}


def test_evidence_is_deleted_when_a_run_is_resumed(dataset, runs, tmp_path, overflow, monkeypatch):
    run = Path(shutil.copytree(runs.first, tmp_path / "run"))
    overflow(2)
    with pytest.raises(DivergedError, match="is kept; evidence:"):
        resume(dataset, run, None, 3)
    assert (run / "diverged.json").is_file()
    monkeypatch.undo()

    resume(dataset, run, None, 3)

    assert not (run / "diverged.json").exists()


class Second(Replicas):
    """One of two replicas, without the other; it counts its barriers."""

    num_barriers = 0

    def wrap(self, net, devices):
        return net

    def barrier(self) -> None:
        type(self).num_barriers += 1


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize(("steps", "num_barriers"), [((1,), 1), ((), 0)])
def test_main_replica_writes_the_evidence_while_the_others_wait(
    dataset, recipe, tmp_path, monkeypatch, rank: int, steps, num_barriers: int
):
    """An error that only one of them knows of must not keep it waiting."""
    monkeypatch.setattr(Second, "num_barriers", 0)
    opened = open_dataset(dataset)
    stats = load_pixel_stats(dataset, opened.fingerprint)
    runtime = Runtime((torch.device("cpu"),), replicas=Second(rank, 2))
    train_step = TrainStep(recipe, 10, stats, runtime)
    run = RunDirectory(tmp_path)

    error = Divergence("the loss is nan", TrainState(), 0.1, None, steps).report(
        run, train_step, opened.split("train")
    )

    assert f"evidence: {run.evidence}" in str(error)
    assert run.evidence.exists() == (rank == 0)
    assert Second.num_barriers == num_barriers
    if rank == 0:
        found = json.loads(run.evidence.read_text())
        assert (found["replicas"], len(found["samples"])) == (2, 16 * len(steps))
