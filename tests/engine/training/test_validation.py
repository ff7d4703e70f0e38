"""Validation in the middle of training: of the averaged weights, and left when asked to."""

from dataclasses import replace

import pytest
import torch

from alexnet_cli.data.pixel_stats import load_pixel_stats
from alexnet_cli.data.shards.dataset import open_dataset
from alexnet_cli.engine.inference import predict_with_checkpoint
from alexnet_cli.engine.training.learner import Learner, Place
from alexnet_cli.engine.training.validation import Asked, validate
from alexnet_cli.metrics import score
from alexnet_cli.model.checkpoint import Progressed, save_checkpoint
from alexnet_cli.progress import SILENT

CPU = (torch.device("cpu"),)


@pytest.fixture
def learner(dataset, tiny_recipe) -> Learner:
    """Weights that differ from their average."""
    opened = open_dataset(dataset)
    recipe = replace(tiny_recipe, average_decay=0.9)
    stats = load_pixel_stats(dataset, opened.fingerprint)
    found = Learner(recipe, len(opened.classes), stats, Place(CPU))
    found.begin()
    for tensor in found.average.tensors:
        tensor.normal_(0.0, 0.02)
    return found


def test_errors_are_those_of_the_checkpoint_that_would_be_best(learner, dataset, tmp_path):
    opened = open_dataset(dataset)
    found = validate(learner, opened, SILENT, lambda: False)

    best = learner.checkpoint(opened, Progressed(), {}).for_use()
    save_checkpoint(tmp_path / "best.safetensors", best)
    predictions = predict_with_checkpoint(
        tmp_path / "best.safetensors", dataset, "val", num_views=1, devices=CPU
    )
    scores = score(predictions.probs, predictions.labels)
    assert found["top1_error"] == scores.top1_error
    assert found["log_loss"] == pytest.approx(scores.log_loss)


def test_leaving_puts_the_weights_back(learner, dataset):
    before = [parameter.detach().clone() for parameter in learner.net.parameters()]
    with pytest.raises(Asked):
        validate(learner, open_dataset(dataset), SILENT, lambda: True)

    after = learner.net.parameters()
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
