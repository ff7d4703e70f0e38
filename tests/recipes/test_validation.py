"""Bounds and choices of a recipe's fields, and milestones; under a second."""

from dataclasses import replace

import pytest

from alexnet_cli.errors import RecipeError
from alexnet_cli.recipes.overrides import with_settings
from alexnet_cli.recipes.recipe import PAPER, Milestone
from alexnet_cli.recipes.validation import check_milestones


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schedule": "polynomial"}, "schedule=polynomial: choose from plateau, "),
        ({"activation": "gelu"}, "activation=gelu: choose from relu, "),
        (
            {"conv1": replace(PAPER.conv1, then=("relu",))},
            "conv1.then=relu: choose from activation",
        ),
        (
            {"conv2": replace(PAPER.conv2, then=("norm", "norm"))},
            "conv2.then: norm, norm: list each",
        ),
        ({"epochs": 0}, "epochs=0: must be between 1 and "),
        ({"learning_rate": float("nan")}, "learning_rate=nan: must be between"),
        ({"conv3": replace(PAPER.conv3, filters=3)}, "conv3.filters=3: not divisible by 2"),
        ({"seed": 1.5}, "seed=1.5: must be between"),
        ({"label_smoothing": 1.1}, "label_smoothing=1.1: must be between 0.0 and 1.0"),
        ({"label_smoothing": -0.1}, "label_smoothing=-0.1: must be between"),
        ({"ema_decay": 1.0}, "ema_decay=1.0: must be between 0.0 and 0.99999"),
        ({"ema_decay": -0.1}, "ema_decay=-0.1: must be between"),
    ],
)
def test_value_outside_its_bounds_is_refused_by_name(changes, message):
    with pytest.raises(RecipeError) as error:
        replace(PAPER, **changes)
    assert str(error.value).startswith(message)


# --- milestones

LAYERS = ["conv1", "fc6", "fc8"]


def test_milestones_in_their_order_pass():
    milestones = (
        Milestone(epoch=0, lr=0.1),
        Milestone(epoch=1.5, lr=0.0, layers=("conv1",)),
        Milestone(epoch=1.5, lr=0.01, bias_lr=0.0),
    )

    check_milestones(milestones, LAYERS)
    check_milestones((), LAYERS)


def test_layer_that_the_network_lacks_is_named():
    milestones = (Milestone(epoch=1, lr=0.1, layers=("fc8", "fc7", "conv4")),)

    with pytest.raises(RecipeError, match="milestones: no layer conv4, fc7"):
        check_milestones(milestones, LAYERS)


def test_milestones_of_another_type_are_refused():
    with pytest.raises(RecipeError, match="milestones: not a list"):
        replace(PAPER, milestones=({"epoch": 1, "rate": 0.1},))
    with pytest.raises(RecipeError, match="it cannot be set on the command line"):
        with_settings(PAPER, ["milestones=1"])


@pytest.mark.parametrize(
    ("milestones", "message"),
    [
        ((Milestone(epoch=2, lr=0.1), Milestone(epoch=1, lr=0.1)), "order of their epochs"),
        ((Milestone(epoch=2, lr=0.0),), "name the layers"),
        ((Milestone(epoch=2, lr=-1.0),), "must be between 0 and"),
        ((Milestone(epoch="2", lr=1.0),), "must be between 0 and"),
        ((Milestone(epoch=2, lr=1.0, layers=("conv9",)),), "no layer conv9"),
    ],
)
def test_milestones_that_make_no_sense_are_refused(milestones, message):
    with pytest.raises(RecipeError, match=message):
        replace(PAPER, milestones=milestones)
