"""Exact nearest neighbors by Euclidean distance among many features in half precision.

One query reads every feature once; the rate at which memory is read is the limit. torch multiplies
half-precision numbers without a copy in single precision; numpy, where torch is not loaded,
converts blocks.

N features of U units, Q queries.
"""

import sys
from collections.abc import Callable

import numpy as np

BLOCK = 64  # rows that are converted at a time: a megabyte, which stays in a cache
# Of a product in terms of both norms: half precision rounds the result by 2**-11 of it, and sums in
# single precision of 4,096 products are off by less than 2**-12.
RELATIVE_ERROR = 2.0**-10
SMALLEST = 2.0**-25  # half the distance of the smallest half-precision numbers
LARGEST = 30_000.0  # below the largest half-precision number, 65,504
Products = Callable[[np.ndarray, np.ndarray], np.ndarray]


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


def squared_norms(features: np.ndarray) -> np.ndarray:
    """Return float64 (N,) of float16 (N, U)."""
    norms = np.empty(len(features))
    for start in range(0, len(features), BLOCK):
        block = to_single(features[start : start + BLOCK])
        norms[start : start + BLOCK] = np.square(block, dtype=np.float64).sum(axis=1)
    return norms


def search(
    queries: np.ndarray, features: np.ndarray, norms: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the features nearest to each query, nearest first.

    Queries are rounded to half precision like the features, so that a feature finds itself at
    distance 0.

    Args:
        queries: float (Q, U).
        features: float16 (N, U).
        norms: `squared_norms` of the features.

    Returns:
        Positions int64 (Q, count) and distances float64 (Q, count); of equal distances the lower
        position comes first.
    """
    # Loading torch takes longer than one search without it.
    products = products_torch if "torch" in sys.modules else products_numpy
    found = [
        _nearest(query, features, norms, min(count, len(features)), products)
        for query in queries.astype(np.float16)
    ]
    return np.stack([row for row, _ in found]), np.stack([row for _, row in found])


def _nearest(
    query: np.ndarray, features: np.ndarray, norms: np.ndarray, count: int, products: Products
) -> tuple[np.ndarray, np.ndarray]:
    """Return positions and distances of one query: a short list by bounds, then exact ones."""
    own = float(np.square(query, dtype=np.float64).sum())
    lengths = np.sqrt(norms)
    longest = max(float(lengths.max()), 1.0) * max(own**0.5, 1e-12)
    # A power of two, so that all products fit into half precision and use its range.
    scale = 2.0 ** min(np.floor(np.log2(LARGEST / longest)), 10)
    scaled = (query.astype(np.float32) * scale).astype(np.float16)
    dots = products(scaled, features) / scale
    lost = SMALLEST / scale * (1 + len(query) ** 0.5 * lengths)
    error = 2 * (RELATIVE_ERROR * own**0.5 * lengths + lost)
    distances = norms + own - 2 * dots
    limit = np.partition(distances + error, count - 1)[count - 1]
    near = np.flatnonzero(distances - error <= limit)
    exact = exact_distances(query, features[near])
    order = np.lexsort((near, exact))[:count]
    return near[order], exact[order]


def exact_distances(query: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Return the distances of float16 (U,) to float16 (N, U), float64 (N,)."""
    distances = np.empty(len(features))
    for start in range(0, len(features), BLOCK):
        difference = features[start : start + BLOCK].astype(np.float64) - query
        distances[start : start + BLOCK] = np.sqrt(np.square(difference).sum(axis=1))
    return distances


def products_torch(query: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Return the products of float16 (U,) and (N, U) as torch rounds them to half: float64 (N,)."""
    import torch  # here, because numpy does without it

    return torch.mv(torch.from_numpy(features), torch.from_numpy(query)).double().numpy()


def products_numpy(query: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Return the products of float16 (U,) and (N, U) in single precision: float64 (N,)."""
    single = query.astype(np.float32)
    dots = np.empty(len(features))
    for start in range(0, len(features), BLOCK):
        dots[start : start + BLOCK] = to_single(features[start : start + BLOCK]) @ single
    return dots
