"""`alexnet compare`: whether one network errs less often than another on the same images."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alexnet_cli.inference.metrics import topk_credit
from alexnet_cli.inference.predictions import Predictions, check_same_images, load_predictions
from alexnet_cli.inference.statistics import difference_interval, mcnemar_p, wilson_interval


@dataclass(frozen=True, slots=True)
class Difference:
    """An error of two networks, a fraction, and how certain their difference is.

    An image counts as right if its label gets at least half of the credit; only a tie of
    probabilities shares it.

    Attributes:
        difference: the second error minus the first: below 0 if the second network errs less.
        interval: 95 % interval of the difference, in pairs of the same images.
        only_first, only_second: number of images that only one of them gets right.
        p: two-sided p-value of McNemar's exact test.
        only_first_images, only_second_images: keys of these images.
    """

    first_error: float
    first_interval: tuple[float, float]
    second_error: float
    second_interval: tuple[float, float]
    difference: float
    interval: tuple[float, float]
    only_first: int
    only_second: int
    p: float
    only_first_images: list[str]
    only_second_images: list[str]


@dataclass(frozen=True, slots=True)
class SubsetDifference:
    """Differences among the classes of the dataset only."""

    classes: int
    top1: Difference
    top5: Difference


@dataclass(frozen=True, slots=True)
class CompareResult:
    """Two networks on the same images.

    Attributes:
        subset: if one of the networks knows other classes than the dataset has.
    """

    first: str
    second: str
    split: str
    images: int
    top1: Difference
    top5: Difference
    subset: SubsetDifference | None


def compare(first: Path, second: Path) -> CompareResult:
    """Compare the networks of two predictions files.

    Raises:
        InputError: if a file cannot be used, or they are not of the same images.
    """
    pair = [load_predictions(path) for path in (first, second)]
    check_same_images([(str(first), pair[0]), (str(second), pair[1])], to_average=False)
    subset = None
    if any(predictions.is_subset for predictions in pair):
        among = [predictions.among_classes_of_dataset() for predictions in pair]
        subset = SubsetDifference(
            len(pair[0].outputs), _difference(among, 1), _difference(among, 5)
        )
    return CompareResult(
        str(first),
        str(second),
        pair[0].split,
        len(pair[0].keys),
        _difference(pair, 1),
        _difference(pair, 5),
        subset,
    )


def _difference(pair: list[Predictions], k: int) -> Difference:
    first, second = (topk_credit(found.probs, found.labels, k) for found in pair)
    num, keys = len(first), np.array(pair[0].keys)
    only_first = keys[(first >= 0.5) & (second < 0.5)].tolist()
    only_second = keys[(second >= 0.5) & (first < 0.5)].tolist()
    errors = [1.0 - float(credit.mean()) for credit in (first, second)]
    return Difference(
        first_error=errors[0],
        first_interval=wilson_interval(errors[0], num),
        second_error=errors[1],
        second_interval=wilson_interval(errors[1], num),
        difference=float((first - second).mean()),
        interval=difference_interval(first - second),
        only_first=len(only_first),
        only_second=len(only_second),
        p=mcnemar_p(len(only_first), len(only_second)),
        only_first_images=only_first,
        only_second_images=only_second,
    )
