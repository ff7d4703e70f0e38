"""How certain error rates and their differences are; all intervals are of 95 %."""

import math

import numpy as np

Z = 1.959963984540054  # 97.5 % quantile of the normal distribution


def wilson_interval(error: float, num_images: int) -> tuple[float, float]:
    """Return Wilson's score interval of an error rate, a fraction of independent images.

    Unlike the usual 1.96 standard errors it stays within 0..1, and has a width where the rate is 0
    (Wilson 1927, Journal of the American Statistical Association 22:209). A rate may hold shared
    credits of ties.
    """
    shrink = 1.0 + Z * Z / num_images
    center = (error + Z * Z / (2 * num_images)) / shrink
    spread = error * (1.0 - error) / num_images + (Z / (2 * num_images)) ** 2
    half = Z / shrink * math.sqrt(max(spread, 0.0))
    return max(0.0, center - half), min(1.0, center + half)


def difference_interval(differences: np.ndarray) -> tuple[float, float]:
    """Return the interval of the mean of differences, -1..1, of the same images.

    It is that of Agresti and Min (2005, Statistics in Medicine 24:729): the usual one after two
    images are added whose differences cancel and whose squares add up to one. So it has a width
    even if no image differs.

    Args:
        differences: float64 (N,), what one network loses more than the other on each image.
    """
    num = len(differences) + 2
    mean = float(differences.sum()) / num
    variance = (float(np.square(differences).sum()) + 1.0) / num - mean * mean
    half = Z * math.sqrt(variance / num)
    return max(-1.0, mean - half), min(1.0, mean + half)


def mcnemar_p(only_first: int, only_second: int) -> float:
    """Return the p-value of McNemar's exact test, two-sided.

    Under the hypothesis that both networks err equally often, an image that only one of them gets
    right is as likely the first's as the second's.
    """
    num, few = only_first + only_second, min(only_first, only_second)
    term = total = 1  # binomial coefficients as integers, which cannot underflow
    for i in range(few):
        term = term * (num - i) // (i + 1)
        total += term
    return min(1.0, 2 * total / 2**num)
