"""A scheduler starts a run again with other options: each is applied, or refused by its name."""

import inspect
import shutil
from collections.abc import Callable
from dataclasses import replace

import pytest
from helpers import read_last

from alexnet_cli.commands.train import train as command
from alexnet_cli.model.checkpoint import load_checkpoint, save_checkpoint
from alexnet_cli.training import run as module
from alexnet_cli.training.checkpointer import SaveInterval

# As TINY in tests/conftest.py; the run's own command line.
SETTINGS = ["width=0.0625", "crop_size=99", "batch_size=16", "schedule=linear", "seed=1"]
TINY = [part for setting in [*SETTINGS, "learning_rate=0.005"] for part in ("--set", setting)]
OWN = (*TINY, "--epochs", "2")
ON_CPU = ("--device", "cpu")


@pytest.fixture
def requeued(alexnet, dataset, runs, tmp_path, monkeypatch):
    """Start the run again with some options; the result, and the request that would train."""
    run = shutil.copytree(runs.first, tmp_path / "run")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    seen = []

    def resume(request, recipe, plan, progress):
        last = read_last(run)
        module._check_same_dataset(request, last, request.dataset.open(("train",)))
        module._check_same_start(request, last)
        seen.append((replace(request, recipe=recipe), plan))

    monkeypatch.setattr(module, "_resume", resume)
    monkeypatch.setattr(module, "on_replicas", lambda target, *_: target())

    def start(*options, data=dataset, own=OWN):
        result = alexnet("train", data, "--run", run, *own, *options)
        return result, *(seen[0] if seen else (None, None))

    return start


# What is applied as given: options, and where the request or the plan has it.
APPLIED: dict[str, tuple[tuple, Callable]] = {
    "gpus": (("--gpus", 2, *ON_CPU), lambda request, plan: plan.per_replica == 2),
    "columns": (
        ("--gpus", 2, "--columns", 1, *ON_CPU),
        lambda request, plan: (plan.per_replica, plan.num_replicas) == (1, 2),
    ),
    "device": (ON_CPU, lambda request, plan: plan.kind == "cpu"),
    "precision": (("--precision", "bf16"), lambda request, plan: plan.precision == "bf16"),
    "compiled": (("--compile",), lambda request, plan: plan.compiled),
    "join_minutes": (
        ("--join-minutes", 7),
        lambda request, plan: plan.join_limit.total_seconds() == 420,
    ),
    "cache": (("--cache", "raw"), lambda request, plan: request.cache == "raw"),
    "save_minutes": (
        ("--save-minutes", 3),
        lambda request, plan: request.save_interval == SaveInterval(3.0, 0),
    ),
    "save_steps": (
        ("--save-steps", 5),
        lambda request, plan: request.save_interval == SaveInterval(10.0, 5),
    ),
    "workers": (("--workers", 3), lambda request, plan: request.workers == 3),
    "loggers": (
        ("--log", "tensorboard"),
        lambda request, plan: request.loggers == ("tensorboard",),
    ),
    "as_json": (("--json",), lambda request, plan: request.resume),
    "resume": (("--resume",), lambda request, plan: request.resume),
}
# What is refused: options, exit code, and what the message names.
REFUSED = {
    "recipe": (("--recipe", "bvlc"), 3, "began with another recipe"),
    "settings": (("--set", "batch_size=8"), 3, "batch_size 16, not 8"),
    "lr": (("--lr", "0.5"), 3, "learning_rate 0.005, not 0.5"),
    "batch_size": (("--batch-size", "8"), 3, "batch_size 16, not 8"),
    "seed": (("--seed", "9"), 3, "seed 1, not 9"),
    "freeze": (("--freeze", "conv1"), 3, "began with another recipe"),
    "init_from": (("--init-from", "{other}"), 3, "has other weights"),
    "allow_data_change": (("--allow-data-change",), 2, "--allow-data-change"),
    "classes": (("--classes", "names.txt"), 2, "--classes"),
    "allow_pipe": (("--allow-pipe",), 2, "--allow-pipe"),
}
OTHERS = {"dataset", "run", "epochs", "stream"}  # tested below


def test_each_option_of_train_is_tested_here():
    assert set(inspect.signature(command).parameters) == {*APPLIED, *REFUSED, *OTHERS}


@pytest.mark.parametrize("option", APPLIED)
def test_option_of_a_requeued_job_is_applied(requeued, option):
    options, is_applied = APPLIED[option]
    result, request, plan = requeued(*options)
    assert result.exit_code == 0, result.output
    assert request.resume
    assert is_applied(request, plan)


@pytest.mark.parametrize("option", REFUSED)
def test_option_of_a_requeued_job_is_refused_by_its_name(requeued, runs, option):
    options, exit_code, words = REFUSED[option]
    other = runs.second / "best.safetensors"
    field = "learning_rate" if option == "lr" else option
    own = [f"--set={text}" for text in (*SETTINGS, "learning_rate=0.005") if field not in text]
    options = [str(part).format(other=other) for part in options]
    result, request, _ = requeued(*options, own=(*own, "--epochs", "2"))
    assert (result.exit_code, request) == (exit_code, None), result.output
    assert words in " ".join(result.stderr.replace("\u2502", " ").split())


@pytest.mark.parametrize(
    ("own", "epochs", "said"),
    [(OWN, 2, ""), ((*TINY, "--epochs", 5), 5, ": 5, until now 2"), (TINY, 90, ": 90, until")],
)
def test_epochs_of_a_requeued_job_are_those_of_its_command_line(requeued, own, epochs, said):
    result, request, _ = requeued(own=own)
    assert result.exit_code == 0, result.output
    assert request.recipe.epochs == epochs
    assert said in result.stderr
    assert ("until now" in result.stderr) == bool(said)


def test_other_dataset_of_a_requeued_job_is_refused(requeued, two_class_dataset):
    result, request, _ = requeued(data=two_class_dataset)
    assert (result.exit_code, request) == (3, None), result.output
    assert "learns 10 classes" in result.stderr


def test_tars_in_place_of_the_dataset_are_refused(requeued, tars, monkeypatch):
    result, request, _ = requeued("--stream", data=f"{tars}/train-{{000000..000002}}.tar")
    assert result.exit_code == 3, result.output
    assert request is None


def test_other_folder_is_another_run(alexnet, dataset, tmp_path, monkeypatch):
    """Nothing there yet: the job was stopped before its first checkpoint."""
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    begun = []
    monkeypatch.setattr(module, "_begin", lambda *given: begun.append(given[0]))
    assert alexnet("train", dataset, "--run", tmp_path / "new", *OWN).exit_code == 0
    assert not begun[0].resume


def test_layers_of_the_first_command_line_are_accepted(requeued, runs, tmp_path):
    own = runs.second / "best.safetensors"
    last = tmp_path / "run" / "last.safetensors"
    began = load_checkpoint(own).as_source()
    save_checkpoint(last, replace(read_last(tmp_path / "run"), init_from=began))
    result, request, _ = requeued("--init-from", own)
    assert result.exit_code == 0, result.output
    assert request.resume
