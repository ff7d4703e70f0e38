"""Two predictions files of the same images, compared image by image."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import refused
from scipy.stats import binomtest

from alexnet_cli.errors import InputError
from alexnet_cli.inference.compare import compare
from alexnet_cli.inference.predictions import Predictions
from alexnet_cli.inference.statistics import difference_interval

NUM, OUTPUTS = 400, 12


def some_predictions(seed: int, skill: float, num_outputs: int = OUTPUTS) -> Predictions:
    """Probabilities of a network that knows the label more often the more skill it has."""
    labels = np.random.default_rng(7).integers(0, 9, NUM)  # of the nine classes of the dataset
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet(np.ones(num_outputs), NUM) * (1 - skill)
    probs[np.arange(NUM), labels] += skill * rng.random(NUM)
    probs /= probs.sum(axis=1, keepdims=True)
    classes = tuple(f"n{label:08d}" for label in range(num_outputs))
    return Predictions(
        keys=tuple(f"val-{n:08d}" for n in range(NUM)),
        probs=probs.astype(np.float32),
        center_probs=None,
        labels=labels,
        classes=classes,
        names=classes,
        outputs=tuple(range(9)),
        fingerprint="f",
        split="val",
        views=10,
        weights_hash=str(seed),
    )


@pytest.fixture
def pair(tmp_path) -> tuple[Path, Path]:
    """Files of a network and of a better one."""
    paths = tmp_path / "a.npz", tmp_path / "b.npz"
    for path, found in zip(
        paths, (some_predictions(1, 0.2), some_predictions(2, 0.4)), strict=True
    ):
        found.save(path)
    return paths


def right(found: Predictions, k: int, num_outputs: int = OUTPUTS) -> np.ndarray:
    """Tell of each image whether its label is among the k most probable of the first outputs."""
    order = np.argsort(-found.probs[:, :num_outputs], axis=1)[:, :k]
    return (order == found.labels[:, None]).any(axis=1)


@pytest.mark.parametrize("subset", [False, True])
@pytest.mark.parametrize("k", [1, 5])
def test_difference_is_counted_in_pairs(pair, k, subset):
    result = compare(*pair)

    found = getattr(result.subset if subset else result, f"top{k}")
    first, second = some_predictions(1, 0.2), some_predictions(2, 0.4)
    a, b = (right(one, k, 9 if subset else OUTPUTS) for one in (first, second))
    assert found.first_error == pytest.approx(1 - a.mean())
    assert found.second_error == pytest.approx(1 - b.mean())
    assert found.difference == pytest.approx(a.mean() - b.mean())
    assert found.interval == pytest.approx(difference_interval(a.astype(float) - b))
    assert found.interval[0] < found.difference < found.interval[1] < 0 or k == 5
    assert (found.only_first, found.only_second) == ((a & ~b).sum(), (~a & b).sum())
    assert found.only_first_images == [first.keys[n] for n in np.flatnonzero(a & ~b)]
    assert found.only_second_images == [first.keys[n] for n in np.flatnonzero(b & ~a)]
    few, many = sorted((found.only_first, found.only_second))
    assert found.p == pytest.approx(binomtest(few, few + many).pvalue)
    assert (result.images, result.subset.classes) == (NUM, 9)


def test_exchanged_networks_have_the_opposite_difference(pair):
    one, other = compare(*pair).top1, compare(*reversed(pair)).top1

    assert other.difference == pytest.approx(-one.difference)
    assert other.interval == pytest.approx((-one.interval[1], -one.interval[0]))
    assert (other.p, other.only_first) == (one.p, one.only_second)


def test_network_against_itself_does_not_differ(pair):
    found = compare(pair[0], pair[0]).top1

    assert (found.difference, found.only_first, found.only_second, found.p) == (0, 0, 0, 1)
    assert found.interval[0] < 0 < found.interval[1]


def test_tie_shares_the_credit_of_the_error_and_counts_as_right_from_a_half(tmp_path):
    first = some_predictions(1, 0.2)
    tied = np.zeros((NUM, OUTPUTS), np.float32)
    tied[np.arange(NUM), first.labels] = 0.5
    tied[np.arange(NUM), (first.labels + 1) % 9] = 0.5
    three = tied * np.float32(2 / 3)
    three[np.arange(NUM), (first.labels + 2) % 9] = three[0].max()
    for name, probs in (("a", tied), ("b", three)):
        replace(first, probs=probs).save(tmp_path / f"{name}.npz")

    found = compare(tmp_path / "a.npz", tmp_path / "b.npz").top1

    assert found.first_error == pytest.approx(1 / 2)
    assert found.second_error == pytest.approx(2 / 3)
    assert (found.only_first, found.only_second) == (NUM, 0)


def test_networks_of_other_classes_are_compared_on_those_of_the_dataset(pair, tmp_path):
    """The second knows the dataset's classes only, in another order."""
    order = np.random.default_rng(0).permutation(9)
    second = some_predictions(2, 0.4).among_classes_of_dataset()
    turned = replace(
        second,
        probs=second.probs[:, order].astype(np.float32),
        labels=np.argsort(order)[second.labels],
        classes=tuple(second.classes[label] for label in order),
        outputs=tuple(np.argsort(order).tolist()),
    )
    turned.save(tmp_path / "c.npz")

    found = compare(pair[0], tmp_path / "c.npz")

    expected = compare(*pair)
    assert found.subset == expected.subset
    assert found.top1.first_error == expected.top1.first_error
    assert found.top1.second_error == expected.subset.top1.second_error


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"split": "test"}, "split"),
        ({"fingerprint": "g"}, "dataset"),
        ({"keys": tuple(map(str, range(NUM)))}, "images"),
        ({"labels": np.zeros(NUM, np.int64)}, "the labels of their images"),
    ],
)
def test_files_of_other_images_are_refused(pair, tmp_path, changes, what):
    replace(some_predictions(2, 0.4), **changes).save(tmp_path / "c.npz")

    with refused(InputError, f"c.npz and .*a.npz differ in {what}"):
        compare(pair[0], tmp_path / "c.npz")
