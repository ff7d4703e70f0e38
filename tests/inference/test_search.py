"""Exact search against all distances in double precision, with products of torch and numpy."""

import numpy as np
import pytest

from alexnet_cli.inference import search as module
from alexnet_cli.inference.search import (
    products_numpy,
    products_torch,
    round_features,
    search,
    to_single,
)


@pytest.fixture(params=["torch", "numpy"])
def way(request, monkeypatch) -> str:
    if request.param == "numpy":
        monkeypatch.setattr(module, "products_torch", products_numpy)
    return request.param


def brute_force(query, features, count):
    """Return positions and distances from all differences, in double precision."""
    difference = features.astype(np.float64) - query.astype(np.float16).astype(np.float64)
    distances = np.linalg.norm(difference, axis=1)
    order = np.argsort(distances, kind="stable")[:count]
    return order, distances[order]


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1.0, 100.0, 3000.0])
@pytest.mark.parametrize("kind", ["relu", "signed", "close"])
def test_nearest_are_those_of_brute_force(way, scale, kind):
    rng = np.random.default_rng(0)
    values = rng.standard_normal((300, 130))
    if kind == "relu":
        values = np.maximum(values, 0)
    if kind == "close":  # distances far smaller than norms
        values = 3 + 0.01 * values
    features = (scale * values).astype(np.float16)
    queries = scale * (values[:5] + 0.001 * rng.standard_normal((5, 130)))

    positions, distances = search(queries, features, round_features(features), 7)

    for query, row, found in zip(queries, positions, distances, strict=True):
        expected, lengths = brute_force(query, features, 7)
        assert row.tolist() == expected.tolist()
        assert found == pytest.approx(lengths, rel=1e-6, abs=1e-12)


def test_each_feature_finds_itself_first(way):
    rng = np.random.default_rng(1)
    features = np.maximum(rng.standard_normal((200, 512)) * 20, 0).astype(np.float16)
    positions, distances = search(features, features, round_features(features), 2)
    assert positions[:, 0].tolist() == list(range(200))
    assert (distances[:, 0] == 0).all()
    assert (distances[:, 1] > 0).all()


def test_of_equal_distances_the_lower_position_is_first(way):
    features = np.ones((9, 64), np.float16)
    features[4] = 2
    positions, distances = search(features[4:5], features, round_features(features), 4)
    assert positions.tolist() == [[4, 0, 1, 2]]
    assert distances[0].tolist() == [0, 8, 8, 8]


def test_more_neighbors_than_features_are_all_features(way):
    features = np.eye(3, 64, dtype=np.float16)
    positions, _ = search(features[:1], features, round_features(features), 10)
    assert positions.tolist() == [[0, 1, 2]]


def test_features_that_are_all_zero_can_be_searched(way):
    features = np.zeros((3, 64), np.float16)
    positions, distances = search(features[:1], features, round_features(features), 2)
    assert positions.tolist() == [[0, 1]]
    assert distances.tolist() == [[0, 0]]


def test_every_half_precision_number_becomes_the_same_single():
    half = np.arange(2**16, dtype=np.uint16).view(np.float16)
    half = half[np.isfinite(half)]
    single = to_single(half)
    assert single.dtype == np.float32
    assert (single == half.astype(np.float32)).all()


def test_rounded_features_are_within_their_error():
    rng = np.random.default_rng(3)
    values = rng.standard_normal((70, 300)) * np.logspace(-6, 4, 70)[:, None]
    values[5] = 0
    values[6] = 7
    values[7, 1:] = 0  # one value among zeros
    values[8] = np.abs(values[8])
    features = values.astype(np.float16)

    rounded = round_features(features)

    numbers = rounded.codes * rounded.scale[:, None] + rounded.offset[:, None]
    lost = np.linalg.norm(features.astype(np.longdouble) - numbers, axis=1)
    assert (lost <= rounded.error).all()
    assert (rounded.error <= 1.001 * lost + 1e-9 * rounded.largest).all()
    assert (np.abs(numbers) <= rounded.largest[:, None]).all()
    # Half of a 255th of the range at most, in each unit.
    step = np.ptp(features.astype(np.float64), axis=1) / 255
    assert (rounded.error <= 0.5001 * step * 300**0.5 + 1e-9 * rounded.largest).all()


@pytest.mark.parametrize("products", [products_torch, products_numpy])
@pytest.mark.parametrize("queries", [1, 2, 8])
@pytest.mark.parametrize("units", [1, 96, 5000])
def test_products_of_codes_are_exact(products, queries, units):
    rng = np.random.default_rng(2)
    codes, asked = (rng.integers(-128, 128, (n, units)).astype(np.int8) for n in (150, queries))
    codes[0] = asked[0] = -128  # the largest product of all
    expected = codes.astype(np.int64) @ asked.T.astype(np.int64)
    assert (products(codes, asked) == expected).all()


def test_few_features_are_compared_exactly(monkeypatch):
    rng = np.random.default_rng(4)
    features = np.maximum(rng.standard_normal((2000, 1024)), 0).astype(np.float16)
    compared = []
    exact = module.exact_distances
    monkeypatch.setattr(
        module, "exact_distances", lambda q, rows: compared.append(len(rows)) or exact(q, rows)
    )
    search(features[:1], features, round_features(features), 10)
    assert sum(compared) <= 128
