"""Rates set by hand: which lists of them are refused; under a second."""

from dataclasses import replace

import pytest

from alexnet_cli.errors import RecipeError
from alexnet_cli.recipes.milestones import Event, check_events
from alexnet_cli.recipes.overrides import with_settings
from alexnet_cli.recipes.recipe import PAPER

LAYERS = ["conv1", "fc6", "fc8"]


def test_events_in_their_order_pass():
    events = (
        Event(epoch=0, rate=0.1),
        Event(epoch=1.5, rate=0.0, layers=("conv1",)),
        Event(epoch=1.5, rate=0.01, bias_rate=0.0),
    )

    check_events(events, LAYERS)
    check_events((), LAYERS)


def test_layer_that_the_network_lacks_is_named():
    events = (Event(epoch=1, rate=0.1, layers=("fc8", "fc7", "conv4")),)

    with pytest.raises(RecipeError, match="events: no layer conv4, fc7"):
        check_events(events, LAYERS)


def test_events_are_refused_where_they_are_no_events():
    with pytest.raises(RecipeError, match="events: a list of Event"):
        replace(PAPER, events=({"epoch": 1, "rate": 0.1},))
    with pytest.raises(RecipeError, match="it cannot be set on the command line"):
        with_settings(PAPER, ["events=1"])


@pytest.mark.parametrize(
    ("events", "message"),
    [
        ((Event(epoch=2, rate=0.1), Event(epoch=1, rate=0.1)), "order of their epochs"),
        ((Event(epoch=2, rate=0.0),), "name the layers"),
        ((Event(epoch=2, rate=-1.0),), "numbers from 0 on"),
        ((Event(epoch="2", rate=1.0),), "numbers from 0 on"),
        ((Event(epoch=2, rate=1.0, layers=("conv9",)),), "no layer conv9"),
    ],
)
def test_events_that_make_no_sense_are_refused(events, message):
    with pytest.raises(RecipeError, match=message):
        replace(PAPER, events=events)
