"""The losses of twenty steps, as they were when they were last looked at.

Rounding differs from one processor to another, so they are compared to a thousandth. After a change
that is meant to change what is learned, write them again:

    ALEXNET_WRITE_GOLDEN=1 pytest tests/training/test_golden_losses.py
"""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from alexnet_cli.data.batches.loader import batches_of
from alexnet_cli.data.shards.dataset import open_dataset
from alexnet_cli.distributed.device_plan import Runtime
from alexnet_cli.model.checkpoint import TrainState
from alexnet_cli.model.schedule import learning_rates_at
from alexnet_cli.training.train_step import TrainStep

LOSSES = Path(__file__).parents[1] / "assets" / "tiny_losses.txt"
STEPS = 20


def train_losses(folder: Path, recipe, num_devices: int) -> list[float]:
    """Return the mean loss of each of the first steps, over as many epochs as they take."""
    dataset = open_dataset(folder)
    split, runtime = dataset.split("train"), Runtime((torch.device("cpu"),) * num_devices)
    train_step = TrainStep(recipe, len(dataset.classes), dataset.load_pixel_stats(), runtime)
    train_step.begin()
    losses, at = [], TrainState()
    while len(losses) < STEPS:
        at.step = 0
        for batch in batches_of(split, recipe.batch_size, shuffle=train_step.order_of(at.epoch)):
            images, labels = torch.from_numpy(batch.images), torch.from_numpy(batch.labels)
            tally = torch.zeros(3, dtype=torch.float64)
            loss = train_step.loss((images, labels), at, len(labels), tally)
            train_step.update(loss, learning_rates_at(recipe, at.epoch, []), len(losses) + 1)
            losses.append((tally[0] / tally[2]).item())
            at.step += 1
        at.epoch += 1
    return losses[:STEPS]


@pytest.mark.parametrize("num_devices", [1, 2])
def test_losses_are_those_of_before(dataset, tiny_recipe, num_devices):
    found = train_losses(dataset, tiny_recipe, num_devices)
    if os.environ.get("ALEXNET_WRITE_GOLDEN"):
        LOSSES.write_text("".join(f"{loss:.6f}\n" for loss in found))

    np.testing.assert_allclose(found, np.loadtxt(LOSSES), rtol=1e-3)
