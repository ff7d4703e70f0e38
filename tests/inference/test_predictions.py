import json
import os
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from alexnet_cli.cli.hints import message
from alexnet_cli.errors import CheckpointError, InputError
from alexnet_cli.inference.predictions import (
    Predictions,
    check_same_images,
    in_order_of,
    load_predictions,
)


def some_predictions(**changes) -> Predictions:
    """Answers to six images of three classes."""
    rng = np.random.default_rng(0)
    whole = Predictions(
        keys=tuple(f"val-{i:08d}" for i in range(6)),
        probs=rng.dirichlet(np.ones(3), 6).astype(np.float32),
        center_probs=rng.dirichlet(np.ones(3), 6).astype(np.float32),
        labels=rng.integers(0, 3, 6),
        classes=("n00000001", "n00000002", "b\u00e4r"),
        names=("ant, emmet", "bee", "b\u00e4r"),
        outputs=(2, 0, 1),
        fingerprint="0123456789abcdef",
        split="val",
        views=10,
        weights_hash="w1",
    )
    return replace(whole, **changes)


@pytest.fixture
def saved(tmp_path) -> Path:
    """A predictions file that may be damaged."""
    some_predictions().save(tmp_path / "p.npz")
    return tmp_path / "p.npz"


@pytest.mark.parametrize("name", [field.name for field in fields(Predictions)])
def test_everything_survives_saving(saved, name):
    before, after = getattr(some_predictions(), name), getattr(load_predictions(saved), name)
    assert type(after) is type(before)
    np.testing.assert_array_equal(after, before)


@pytest.mark.parametrize("name", ["probs", "center_probs", "labels"])
def test_the_kind_of_numbers_survives_saving(saved, name):
    assert getattr(load_predictions(saved), name).dtype == getattr(some_predictions(), name).dtype


def test_the_file_opens_with_numpy_alone(saved):
    with np.load(saved, allow_pickle=False) as content:
        assert content["keys"].tolist() == list(some_predictions().keys)
        assert content["probs"].shape == (6, 3)


def test_saving_gives_the_name_asked_for_whatever_its_suffix(tmp_path):
    some_predictions().save(tmp_path / "answers")
    assert [path.name for path in tmp_path.iterdir()] == ["answers"]
    assert load_predictions(tmp_path / "answers").split == "val"


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.95])
def test_a_file_cut_short_is_refused(saved, share):
    os.truncate(saved, int(share * saved.stat().st_size))
    with pytest.raises(CheckpointError, match="not a predictions file, or a damaged one"):
        load_predictions(saved)


def test_a_missing_file_is_refused_with_the_command_that_makes_one(tmp_path):
    with pytest.raises(CheckpointError) as caught:
        load_predictions(tmp_path / "none.npz")
    assert "alexnet eval MODEL DATASET -o" in message(caught.value)


def test_a_file_of_something_else_is_refused(tmp_path):
    (tmp_path / "p.npz").write_text("top-1: 40.7 %")
    with pytest.raises(CheckpointError, match="not a predictions file"):
        load_predictions(tmp_path / "p.npz")


def test_a_pickle_is_not_loaded(tmp_path):
    np.save(tmp_path / "p.npz", np.array([{"a": 1}]), allow_pickle=True)
    (tmp_path / "p.npz.npy").rename(tmp_path / "p.npz")
    with pytest.raises(CheckpointError, match="not a predictions file"):
        load_predictions(tmp_path / "p.npz")


@pytest.mark.parametrize("shape", [(5, 3), (6, 2), (6,)])
def test_probabilities_that_do_not_fit_images_and_classes_are_refused(tmp_path, shape):
    some_predictions(probs=np.zeros(shape, np.float32)).save(tmp_path / "p.npz")
    with pytest.raises(CheckpointError, match="do not fit its images and classes"):
        load_predictions(tmp_path / "p.npz")


@pytest.mark.parametrize("field", ["probs", "center_probs"])
@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_probabilities_that_are_no_numbers_are_refused(tmp_path, field, number):
    probs = getattr(some_predictions(), field).copy()
    probs[3, 1] = number
    some_predictions(**{field: probs}).save(tmp_path / "p.npz")
    with pytest.raises(CheckpointError, match=r"p\.npz: its probabilities are not all finite"):
        load_predictions(tmp_path / "p.npz")


def test_probabilities_that_are_text_are_refused(tmp_path):
    some_predictions(probs=np.full((6, 3), "many")).save(tmp_path / "p.npz")
    with pytest.raises(CheckpointError, match=r"p\.npz: its probabilities are not all finite"):
        load_predictions(tmp_path / "p.npz")


@pytest.mark.parametrize(
    "labels", [np.full(6, 3), np.full(6, -1), np.zeros(6), np.array(["ant"] * 6)]
)
def test_labels_outside_the_classes_are_refused(tmp_path, labels):
    some_predictions(labels=labels).save(tmp_path / "p.npz")
    with pytest.raises(CheckpointError, match="its labels are not among its classes"):
        load_predictions(tmp_path / "p.npz")


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"names": ("ant", "bee")}, "its classes do not fit each other"),
        ({"outputs": (0, 1, 3)}, "its classes do not fit each other"),
        ({"outputs": (0, 1, 1)}, "two of its classes are the same output"),
        ({"keys": tuple("abcbca")}, "some images are in it twice: a, b, c"),
        ({"outputs": (0, 2), "labels": np.ones(6, int)}, "its labels are not among its classes"),
    ],
)
def test_classes_that_cannot_be_meant_are_refused(tmp_path, changes, fault):
    some_predictions(**changes).save(tmp_path / "p.npz")
    with pytest.raises(CheckpointError, match=fault):
        load_predictions(tmp_path / "p.npz")


def test_file_that_names_only_wnids_means_all_classes_in_their_order(saved):
    """Files of earlier versions do."""
    with np.load(saved) as content:
        arrays = dict(content)
    about = json.loads(str(arrays["about"]))
    del about["names"], about["outputs"]
    np.savez(saved, **arrays | {"about": json.dumps(about)})

    found = load_predictions(saved)

    assert found.names == found.classes
    assert found.outputs == (0, 1, 2)


def test_outputs_are_put_in_the_order_of_another_network():
    first = some_predictions()
    order = [2, 0, 1]
    other = replace(
        first,
        probs=first.probs[:, order],
        center_probs=first.center_probs[:, order],
        labels=np.argsort(order)[first.labels],
        classes=tuple(first.classes[label] for label in order),
        names=tuple(first.names[label] for label in order),
        outputs=tuple(np.argsort(order)[list(first.outputs)].tolist()),
        weights_hash="w2",
    )

    found = in_order_of(first, other)

    for field in fields(Predictions):
        if field.name != "weights_hash":
            mine, theirs = (getattr(one, field.name) for one in (found, first))
            np.testing.assert_array_equal(mine, theirs)
    check_same_images([("a.npz", first), ("b.npz", found)])


def test_other_labels_of_the_same_images_are_refused():
    labels = (some_predictions().labels + 1) % 3
    others = some_predictions(weights_hash="w2", labels=labels)
    with pytest.raises(InputError, match=r"^b.npz and a.npz differ in the labels"):
        check_same_images([("a.npz", some_predictions()), ("b.npz", others)])


def test_labels_of_other_images_are_refused(tmp_path):
    some_predictions(labels=np.zeros(5, int)).save(tmp_path / "p.npz")
    with pytest.raises(CheckpointError, match="do not fit its images"):
        load_predictions(tmp_path / "p.npz")


def test_networks_that_saw_the_same_images_pass():
    members = [(f"{i}.npz", some_predictions(weights_hash=f"w{i}")) for i in range(3)]
    check_same_images(members)


def test_networks_may_differ_in_their_views():
    check_same_images(
        [
            ("a.npz", some_predictions(views=1)),
            ("b.npz", some_predictions(views=10, weights_hash="w2")),
        ]
    )


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (
            {"classes": ("n00000001", "bee", "cow")},
            "classes: 3 and 3; class 1 is bee and n00000002",
        ),
        ({"split": "train"}, "split: train and val"),
        ({"fingerprint": "f" * 16}, "dataset: ffffffffffffffff and 0123456789abcdef"),
        ({"keys": tuple(f"val-{i:08d}" for i in range(1, 7))}, "images"),
        ({"keys": (), "probs": np.zeros((0, 3), np.float32)}, "images"),
    ],
    ids=["classes", "split", "dataset", "images", "no image"],
)
def test_a_network_that_saw_something_else_is_named_with_the_difference(change, what):
    others = [some_predictions(weights_hash="w2"), some_predictions(weights_hash="w3", **change)]
    members = [("a.npz", some_predictions()), ("b.npz", others[0]), ("c.npz", others[1])]
    with pytest.raises(InputError, match=f"^c.npz and a.npz differ in {what}"):
        check_same_images(members)


def test_the_same_network_twice_is_refused_naming_both_files():
    members = [
        ("a.npz", some_predictions()),
        ("b.npz", some_predictions(weights_hash="w2")),
        ("c.npz", some_predictions(weights_hash="w2", views=1)),
    ]
    with pytest.raises(InputError, match=r"c.npz and b.npz are the same network"):
        check_same_images(members)
