"""Validation in the middle of training: of the averaged weights, and left when asked to."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch

from alexnet_cli.data.pixel_stats import load_pixel_stats
from alexnet_cli.data.shards.dataset import Dataset, open_dataset
from alexnet_cli.inference import predict_split as inference
from alexnet_cli.inference.metrics import score
from alexnet_cli.inference.predict_split import predict_with_checkpoint
from alexnet_cli.io.progress import SILENT
from alexnet_cli.model.checkpoint import TrainState, save_checkpoint
from alexnet_cli.training.train_step import Place, TrainStep
from alexnet_cli.training.validation import StoppedError, validate

CPU = (torch.device("cpu"),)


@pytest.fixture
def train_step(dataset, tiny_recipe) -> TrainStep:
    """Weights that differ from their average."""
    opened = open_dataset(dataset)
    recipe = replace(tiny_recipe, average_decay=0.9)
    stats = load_pixel_stats(dataset, opened.fingerprint)
    found = TrainStep(recipe, len(opened.classes), stats, Place(CPU))
    found.begin()
    for tensor in found.average.tensors:
        tensor.normal_(0.0, 0.02)
    return found


def test_errors_are_those_of_the_checkpoint_that_would_be_best(train_step, dataset, tmp_path):
    opened = open_dataset(dataset)
    found = validate(train_step, opened, SILENT, lambda: False)

    best = train_step.checkpoint(opened, TrainState(), {}).for_use()
    save_checkpoint(tmp_path / "best.safetensors", best)
    predictions = predict_with_checkpoint(
        tmp_path / "best.safetensors", dataset, "val", num_views=1, devices=CPU
    )
    scores = score(predictions.probs, predictions.labels)
    assert found["top1_error"] == scores.top1_error
    assert found["log_loss"] == pytest.approx(scores.log_loss)


def test_leaving_puts_the_weights_back(train_step, dataset):
    before = [parameter.detach().clone() for parameter in train_step.net.parameters()]
    with pytest.raises(StoppedError):
        validate(train_step, open_dataset(dataset), SILENT, lambda: True)

    after = train_step.net.parameters()
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def repeated(dataset: Dataset, times: int) -> Dataset:
    """Return a dataset with every validation image several times."""
    split = dataset.split("val")
    split = replace(split, samples=np.tile(split.samples, times))
    return replace(dataset, splits={"val": split})


def test_memory_of_validation_does_not_grow_with_images_and_classes(
    dataset, tiny_recipe, monkeypatch
):
    """Probabilities of 450 more images of 4,000 classes would be 7 MB."""
    monkeypatch.setattr(inference, "BATCH_SIZE", 8)
    opened, num_classes = open_dataset(dataset), 4000
    stats = load_pixel_stats(dataset, opened.fingerprint)
    train_step = TrainStep(tiny_recipe, num_classes, stats, Place(CPU))
    train_step.begin()
    peaks = []
    for times in (5, 5, 20):  # the first one also loads what is loaded once
        tracemalloc.start()
        try:
            validate(train_step, repeated(opened, times), SILENT, lambda: False)
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()

    assert abs(peaks[2] - peaks[1]) < 450 * num_classes * 4 / 3
