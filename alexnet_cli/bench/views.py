"""Evaluation over ten views against the passes through the network that it is made of."""

from dataclasses import replace

import torch
from torch import Tensor

from alexnet_cli.bench.clock import Clock
from alexnet_cli.data.shards.dataset import Dataset, Split
from alexnet_cli.inference.classifier import Classifier
from alexnet_cli.inference.predict_split import BATCH_SIZE, predict_split
from alexnet_cli.training.train_step import Learner

VIEWS = 10
MAX_PICTURES = 100 * BATCH_SIZE


def measure_views(
    learner: Learner, clock: Clock, images: Tensor, dataset: Dataset | None
) -> dict[str, float]:
    """Return pictures a second of ten-view evaluation, and of its forward passes alone.

    Args:
        images: uint8 (N, S, S, 3), on the device, that the passes alone read.
        dataset: whose pictures are evaluated; those of `images` where there is none.

    Raises:
        TooSlowError: the measurement would exceed the clock's limit.
    """
    images = images[:BATCH_SIZE]
    classifier = Classifier(learner.net, learner.augmenter)
    patches = learner.augmenter.view(images, learner.augmenter.center)
    num = _fitting(learner, clock, patches, len(dataset.split("train")) if dataset else 0)
    size = min(num, BATCH_SIZE)
    patches = patches.repeat(-(-size // len(patches)), 1, 1, 1)[:size]
    patches = patches.contiguous(memory_format=torch.channels_last)

    def passes() -> None:
        for _ in range(VIEWS * num // size):
            _pass(learner, patches)

    if dataset is None:
        pictures = images.cpu().numpy()
        pictures = pictures.repeat(-(-size // len(pictures)), axis=0)[:size]
        views = classifier.views(VIEWS)

        def evaluate() -> None:
            for _ in range(num // size):
                classifier.probabilities(pictures, views)
    else:
        few = first_of(dataset, num)

        def evaluate() -> None:
            predict_split(classifier, few, "train", num_views=VIEWS)

    evaluating, passing = clock.phases(evaluate, passes)
    return {"ten views": num / evaluating, "ten views, passes alone": num / passing}


def first_of(dataset: Dataset, num: int) -> Dataset:
    """Return a dataset that has the first pictures of the training split only."""
    split: Split = dataset.split("train")
    return replace(dataset, splits={"train": replace(split, samples=split.samples[:num])})


@torch.inference_mode()
def _pass(learner: Learner, patches: Tensor) -> None:
    learner.net.eval()
    learner.net(patches)


def _fitting(learner: Learner, clock: Clock, patches: Tensor, available: int) -> int:
    """Return how many pictures take a quarter of the time; full batches if more than one."""
    _pass(learner, patches)
    seconds = clock.time(lambda: _pass(learner, patches)) / len(patches)
    num = int(clock.seconds / 4 / VIEWS / seconds)
    num = max(1, min(num, available or MAX_PICTURES, MAX_PICTURES))
    return num if num < BATCH_SIZE else num // BATCH_SIZE * BATCH_SIZE
