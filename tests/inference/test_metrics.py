import math
import tracemalloc

import numpy as np
import pytest

from alexnet_cli.inference import metrics
from alexnet_cli.inference.metrics import score, score_sums, scores_from_sums, topk_credit


def credit_by_chance(row: list[float], label: int, k: int) -> float:
    """The share of all orders of equally probable classes that put the label among the first k.

    Slow and from the definition: seat the label on each place that its ties may take.
    """
    above = sum(value > row[label] for value in row)
    ties = sum(value == row[label] for value in row)
    places = range(above + 1, above + ties + 1)
    return sum(place <= k for place in places) / ties


def tied_probs(num: int, num_classes: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of few distinct values, float32, so that ties are common, and labels."""
    rng = np.random.default_rng(seed)
    levels = rng.integers(1, 5, (num, num_classes)).astype(np.float32)
    return levels / 64, rng.integers(0, num_classes, num)


@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize("num_classes", [2, 4, 5, 6, 20])
def test_credit_is_the_chance_to_be_among_the_first_k_if_ties_fall_at_random(num_classes, k):
    probs, labels = tied_probs(200, num_classes)
    expected = [
        credit_by_chance(row, label, k)
        for row, label in zip(probs.tolist(), labels.tolist(), strict=True)
    ]
    np.testing.assert_allclose(topk_credit(probs, labels, k), expected)


@pytest.mark.parametrize("k", [1, 5])
def test_without_ties_credit_is_whether_the_label_is_among_the_first_k(k):
    rng = np.random.default_rng(1)
    probs, labels = rng.dirichlet(np.ones(30), 100), rng.integers(0, 30, 100)
    first = np.argsort(-probs, axis=1)[:, :k]
    expected = (first == labels[:, None]).any(axis=1)
    np.testing.assert_array_equal(topk_credit(probs, labels, k), expected)


def test_errors_are_one_minus_the_mean_credit():
    probs, labels = tied_probs(300, 12, seed=2)
    rows = list(zip(probs.tolist(), labels.tolist(), strict=True))
    scores = score(probs, labels)
    top1, top5 = (sum(credit_by_chance(*row, k) for row in rows) / 300 for k in (1, 5))
    assert scores.top1_error == pytest.approx(1 - top1)
    assert scores.top5_error == pytest.approx(1 - top5)


def credit_by_loops(row: np.ndarray, label: int, k: int) -> float:
    """From the definition: what is no number is never right, and never behind the label."""
    if math.isnan(row[label]):
        return 0.0
    before = ties = 0
    for value in row:
        if math.isnan(value) or value > row[label]:
            before += 1
        elif value == row[label]:
            ties += 1
    places = [before + 1 + tie for tie in range(ties)]
    return sum(place <= k for place in places) / ties


@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("num_classes", [3, 12])
def test_what_is_no_number_earns_no_credit(num_classes: int, k: int):
    probs, labels = tied_probs(300, num_classes, seed=3)
    rng = np.random.default_rng(4)
    probs[rng.random(probs.shape) < 0.2] = np.nan
    probs[:10] = np.nan
    probs[10:20, 0] = np.inf
    expected = [credit_by_loops(row, label, k) for row, label in zip(probs, labels, strict=True)]

    found = topk_credit(probs, labels, k)

    np.testing.assert_allclose(found, expected)
    assert not found[:10].any()


def test_a_network_that_always_answers_the_same_is_no_better_than_chance():
    probs = np.full((10, 1000), 1 / 1000, np.float32)
    scores = score(probs, np.arange(10))
    assert scores.top1_error == pytest.approx(0.999)
    assert scores.top5_error == pytest.approx(0.995)


@pytest.mark.parametrize("num_classes", [1, 2, 4, 5])
def test_with_at_most_five_classes_the_top_five_hold_every_label(num_classes):
    probs, labels = tied_probs(50, num_classes, seed=3)
    assert score(probs, labels).top5_error == 0


def test_all_right_and_all_wrong_are_zero_and_one():
    probs = np.eye(8, dtype=np.float32)
    assert score(probs, np.arange(8)).top1_error == 0
    assert score(probs, (np.arange(8) + 1) % 8).top1_error == 1


def test_log_loss_is_the_mean_of_minus_log_p_of_the_label():
    rng = np.random.default_rng(4)
    probs = rng.dirichlet(np.ones(7), 40).astype(np.float32)
    labels = rng.integers(0, 7, 40)
    total = sum(math.log(row[label]) for row, label in zip(probs.tolist(), labels, strict=True))
    assert score(probs, labels).log_loss == pytest.approx(-total / 40)


def test_a_certain_and_right_network_has_no_log_loss():
    assert score(np.eye(6, dtype=np.float32), np.arange(6)).log_loss == 0


def test_a_probability_of_zero_keeps_the_log_loss_finite_and_large():
    probs = np.array([[1.0, 0.0]], np.float32)
    assert 80 < score(probs, np.array([1])).log_loss < 100


def test_scores_are_plain_floats():
    scores = score(*tied_probs(5, 6))
    assert {type(scores.top1_error), type(scores.top5_error), type(scores.log_loss)} == {float}


def test_the_order_of_the_images_does_not_matter():
    probs, labels = tied_probs(64, 9, seed=6)
    order = np.random.default_rng(0).permutation(64)
    shuffled, straight = score(probs[order], labels[order]), score(probs, labels)
    assert shuffled.top1_error == pytest.approx(straight.top1_error)
    assert shuffled.log_loss == pytest.approx(straight.log_loss)


# --- in parts


def score_at_once(probs: np.ndarray, labels: np.ndarray) -> tuple[float, float, float]:
    """All images in one expression: credits and logarithms of the whole array."""
    own = probs[np.arange(len(labels)), labels][:, None]
    before, ties = (probs > own).sum(axis=1), (probs == own).sum(axis=1)
    top1, top5 = (np.clip((k - before) / ties, 0, 1).mean() for k in (1, 5))
    log_loss = -np.log(np.maximum(own.astype(np.float64), np.finfo(np.float32).tiny)).mean()
    return 1 - top1, 1 - top5, log_loss


@pytest.mark.parametrize("num_replicas", [1, 2, 3, 8])
@pytest.mark.parametrize("num_classes", [1, 4, 6, 40])
def test_sums_of_any_batches_of_any_replicas_give_the_scores_of_the_whole(
    num_classes, num_replicas
):
    rng = np.random.default_rng([num_classes, num_replicas])
    for num in (1, 2, 90, 301):
        probs, labels = tied_probs(num, num_classes, seed=num)
        probs[rng.random(probs.shape) < 0.1] = 0.0
        shares = [np.zeros(4) for _ in range(num_replicas)]
        for batch in np.split(np.arange(num), np.sort(rng.integers(0, num, 7))):  # some are empty
            shares[rng.integers(num_replicas)] += score_sums(probs[batch], labels[batch])

        found = scores_from_sums(sum(shares))

        whole = score(probs, labels)
        expected = score_at_once(probs, labels)
        for scores in (found, whole):
            mine = (scores.top1_error, scores.top5_error, scores.log_loss)
            np.testing.assert_allclose(mine, expected, rtol=1e-12, atol=1e-14)


def test_errors_without_ties_are_the_same_to_the_last_bit_however_they_are_summed():
    rng = np.random.default_rng(5)
    probs, labels = rng.dirichlet(np.ones(30), 999).astype(np.float32), rng.integers(0, 30, 999)
    parts = [slice(first, first + 64) for first in range(0, 999, 64)]

    found = scores_from_sums(sum(score_sums(probs[part], labels[part]) for part in parts))

    assert found.top1_error == score(probs, labels).top1_error
    assert found.top5_error == score(probs, labels).top5_error


@pytest.mark.parametrize("chunk_values", [1, 50, 12 * 37])
def test_chunk_size_changes_no_score(monkeypatch, chunk_values):
    probs, labels = tied_probs(100, 12)
    expected = score(probs, labels)
    monkeypatch.setattr(metrics, "CHUNK_VALUES", chunk_values)
    assert score(probs, labels) == expected


def test_scoring_takes_little_memory_beside_the_probabilities(monkeypatch):
    monkeypatch.setattr(metrics, "CHUNK_VALUES", 1 << 16)
    probs, labels = tied_probs(4000, 1000)
    tracemalloc.start()
    try:
        score(probs, labels)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < probs.nbytes / 16
