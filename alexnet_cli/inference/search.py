"""Exact nearest neighbors by Euclidean distance among many features.

Memory is the limit: one query reads all features. So it reads them rounded to a byte each, half of
what half precision takes, with a bound on what rounding did to every distance. The few features
that may be among the nearest are then compared exactly.

A feature x becomes scale * code + offset with int8 codes; `error` is at least the length of the
difference. By the triangle inequality a distance differs from that of the rounded features by at
most the sum of both errors.

N features of U units, Q queries.
"""

import sys
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

BLOCK = 64  # features that are converted at a time: a megabyte, which stays in a cache
QUERIES = 8  # that share one pass through the codes
# Integers up to 2**24 are exact in single precision; a product of two codes is at most 2**14.
EXACT_UNITS = 1024
ROUND_OFF = 2.0**-44  # of sums of products in double precision, in terms of their largest term
Products = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Rounded(NamedTuple):
    """Features rounded to 8 bits.

    Attributes:
        codes: int8 (N, U).
        scale, offset: float64 (N,); a feature is about scale * code + offset.
        total: sum of the codes, float64 (N,).
        square: squared length of the rounded feature, float64 (N,).
        largest: no value of the rounded feature is larger than this, float64 (N,).
        error: at least the distance of the feature from the rounded one, float64 (N,).
    """

    codes: np.ndarray
    scale: np.ndarray
    offset: np.ndarray
    total: np.ndarray
    square: np.ndarray
    largest: np.ndarray
    error: np.ndarray


def round_features(features: np.ndarray) -> Rounded:
    """Round float16 (N, U)."""
    blocks = [
        _round_block(to_single(features[start : start + BLOCK]))
        for start in range(0, len(features), BLOCK)
    ]
    return Rounded(*(np.concatenate(arrays) for arrays in zip(*blocks, strict=True)))


def _round_block(features: np.ndarray) -> Rounded:
    least, most = features.min(axis=1, keepdims=True), features.max(axis=1, keepdims=True)
    scale = (most - least).astype(np.float64) / 255
    scale[scale == 0] = 1
    offset = least + 128 * scale
    codes = np.rint((features - offset) / scale).clip(-128, 127)
    rounded = codes * scale + offset
    largest = (128 * scale + np.abs(offset))[:, 0]
    lost = np.linalg.norm(features - rounded, axis=1)
    return Rounded(
        codes.astype(np.int8),
        scale[:, 0],
        offset[:, 0],
        codes.sum(axis=1),
        np.square(rounded).sum(axis=1),
        largest,
        lost + ROUND_OFF * features.shape[1] ** 0.5 * largest,
    )


def to_single(half: np.ndarray) -> np.ndarray:
    """Return finite float16 as float32, thirty times as fast as numpy where it has no instruction.

    Exponent and fraction of a half-precision number, moved to their places in a single one, are the
    number divided by 2**112.
    """
    bits = half.view(np.uint16).astype(np.uint32)
    signs = (bits & 0x8000) << 16
    bits &= 0x7FFF
    bits <<= 13
    bits |= signs
    single = bits.view(np.float32)
    single *= np.float32(2.0**112)
    return single


def search(
    queries: np.ndarray, features: np.ndarray, rounded: Rounded, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the features nearest to each query, nearest first.

    Queries are rounded to half precision like the features, so that a feature finds itself at
    distance 0.

    Args:
        queries: float (Q, U).
        features: float16 (N, U).
        rounded: `round_features` of the features.

    Returns:
        Positions int64 (Q, count) and distances float64 (Q, count); of equal distances the lower
        position comes first.
    """
    # Loading torch takes longer than one search without it.
    products = products_torch if "torch" in sys.modules else products_numpy
    half = queries.astype(np.float16)
    count = min(count, len(features))
    found = []
    for start in range(0, len(half), QUERIES):
        block = half[start : start + QUERIES]
        asked = round_features(block)
        dots = products(rounded.codes, asked.codes)
        for i, query in enumerate(block):
            least, most = _bounds(dots[:, i], rounded, asked, i)
            found.append(_nearest(query, features, least, most, count))
    return np.stack([row for row, _ in found]), np.stack([row for _, row in found])


def _bounds(
    dots: np.ndarray, rounded: Rounded, asked: Rounded, i: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return between which numbers the distances of a query lie: float64 (N,) each.

    Args:
        dots: products of the codes with those of query `i`, float64 (N,).
    """
    units = asked.codes.shape[1]
    products = rounded.scale * (asked.scale[i] * dots + asked.offset[i] * rounded.total)
    products += rounded.offset * (asked.scale[i] * asked.total[i] + asked.offset[i] * units)
    squares = rounded.square + asked.square[i] - 2 * products
    round_off = ROUND_OFF * units * np.square(rounded.largest + asked.largest[i])
    error = rounded.error + asked.error[i]
    least = np.sqrt(np.maximum(squares - round_off, 0)) - error
    return least, np.sqrt(np.maximum(squares, 0) + round_off) + error


def _nearest(
    query: np.ndarray, features: np.ndarray, least: np.ndarray, most: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return positions and distances of one query, from bounds of all distances."""
    near = np.flatnonzero(least <= np.partition(most, count - 1)[count - 1])
    near = near[np.argsort(least[near], kind="stable")]
    distances = np.empty(0)
    for start in range(0, len(near), BLOCK):
        block = near[start : start + BLOCK]
        if start >= count and least[block[0]] > np.partition(distances, count - 1)[count - 1]:
            break  # this one and all others are farther away than those found
        distances = np.append(distances, exact_distances(query, features[block]))
    near = near[: len(distances)]
    order = np.lexsort((near, distances))[:count]
    return near[order], distances[order]


def exact_distances(query: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Return the distances of float16 (U,) to float16 (N, U), float64 (N,)."""
    distances = np.empty(len(features))
    for start in range(0, len(features), BLOCK):
        difference = to_single(features[start : start + BLOCK]) - query.astype(np.float64)
        distances[start : start + BLOCK] = np.sqrt(np.square(difference).sum(axis=1))
    return distances


def products_torch(codes: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Return the products of int8 (N, U) and (Q, U): float64 (N, Q)."""
    import torch  # here, because numpy does without it

    # A new array: torch 2.14 computes nonsense from a column with a stride of 0.
    columns = torch.from_numpy(np.array(asked.T, order="C"))
    return torch._int_mm(torch.from_numpy(codes), columns).double().numpy()


def products_numpy(codes: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Return the products of int8 (N, U) and (Q, U): float64 (N, Q)."""
    dots = np.zeros((len(codes), len(asked)))
    columns = asked.T.astype(np.float32)
    for row in range(0, len(codes), BLOCK):
        block = codes[row : row + BLOCK].astype(np.float32)
        for unit in range(0, block.shape[1], EXACT_UNITS):
            units = slice(unit, unit + EXACT_UNITS)
            dots[row : row + BLOCK] += block[:, units] @ columns[units]
    return dots
