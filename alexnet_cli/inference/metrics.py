"""Error rates as the 2012 code counted them (layer_kernels.cu:101).

N images, K classes. Errors are fractions of images.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from alexnet_cli.inference.class_map import ClassMap
from alexnet_cli.inference.statistics import wilson_interval

CHUNK_VALUES = 1 << 22  # compared at a time, so that N x K booleans are never in memory


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of an evaluation.

    Attributes:
        log_loss: mean of -log p(label), in nats.
    """

    top1_error: float
    top5_error: float
    log_loss: float


@dataclass(frozen=True, slots=True)
class Measured(Scores):
    """Scores with the 95 % intervals of the errors: from, to."""

    top1_interval: tuple[float, float]
    top5_interval: tuple[float, float]


def measured(scores: Scores, num_images: int) -> Measured:
    """Return scores with Wilson's intervals for a number of images."""
    return Measured(
        scores.top1_error,
        scores.top5_error,
        scores.log_loss,
        wilson_interval(scores.top1_error, num_images),
        wilson_interval(scores.top5_error, num_images),
    )


def within(probs_NK: np.ndarray, outputs: Sequence[int]) -> np.ndarray:
    """Return the probabilities of some outputs only, renormalized, float64 (N, len(outputs))."""
    chosen = probs_NK[:, list(outputs)].astype(np.float64)
    totals = chosen.sum(axis=1, keepdims=True)
    return chosen / np.where(totals > 0, totals, 1.0)


def topk_credit(probs_NK: np.ndarray, labels: np.ndarray, k: int) -> np.ndarray:
    """Return each image's credit, float64 (N,), for its label among the k most probable classes.

    Ties are shared: with b classes more probable than the label and e as probable, including the
    label, the credit is min(1, (k - b) / e), and 0 if b >= k. NaN counts as more probable than
    any number; a label whose probability is NaN gets no credit.
    """
    return _credit(*_count_rivals(probs_NK, labels), k)


def score(probs_NK: np.ndarray, labels: np.ndarray) -> Scores:
    """Score probabilities float32 (N, K) against labels int64 (N,)."""
    return scores_from_sums(score_sums(probs_NK, labels))


def score_sums(probs_NK: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the sums over images that `score` averages; sums of batches and replicas can be added.

    Args:
        probs_NK: float32; N may be 0.
        labels: int64 (N,).

    Returns:
        float64 (4,): top-1 credit, top-5 credit, log p(label) in nats, number of images.
    """
    rivals = _count_rivals(probs_NK, labels)
    label_probs = np.take_along_axis(probs_NK, labels[:, None], axis=1).astype(np.float64)
    # A probability of 0 counts as the smallest float32, so that the mean stays finite.
    log_probs = np.log(np.maximum(label_probs, np.finfo(np.float32).tiny))
    credits = [_credit(*rivals, k).sum() for k in (1, 5)]
    return np.array([*credits, log_probs.sum(), len(labels)], np.float64)


def sums_of_batches(
    batches: Iterable[tuple[np.ndarray, list[np.ndarray]]],
    labels: np.ndarray,
    class_map: ClassMap,
    num_arrays: int,
) -> np.ndarray:
    """Return the `score_sums` of the probabilities of a split, added up batch by batch.

    Args:
        batches: positions in the split, and arrays of probabilities (N, K) of these images.
        labels: int64, of the dataset, of the whole split.
        num_arrays: number of arrays of a batch.

    Returns:
        float64 (1, num_arrays, 4) over all outputs of the network; (2, num_arrays, 4) if the
        dataset has some of its classes only, then the second ones are among these classes.
    """
    net_labels = class_map.labels(labels)
    sums = np.zeros((2 if class_map.is_subset else 1, num_arrays, 4))
    for positions, found in batches:
        sums[0] += [score_sums(probs, net_labels[positions]) for probs in found]
        if class_map.is_subset:
            chosen = [within(probs, class_map.outputs) for probs in found]
            sums[1] += [score_sums(probs, labels[positions]) for probs in chosen]
    return sums


def scores_from_sums(sums: np.ndarray) -> Scores:
    """Return the scores of all images whose `score_sums` were added."""
    top1_credit, top5_credit, log_prob = (float(value) for value in sums[:3] / sums[3])
    return Scores(1.0 - top1_credit, 1.0 - top5_credit, -log_prob)


def _count_rivals(probs_NK: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the number of classes more probable than the label, and as probable, int64 (N,)."""
    more = np.zeros(len(labels), np.int64)
    equal = np.zeros(len(labels), np.int64)
    for rows in _chunks(probs_NK):
        probs = probs_NK[rows]
        label_probs = np.take_along_axis(probs, labels[rows, None], axis=1)
        more[rows] = np.count_nonzero(~(probs <= label_probs), axis=1)
        equal[rows] = np.count_nonzero(probs == label_probs, axis=1)
    return more, equal


def _chunks(probs_NK: np.ndarray) -> Iterator[slice]:
    """Yield ranges of rows that hold about `CHUNK_VALUES` values each."""
    num_rows = max(1, CHUNK_VALUES // max(1, probs_NK.shape[1]))
    for first in range(0, len(probs_NK), num_rows):
        yield slice(first, first + num_rows)


def _credit(more: np.ndarray, equal: np.ndarray, k: int) -> np.ndarray:
    """Return the credits; `equal` is 0 where the label's probability is NaN."""
    return np.where(equal, np.clip((k - more) / np.maximum(equal, 1), 0.0, 1.0), 0.0)
