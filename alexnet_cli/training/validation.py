"""Errors of a network in training on the validation split, centre view."""

from collections.abc import Callable
from dataclasses import asdict

from alexnet_cli.data.shards.dataset import Dataset
from alexnet_cli.inference.classifier import Classifier
from alexnet_cli.inference.predict_split import score_split
from alexnet_cli.io.progress import Progress
from alexnet_cli.training.train_step import Learner


class Asked(Exception):  # noqa: N818 - nothing is wrong
    """A signal came in the middle of validation."""


def validate(
    learner: Learner, dataset: Dataset, progress: Progress, is_asked: Callable[[], bool]
) -> dict[str, float]:
    """Return top-1 and top-5 error and log loss, of the averaged weights where there are any.

    Args:
        is_asked: whether to leave; looked at before every batch.

    Raises:
        Asked: it was; the weights are in their place again.
        DivergedError: the scores are not finite.
    """

    def leave_if_asked() -> None:
        if is_asked():
            raise Asked

    with learner.average.swapped():
        (scores,) = score_split(
            Classifier(learner.net, learner.augmenter),
            dataset,
            "val",
            num_views=1,
            replicas=learner.place.replicas,
            progress=progress,
            before_batch=leave_if_asked,
        )
    return asdict(scores)
