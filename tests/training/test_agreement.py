"""Replicas that begin with different things are named, with what differs."""

from dataclasses import replace

import pytest
import torch

from alexnet_cli.data.pixel_stats import load_pixel_stats
from alexnet_cli.data.shards.dataset import Dataset, open_dataset
from alexnet_cli.distributed.replicas import Replicas
from alexnet_cli.errors import InputError
from alexnet_cli.model.checkpoint import TrainState
from alexnet_cli.training import train_step as learner_module
from alexnet_cli.training.agreement import check_agreement
from alexnet_cli.training.train_step import Place, TrainStep


class Three(Replicas):
    """One of three replicas; what the others have is in `rows`, and what this one has is noted."""

    rows = None

    def wrap(self, net, devices):
        return net

    def gather(self, row):
        Three.mine = row
        return torch.stack([row, row, row]) if Three.rows is None else Three.rows


@pytest.fixture
def begun(dataset, tiny_recipe):
    """A learner with averaged weights, its dataset, and how far it is."""
    opened = open_dataset(dataset)
    recipe = replace(tiny_recipe, average_decay=0.9)
    stats = load_pixel_stats(dataset, opened.fingerprint)
    place = Place((torch.device("cpu"),), replicas=Three(0, 3))
    train_step = TrainStep(recipe, len(opened.classes), stats, place)
    train_step.begin()
    return train_step, opened, TrainState(epoch=1, step=2, total_steps=6)


def row_of(train_step: TrainStep, dataset: Dataset, at: TrainState) -> torch.Tensor:
    Three.rows = None
    check_agreement(train_step, dataset, at)  # equal rows pass
    return Three.mine


def changed(train_step: TrainStep, dataset: Dataset, at: TrainState, part: str):
    """Return the same with one part changed, by as little as there can be."""
    tensors = {
        "weights": list(train_step.net.parameters()),
        "momentum buffers": train_step.sgd.velocity,
    }
    tensors["averaged weights"] = train_step.average.tensors
    if part in tensors:
        with torch.no_grad():
            tensors[part][-1].view(-1)[-1] += 1e-3
    elif part == "progress":
        at = replace(at, val_errors=[0.5])
    elif part == "dataset":
        dataset = replace(dataset, fingerprint="f" * 16)
    elif part == "pixel statistics":
        train_step.stats = replace(
            train_step.stats, eigenvalues=train_step.stats.eigenvalues * 1.01
        )
    else:
        train_step.recipe = replace(train_step.recipe, epochs=7)
    return train_step, dataset, at


PARTS = ["weights", "momentum buffers", "averaged weights", "progress", "dataset"]
PARTS += ["pixel statistics", "recipe"]


@pytest.mark.parametrize("part", PARTS)
def test_each_part_that_differs_is_named_with_the_replicas(begun, part):
    mine = row_of(*begun)
    others = row_of(*changed(*begun, part))
    Three.rows = torch.stack([mine, others, mine])

    with pytest.raises(InputError) as caught:
        check_agreement(*begun)

    message = str(caught.value)
    expected = f"replica 1 of 3 would begin with other {part} than replica 0.\n"
    assert message.startswith(expected)
    assert message.count("\n") == 2
    assert caught.value.exit_code == 3


def test_several_replicas_and_parts_are_all_named(begun):
    mine = row_of(*begun)
    weights = row_of(*changed(*begun, "weights"))
    Three.rows = torch.stack([mine, weights, row_of(*changed(*begun, "recipe"))])

    with pytest.raises(InputError, match=r"replicas 1, 2 of 3 .* other weights, recipe than"):
        check_agreement(*begun)


def test_alone_nothing_is_computed(begun, monkeypatch):
    train_step, opened, at = begun
    train_step.place = Place(train_step.place.devices)
    monkeypatch.setattr(learner_module.TrainStep, "checksums", pytest.fail)

    check_agreement(train_step, opened, at)
