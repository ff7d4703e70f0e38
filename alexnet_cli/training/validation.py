"""Errors of a network in training on the validation split, center view."""

from collections.abc import Callable
from dataclasses import asdict

from alexnet_cli.data.shards.dataset import Dataset
from alexnet_cli.inference.classifier import Classifier
from alexnet_cli.inference.predict_split import score_split
from alexnet_cli.io.progress import Progress
from alexnet_cli.training.train_step import TrainStep


class StoppedError(Exception):
    """A signal came in the middle of validation."""


def validate(
    train_step: TrainStep, dataset: Dataset, progress: Progress, stop_requested: Callable[[], bool]
) -> dict[str, float]:
    """Return top-1 and top-5 error and log loss, of the averaged weights where there are any.

    Args:
        stop_requested: whether to leave; looked at before every batch.

    Raises:
        Asked: it was; the weights are in their place again.
        DivergedError: the scores are not finite.
    """

    def leave_if_stopped() -> None:
        if stop_requested():
            raise StoppedError

    with train_step.average.swapped():
        (scores,) = score_split(
            Classifier(train_step.net, train_step.augmenter),
            dataset,
            "val",
            num_views=1,
            replicas=train_step.place.replicas,
            progress=progress,
            before_batch=leave_if_stopped,
        )
    return asdict(scores)
