"""Exact search against all distances in double precision, with products of torch and numpy."""

import numpy as np
import pytest

from alexnet_cli.inference import search as module
from alexnet_cli.inference.search import products_numpy, search, squared_norms, to_single


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

    positions, distances = search(queries, features, squared_norms(features), 7)

    for query, row, found in zip(queries, positions, distances, strict=True):
        expected, lengths = brute_force(query, features, 7)
        assert row.tolist() == expected.tolist()
        assert found == pytest.approx(lengths, rel=1e-6, abs=1e-12)


def test_each_feature_finds_itself_first(way):
    rng = np.random.default_rng(1)
    features = np.maximum(rng.standard_normal((200, 512)) * 20, 0).astype(np.float16)
    positions, distances = search(features, features, squared_norms(features), 2)
    assert positions[:, 0].tolist() == list(range(200))
    assert (distances[:, 0] == 0).all()
    assert (distances[:, 1] > 0).all()


def test_of_equal_distances_the_lower_position_is_first(way):
    features = np.ones((9, 64), np.float16)
    features[4] = 2
    positions, distances = search(features[4:5], features, squared_norms(features), 4)
    assert positions.tolist() == [[4, 0, 1, 2]]
    assert distances[0].tolist() == [0, 8, 8, 8]


def test_more_neighbors_than_features_are_all_features(way):
    features = np.eye(3, 64, dtype=np.float16)
    positions, _ = search(features[:1], features, squared_norms(features), 10)
    assert positions.tolist() == [[0, 1, 2]]


def test_features_that_are_all_zero_can_be_searched(way):
    features = np.zeros((3, 64), np.float16)
    positions, distances = search(features[:1], features, squared_norms(features), 2)
    assert positions.tolist() == [[0, 1]]
    assert distances.tolist() == [[0, 0]]


def test_every_half_precision_number_becomes_the_same_single():
    half = np.arange(2**16, dtype=np.uint16).view(np.float16)
    half = half[np.isfinite(half)]
    single = to_single(half)
    assert single.dtype == np.float32
    assert (single == half.astype(np.float32)).all()


def test_products_are_those_of_double_precision():
    rng = np.random.default_rng(2)
    features, query = (rng.standard_normal(s).astype(np.float16) for s in ((150, 96), 96))
    expected = features.astype(np.float64) @ query.astype(np.float64)
    assert products_numpy(query, features) == pytest.approx(expected, abs=1e-4)
