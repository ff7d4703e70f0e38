"""torchvision's alexnet in its plain loop, on small batches."""

import multiprocessing
import pickle

import pytest
import torch

from alexnet_cli.bench.baseline import Baseline, JpegDataset
from alexnet_cli.bench.clock import STRETCH, Clock
from alexnet_cli.data.shards.dataset import open_dataset

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def baseline() -> Baseline:
    return Baseline(10, Clock((CPU,), 0.0), "fp32", compiled=False)


def test_images_come_as_torchvision_makes_them(dataset):
    split = open_dataset(dataset).split("train")
    images = JpegDataset(split, 64)

    crop, label = images[3]

    assert len(images) == len(split)
    assert (crop.shape, crop.dtype) == ((3, 64, 64), torch.float32)
    assert label == split.labels[3]
    assert -2.2 < crop.min() < crop.max() < 2.7


def test_steps_learn_and_those_from_jpegs_are_timed(baseline, dataset):
    before = baseline.net.classifier[6].weight.detach().clone()

    baseline.on_drawn(2, 64)()

    assert not torch.equal(baseline.net.classifier[6].weight, before)
    taken = baseline.from_jpegs(open_dataset(dataset).split("train"), 2, 64, num_workers=0)
    assert taken.rate > 0
    assert taken.calls >= STRETCH


def test_worker_processes_are_timed_past_what_they_keep_ready_and_then_end(baseline, dataset):
    split = open_dataset(dataset).split("train")
    before = multiprocessing.active_children()

    taken = baseline.from_jpegs(split, 2, 64, num_workers=1)

    assert taken.ahead == 2  # batches a worker prepares by default
    assert taken.calls >= STRETCH * taken.ahead
    assert multiprocessing.active_children() == before


def test_more_batches_than_an_epoch_has_are_read(baseline, dataset):
    split = open_dataset(dataset).split("train")

    taken = baseline.from_jpegs(split, len(split), 64, num_workers=0)

    assert taken.calls >= STRETCH


def test_images_of_another_process_are_the_same(dataset):
    ours = JpegDataset(open_dataset(dataset).split("train"), 64)

    theirs = pickle.loads(pickle.dumps(ours))

    assert theirs.split.jpeg(5) == ours.split.jpeg(5)
    assert theirs.labels.tolist() == ours.labels.tolist()


def test_weights_stay_float32():
    baseline = Baseline(10, Clock((CPU,), 0.0), "bf16", compiled=False)
    baseline.on_drawn(2, 64)()
    assert {parameter.dtype for parameter in baseline.net.parameters()} == {torch.float32}
