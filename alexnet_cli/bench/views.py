"""Evaluation over ten views, compared with its forward passes alone."""

from dataclasses import replace

import torch
from torch import Tensor

from alexnet_cli.bench.clock import Clock
from alexnet_cli.data.shards.dataset import Dataset, Split
from alexnet_cli.inference.classifier import Classifier
from alexnet_cli.inference.predict_split import BATCH_SIZE, predict_split
from alexnet_cli.training.train_step import TrainStep

VIEWS = 10
MAX_IMAGES = 100 * BATCH_SIZE


def measure_views(
    train_step: TrainStep, clock: Clock, images: Tensor, dataset: Dataset | None
) -> dict[str, float]:
    """Return images a second of ten-view evaluation, and of its forward passes alone.

    Args:
        images: uint8 (N, S, S, 3), on the device, for the passes alone.
        dataset: whose images are evaluated; by default those of `images`.

    Raises:
        TooSlowError: if the measurement would exceed the clock's limit.
    """
    images = images[:BATCH_SIZE]
    classifier = Classifier(train_step.net, train_step.augmenter)
    crops = train_step.augmenter.view(images, train_step.augmenter.center)
    num = _fitting(train_step, clock, crops, len(dataset.split("train")) if dataset else 0)
    size = min(num, BATCH_SIZE)
    crops = crops.repeat(-(-size // len(crops)), 1, 1, 1)[:size]
    crops = crops.contiguous(memory_format=torch.channels_last)

    def passes() -> None:
        for _ in range(VIEWS * num // size):
            _pass(train_step, crops)

    if dataset is None:
        repeated = images.cpu().numpy()
        repeated = repeated.repeat(-(-size // len(repeated)), axis=0)[:size]
        views = classifier.views(VIEWS)

        def evaluate() -> None:
            for _ in range(num // size):
                classifier.probabilities(repeated, views)
    else:
        few = first_of(dataset, num)

        def evaluate() -> None:
            predict_split(classifier, few, "train", num_views=VIEWS)

    evaluating, passing = clock.phases(evaluate, passes)
    return {"ten views": num / evaluating, "ten views, passes alone": num / passing}


def first_of(dataset: Dataset, num: int) -> Dataset:
    """Return a dataset of the first images of the training split."""
    split: Split = dataset.split("train")
    return replace(dataset, splits={"train": replace(split, samples=split.samples[:num])})


@torch.inference_mode()
def _pass(train_step: TrainStep, crops: Tensor) -> None:
    train_step.net.eval()
    train_step.net(crops)


def _fitting(train_step: TrainStep, clock: Clock, crops: Tensor, available: int) -> int:
    """Return how many images take a quarter of the time; full batches if it is more than one."""
    _pass(train_step, crops)
    seconds = clock.time(lambda: _pass(train_step, crops)) / len(crops)
    num = int(clock.seconds / 4 / VIEWS / seconds)
    num = max(1, min(num, available or MAX_IMAGES, MAX_IMAGES))
    return num if num < BATCH_SIZE else num // BATCH_SIZE * BATCH_SIZE
