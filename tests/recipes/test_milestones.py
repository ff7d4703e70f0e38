"""LearningRates set by hand: which lists of them are refused; under a second."""

from dataclasses import replace

import pytest

from alexnet_cli.errors import RecipeError
from alexnet_cli.recipes.overrides import with_settings
from alexnet_cli.recipes.recipe import PAPER, Milestone
from alexnet_cli.recipes.validation import check_milestones

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


def test_events_are_refused_where_they_are_no_milestones():
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
