"""Error rates as the 2012 code counted them (layer_kernels.cu:101).

N images, K classes. Errors are fractions of images.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Scores:
    """What an evaluation reports.

    Attributes:
        log_loss: mean of -log p(label), in nats.
    """

    top1_error: float
    top5_error: float
    log_loss: float


def topk_credit(probs_NK: np.ndarray, labels: np.ndarray, k: int) -> np.ndarray:
    """Return each image's credit, float64 (N,), for its label among the k most probable classes.

    Ties share: with b classes more probable than the label and e as probable (the label among
    them), the credit is min(1, (k - b) / e), and 0 when b >= k. What is no number counts as more
    probable, and for the label itself as wrong.
    """
    label_probs = np.take_along_axis(probs_NK, labels[:, None], axis=1)
    bigger = (~(probs_NK <= label_probs)).sum(axis=1)
    equal = (probs_NK == label_probs).sum(axis=1)  # 0 where the label's is no number
    return np.where(equal, np.clip((k - bigger) / np.maximum(equal, 1), 0.0, 1.0), 0.0)


def score(probs_NK: np.ndarray, labels: np.ndarray) -> Scores:
    """Score probabilities float32 (N, K) against labels int64 (N,)."""
    label_probs = np.take_along_axis(probs_NK, labels[:, None], axis=1).astype(np.float64)
    # What underflowed to 0 counts as the smallest float32, so that the mean stays finite.
    log_probs = np.log(np.maximum(label_probs, np.finfo(np.float32).tiny))
    return Scores(
        top1_error=1.0 - float(topk_credit(probs_NK, labels, 1).mean()),
        top5_error=1.0 - float(topk_credit(probs_NK, labels, 5).mean()),
        log_loss=-float(log_probs.mean()),
    )
