"""Replicas whose state differs are refused, and what differs is named."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from alexnet_cli.cli import hints
from alexnet_cli.data.pixel_stats import load_pixel_stats
from alexnet_cli.data.shards.dataset import open_dataset
from alexnet_cli.distributed.device_plan import Runtime
from alexnet_cli.distributed.replicas import ALONE, Replicas
from alexnet_cli.errors import InputError
from alexnet_cli.model.checkpoint import TrainState
from alexnet_cli.model.optimizer import state_tensors
from alexnet_cli.training.run import check_agreement
from alexnet_cli.training.run_directory import RunDirectory
from alexnet_cli.training.train_step import TrainStep
from alexnet_cli.training.trainer import Trainer


class Three(Replicas):
    """One of three replicas; what the others have is in `rows`, and what this one has is noted."""

    rows = None

    def wrap(self, net, devices):
        return net

    def all_gather(self, row):
        Three.mine = row
        return torch.stack([row, row, row]) if Three.rows is None else Three.rows


@pytest.fixture
def begun(dataset, tiny_recipe, tmp_path) -> Callable[[str], Trainer]:
    """Build the same trainer, with one part changed by as little as possible: `begun("recipe")`."""
    opened = open_dataset(dataset)
    stats = load_pixel_stats(dataset, opened.fingerprint)
    runtime = Runtime((torch.device("cpu"),), replicas=Three(0, 3))

    def begin(part: str = "") -> Trainer:
        recipe = replace(tiny_recipe, ema_decay=0.9)
        train_step = TrainStep(recipe, len(opened.classes), stats, runtime)
        trainer = Trainer(train_step, opened, RunDirectory(tmp_path))
        train_step.begin()
        trainer.state = TrainState(epoch=1, step=2, total_steps=6)
        tensors = {
            "weights": list(train_step.net.parameters()),
            "momentum buffers": state_tensors(train_step.optimizer, train_step.net)[
                "momentum_buffer"
            ],
            "averaged weights": train_step.ema.tensors,
        }
        if part in tensors:
            with torch.no_grad():
                tensors[part][-1].view(-1)[-1] += 1e-3
        elif part == "progress":
            trainer.state.val_errors = [0.5]
        elif part == "dataset":
            trainer.dataset = replace(opened, fingerprint="f" * 16)
        elif part == "pixel statistics":
            train_step.stats = replace(stats, eigenvalues=stats.eigenvalues * 1.01)
        elif part == "recipe":
            train_step.recipe = replace(recipe, epochs=7)
        return trainer

    return begin


def row_of(trainer: Trainer) -> torch.Tensor:
    Three.rows = None
    check_agreement(trainer)  # equal rows pass
    return Three.mine


PARTS = ["weights", "momentum buffers", "averaged weights", "progress", "dataset"]
PARTS += ["pixel statistics", "recipe"]


@pytest.mark.parametrize("part", PARTS)
def test_each_part_that_differs_is_named_with_the_replicas(begun, part):
    mine, others = row_of(begun()), row_of(begun(part))
    Three.rows = torch.stack([mine, others, mine])

    with pytest.raises(InputError) as caught:
        check_agreement(begun())

    problem = f"replica 1 of 3 would begin with other {part} than replica 0."
    assert caught.value.problem == problem
    assert hints.message(caught.value).count("\n") == 2
    assert caught.value.exit_code == 3


def test_several_replicas_and_parts_are_all_named(begun):
    rows = [row_of(begun(part)) for part in ("", "weights", "recipe")]
    Three.rows = torch.stack(rows)

    with pytest.raises(InputError, match=r"replicas 1, 2 of 3 .* other weights, recipe than"):
        check_agreement(begun())


def test_alone_nothing_is_computed(begun, monkeypatch):
    trainer = begun()
    trainer.replicas = ALONE
    monkeypatch.setattr(TrainStep, "checksums", pytest.fail)

    check_agreement(trainer)
