"""The confusion matrix against scikit-learn's, and the part that is shown of many classes."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from alexnet_cli.figures.confusion import MAX_CLASSES, NUM_WORST, confusion_of
from alexnet_cli.inference.predictions import Predictions


def predictions(labels: np.ndarray, predicted: np.ndarray, num: int) -> Predictions:
    """Return predictions of a network with `num` classes, all of them in the dataset."""
    probs = np.full((len(labels), num), 0.1 / num, np.float32)
    probs[np.arange(len(labels)), predicted] = 0.9
    return Predictions(
        keys=tuple(f"val-{n:08d}" for n in range(len(labels))),
        probs=probs,
        center_probs=None,
        labels=labels,
        classes=tuple(f"w{label}" for label in range(num)),
        names=tuple(f"class {label}" for label in range(num)),
        outputs=tuple(range(num)),
        fingerprint="f",
        split="val",
        views=10,
        weights_hash="w",
    )


def test_matrix_of_few_classes_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(0, 7, (2, 400))

    found = confusion_of(predictions(labels, predicted, 7))

    assert found.labels == (0, 1, 2, 3, 4, 5, 6)
    assert (found.counts[:, :-1] == confusion_matrix(labels, predicted)).all()
    assert not found.counts[:, -1].any()


def test_classes_that_the_dataset_does_not_have_are_the_others():
    rng = np.random.default_rng(1)
    labels = rng.choice([4, 1, 6], 300)
    predicted = rng.integers(0, 9, 300)

    found = confusion_of(replace(predictions(labels, predicted, 9), outputs=(4, 1, 6)))

    expected = confusion_matrix(labels, predicted, labels=range(9))[[4, 1, 6]]
    assert found.labels == (4, 1, 6)
    assert (found.counts[:, :-1] == expected[:, [4, 1, 6]]).all()
    assert (found.counts[:, -1] == expected[:, [0, 2, 3, 5, 7, 8]].sum(axis=1)).all()


def test_of_many_classes_the_most_confused_are_shown_side_by_side():
    """Of 100 classes 5 and 80, and 20, 60 and 40, are planted confusions; the others are noise."""
    num, rng = 100, np.random.default_rng(2)
    labels = np.repeat(np.arange(num), 50)
    predicted = labels.copy()
    for first, second in ((5, 80), (80, 5), (20, 60), (60, 40)):
        predicted[np.flatnonzero(labels == first)[:20]] = second
    noise = rng.choice(len(labels), 150, replace=False)
    noise = noise[~np.isin(labels[noise], (5, 80, 20, 60, 40))]
    predicted[noise] = rng.integers(0, num, len(noise))

    found = confusion_of(predictions(labels, predicted, num))

    shown = list(found.labels)
    assert len(shown) == len(set(shown)) <= NUM_WORST
    assert abs(shown.index(5) - shown.index(80)) == 1
    places = sorted(map(shown.index, (20, 60, 40)))
    assert places[2] - places[0] == 2
    whole = confusion_matrix(labels, predicted, labels=range(num))[shown]
    assert (found.counts[:, :-1] == whole[:, shown]).all()
    assert (found.counts.sum(axis=1) == 50).all()
    assert f"of {num} classes" in found.selection


@pytest.mark.parametrize("num", [MAX_CLASSES, MAX_CLASSES + 1])
def test_network_without_mistakes_has_a_matrix(num):
    labels = np.arange(num)

    found = confusion_of(predictions(labels, labels, num))

    shown = num if num == MAX_CLASSES else NUM_WORST
    assert (found.counts[:, :-1] == np.eye(shown)).all()
