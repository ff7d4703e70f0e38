"""Each stage on a tiny network: it does what training does, and gives a number."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from alexnet_cli.bench.clock import Clock
from alexnet_cli.bench.stages import Steps, draw_batch, drawn_stats, measure_reading
from alexnet_cli.data.shards.dataset import open_dataset
from alexnet_cli.distributed.device_plan import Runtime
from alexnet_cli.training.train_step import TrainStep

CPU = torch.device("cpu")
NUM = 8


def build(recipe, num_classes: int, stats) -> Steps:
    train_step = TrainStep(replace(recipe, batch_size=NUM), num_classes, stats, Runtime((CPU,)))
    train_step.begin()
    drawn = draw_batch(NUM, len(stats.mean_image), num_classes)
    batch = tuple(torch.from_numpy(array) for array in drawn)
    return Steps(train_step, Clock((CPU,), 0.01), NUM, batch)


@pytest.fixture
def steps(tiny_recipe) -> Steps:
    return build(tiny_recipe, 5, drawn_stats(112))


def weights(steps: Steps) -> torch.Tensor:
    parameters = [parameter.detach().flatten() for parameter in steps.train_step.net.parameters()]
    return torch.cat(parameters).clone()


def test_drawn_images_are_bytes_of_all_values_and_labels_of_all_classes():
    images, labels = draw_batch(64, 32, 5)

    assert (images.shape, images.dtype) == ((64, 32, 32, 3), np.uint8)
    assert (images.min(), images.max()) == (0, 255)
    assert (labels.dtype, set(labels.tolist())) == (np.int64, set(range(5)))


def test_parts_of_a_step_are_all_timed_and_learn(steps):
    before = weights(steps)

    found = steps.parts()

    assert list(found) == ["augment", "forward", "backward", "update"]
    assert all(speed > 0 for speed in found.values())
    assert not torch.equal(weights(steps), before)


def test_step_on_the_drawn_batch_learns(steps):
    before = weights(steps)

    steps.on_drawn()()

    assert not torch.equal(weights(steps), before)


def test_steps_from_shards_take_full_batches_only_epoch_after_epoch(tiny_recipe, dataset):
    opened = open_dataset(dataset)  # 60 images: seven batches of eight and half a one
    steps = build(tiny_recipe, len(opened.classes), opened.load_pixel_stats())
    split = opened.split("train")
    before, batches = weights(steps), steps.batches(split)

    assert [len(next(batches)[1]) for _ in range(15)] == 15 * [NUM]
    assert steps.from_shards(split) > 0
    assert not torch.equal(weights(steps), before)


def test_reader_and_its_two_halves_are_timed(tiny_recipe, dataset):
    opened = open_dataset(dataset)
    steps = build(tiny_recipe, len(opened.classes), opened.load_pixel_stats())
    split = opened.split("train")

    found = measure_reading(split, steps.clock)

    assert found.keys() == {"read", "decode"}
    assert min(found.values()) > 0
    assert steps.reader(split) > 0
