"""Binary codes of features by iterative quantization: ITQ (Gong and Lazebnik 2011).

Features are projected onto their principal components, then rotated so that their signs lose
little. Codes are compared by the number of bits in which they differ.

N images, U units of a feature, B bits.
"""

from dataclasses import dataclass

import numpy as np

POWER_STEPS = 4  # of subspace iteration
ROTATION_STEPS = 30


@dataclass(frozen=True, slots=True)
class Encoder:
    """Turns features into bits.

    Attributes:
        mean: float32 (U,).
        directions: float32 (U, B), orthonormal columns.
    """

    mean: np.ndarray
    directions: np.ndarray

    def encode(self, features: np.ndarray) -> np.ndarray:
        """Return the codes of float (N, U) as uint8 (N, B / 8)."""
        projected = (features.astype(np.float32) - self.mean) @ self.directions
        return np.packbits(projected > 0, axis=1)


def fit_encoder(sample: np.ndarray, bits: int, seed: int = 0, rotate: bool = True) -> Encoder:
    """Return the encoder for features like those of a sample.

    Args:
        sample: float (N, U), with U at least `bits`.
        rotate: whether to learn a rotation; without it bits are signs of principal components.
    """
    rng = np.random.default_rng(seed)
    sample = sample.astype(np.float32)
    mean = sample.mean(axis=0)
    centered = sample - mean
    components = _principal_components(centered, bits, rng)
    if not rotate:
        return Encoder(mean, components)
    projected = centered @ components
    rotation = np.linalg.qr(rng.standard_normal((bits, bits)))[0].astype(np.float32)
    for _ in range(ROTATION_STEPS):
        # The rotation that brings the projections nearest to their own signs.
        left, _, right = np.linalg.svd(projected.T @ np.sign(projected @ rotation))
        rotation = left @ right
    return Encoder(mean, components @ rotation)


def hamming(codes: np.ndarray, code: np.ndarray) -> np.ndarray:
    """Return in how many bits each of uint8 (N, B / 8) differs from one code: int64 (N,)."""
    words = np.ascontiguousarray(codes).view(np.uint64) ^ np.ascontiguousarray(code).view(np.uint64)
    return np.bitwise_count(words).sum(axis=1, dtype=np.int64)


def _principal_components(centered: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return the leading principal components as columns, float32 (U, count)."""
    basis = rng.standard_normal((centered.shape[1], count)).astype(np.float32)
    for _ in range(POWER_STEPS):
        basis = np.linalg.qr(basis)[0]
        basis = centered.T @ (centered @ basis)
    basis = np.linalg.qr(basis)[0]
    projected = centered @ basis
    order = np.linalg.eigh(projected.T @ projected)[1][:, ::-1]
    return (basis @ order).astype(np.float32)
