"""Binary codes: what they keep of distances, and that the rotation helps."""

import numpy as np

from alexnet_cli.inference.codes import fit_encoder, hamming


def clusters(num: int, units: int, spread: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return points around 20 random centers, and the center of each."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 20, num)
    centers = 3 * rng.standard_normal((20, units))
    return (centers[labels] + spread * rng.standard_normal((num, units))), labels


def precision(codes: np.ndarray, labels: np.ndarray, k: int = 10) -> float:
    shares = []
    for i, code in enumerate(codes):
        order = np.argsort(hamming(codes, code), kind="stable")
        shares.append((labels[order[order != i][:k]] == labels[i]).mean())
    return float(np.mean(shares))


def test_hamming_counts_differing_bits():
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2, (50, 128)).astype(bool)
    codes = np.packbits(bits, axis=1)
    assert (hamming(codes, codes[7]) == (bits != bits[7]).sum(axis=1)).all()


def test_directions_span_the_principal_components():
    rng = np.random.default_rng(1)
    points = rng.standard_normal((3000, 100)) * np.r_[np.linspace(9, 5, 64), np.full(36, 0.1)]
    directions = fit_encoder(points, 64).directions
    assert np.allclose(directions.T @ directions, np.eye(64), atol=1e-4)
    assert np.linalg.norm(directions[:64]) ** 2 > 63.9  # of 64: the others are noise


def test_rotation_loses_less_by_taking_signs():
    points, _ = clusters(800, 128, 3.0, seed=2)
    losses = []
    for rotate in (False, True):
        encoder = fit_encoder(points, 64, rotate=rotate)
        projected = (points - encoder.mean) @ encoder.directions
        signs = np.where(np.unpackbits(encoder.encode(points), axis=1), 1, -1)
        losses.append(np.square(projected - signs).sum())
    assert losses[1] < losses[0]


def test_codes_find_points_of_the_same_cluster():
    points, labels = clusters(600, 256, 2.0, seed=3)
    codes = fit_encoder(points, 128).encode(points)
    assert codes.shape == (600, 16)
    assert precision(codes, labels) > 0.9
    assert precision(codes, np.random.default_rng(0).permutation(labels)) < 0.15
