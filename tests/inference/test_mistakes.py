"""Mistakes per class and pair against scikit-learn's confusion matrix."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import refused
from sklearn.metrics import confusion_matrix

from alexnet_cli.errors import UsageError
from alexnet_cli.inference.mistakes import find_mistakes
from alexnet_cli.inference.predictions import Predictions
from alexnet_cli.inference.statistics import wilson_interval

NUM, OUTPUTS = 500, 15
MEANT = (3, 0, 14, 7, 9, 1, 5)  # the last has no images
NAMES = ('a "quoted", name', "line\nbreak", "=1+1", "\u00e9t\u00e9", *map(str, range(11)))


@pytest.fixture
def found() -> Predictions:
    """Predictions of a network with more classes than the dataset."""
    rng = np.random.default_rng(0)
    labels = rng.choice(MEANT[:-1], NUM)
    probs = rng.dirichlet(np.ones(OUTPUTS), NUM)
    probs[np.arange(NUM), labels] += 0.4 * rng.random(NUM)
    return Predictions(
        keys=tuple(f"val-{n:08d}" for n in range(NUM)),
        probs=(probs / probs.sum(axis=1, keepdims=True)).astype(np.float32),
        center_probs=None,
        labels=labels,
        classes=tuple(f"w{label}" for label in range(OUTPUTS)),
        names=NAMES,
        outputs=MEANT,
        fingerprint="f",
        split="val",
        views=10,
        weights_hash="w",
    )


@pytest.fixture
def saved(found, tmp_path) -> Path:
    found.save(tmp_path / "p.npz")
    return tmp_path / "p.npz"


@pytest.mark.parametrize("subset", [False, True])
def test_counts_are_those_of_the_confusion_matrix(found, saved, subset):
    result = find_mistakes(saved, num_shown=10**6, among_classes_of_dataset=subset)

    known = [*MEANT] if subset else [*range(OUTPUTS)]
    probs = found.probs[:, known]
    predicted = np.array(known)[probs.argmax(axis=1)]
    matrix = confusion_matrix(found.labels, predicted, labels=range(OUTPUTS))
    assert len(result.classes) == len(MEANT)
    for label, row in zip(MEANT, result.classes, strict=True):
        assert (row.wnid, row.name, row.images) == (f"w{label}", NAMES[label], matrix[label].sum())
        if row.images:
            error = 1 - matrix[label, label] / row.images
            assert row.top1_error == pytest.approx(error)
            assert row.top1_interval == pytest.approx(wilson_interval(error, row.images))
            order = np.argsort(-probs[found.labels == label], axis=1)[:, :5]
            top5 = (order == known.index(label)).any(axis=1).mean()
            assert row.top5_error == pytest.approx(1 - top5)
            others = np.where(np.arange(OUTPUTS) == label, -1, matrix[label])
            assert row.confused_images == others.max()
            assert matrix[label, int(row.confused_with[1:])] == others.max()
    np.fill_diagonal(matrix, 0)
    counted = {(int(p.wnid[1:]), int(p.predicted_wnid[1:])): p.images for p in result.pairs}
    assert counted == {(a, b): matrix[a, b] for a, b in np.argwhere(matrix)}
    counts = [pair.images for pair in result.pairs]
    assert counts == sorted(counts, reverse=True)
    assert result.top1_error == pytest.approx((predicted != found.labels).mean())


def test_class_without_images_has_no_error(saved):
    row = find_mistakes(saved).classes[-1]

    assert (row.images, row.top1_error, row.top1_interval, row.top5_error) == (0, None, None, None)
    assert (row.confused_with, row.confused_images) == (None, 0)


def test_mistakes_are_the_most_confident_ones(found, saved):
    result = find_mistakes(saved, num_shown=20)

    predicted = found.probs.argmax(axis=1)
    wrong = {found.keys[n]: found.probs[n].max() for n in np.flatnonzero(predicted != found.labels)}
    expected = sorted(wrong, key=wrong.get, reverse=True)[:20]
    assert [mistake.image for mistake in result.mistakes] == expected
    for mistake in result.mistakes:
        row = found.keys.index(mistake.image)
        assert mistake.predicted_wnid == f"w{predicted[row]}"
        assert mistake.probability == pytest.approx(found.probs[row].max())
        assert mistake.label_probability == pytest.approx(found.probs[row, found.labels[row]])


def test_share_of_a_pair_is_of_the_images_of_its_class(found, saved):
    for pair in find_mistakes(saved).pairs:
        num = (found.labels == int(pair.wnid[1:])).sum()
        assert pair.fraction == pytest.approx(pair.images / num)


def test_csv_has_a_row_for_each_class_whatever_its_name_is(saved, tmp_path):
    result = find_mistakes(saved, csv_path=tmp_path / "classes.csv")

    with (tmp_path / "classes.csv").open(newline="", encoding="utf-8") as file:
        rows = [*csv.DictReader(file)]
    assert [row["name"] for row in rows] == [NAMES[label] for label in MEANT]
    for row, kept in zip(rows, result.classes, strict=True):
        assert int(row["images"]) == kept.images
        assert (float(row["top1_error"]) if row["top1_error"] else None) == kept.top1_error
        assert row["confused_with"] == (kept.confused_with or "")
    assert rows[-1]["top1_from"] == ""


def test_network_without_a_mistake_has_empty_lists(found, tmp_path):
    probs = np.eye(OUTPUTS, dtype=np.float32)[found.labels]
    replace(found, probs=probs).save(tmp_path / "right.npz")

    result = find_mistakes(tmp_path / "right.npz")

    assert (result.top1_error, result.pairs, result.mistakes) == (0, [], [])


def test_network_without_a_dataset_is_refused():
    with refused(UsageError, "which needs a dataset"):
        find_mistakes(Path("best.safetensors"))
