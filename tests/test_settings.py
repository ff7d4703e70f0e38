"""Recipes as --set changes them."""

from dataclasses import replace

import pytest

from alexnet_cli.errors import RecipeError
from alexnet_cli.recipe import PAPER
from alexnet_cli.recipes.small import SMALL
from alexnet_cli.settings import widen, with_settings


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("epochs=30", {"epochs": 30}),
        ("learning_rate=1e-3", {"learning_rate": 0.001}),
        ("learning_rate=1", {"learning_rate": 1.0}),
        ("schedule=linear", {"schedule": "linear"}),
        ("mirror=false", {"mirror": False}),
        ("mirror=True", {"mirror": True}),
        ("reads_both=fc6,fc7,fc8", {"reads_both": ("fc6", "fc7", "fc8")}),
        ("reads_both=conv2,conv3,fc6,fc7,fc8", {"reads_both": ("conv2", *PAPER.reads_both)}),
        ("conv3.init_std=0.01", {"conv3": replace(PAPER.conv3, init_std=0.01)}),
        ("conv2.then=activation", {"conv2": replace(PAPER.conv2, then=("activation",))}),
        ("fc7.dropout=0", {"fc7": replace(PAPER.fc7, dropout=0.0)}),
        ("name=a=b", {"name": "a=b"}),
    ],
)
def test_setting_changes_its_field_and_no_other(setting: str, expected: dict):
    assert with_settings(PAPER, [setting]) == replace(PAPER, **expected)


def test_settings_apply_in_order():
    found = with_settings(PAPER, ["epochs=3", "width=0.5", "epochs=4", "fc6.units=64"])

    half = widen(PAPER, 0.5)
    assert found == replace(half, epochs=4, fc6=replace(half.fc6, units=64))


def test_no_settings_change_nothing():
    assert with_settings(SMALL, []) == SMALL


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("epochs", "write field=value"),
        ("", "write field=value"),
        ("=3", "no field"),
        ("depth=3", "no field depth"),
        ("conv3.depth=3", "no field depth"),
        ("conv9.filters=3", "no field conv9"),
        ("epochs.x=3", "fields inside epochs: none"),
        ("conv3=384", "fields inside conv3: filters, size"),
        ("conv3.filters.x=3", "fields inside conv3: filters, size"),
        ("epochs=many", "expected int"),
        ("epochs=2.5", "expected int"),
        ("epochs=", "expected int"),
        ("learning_rate=fast", "expected float"),
        ("learning_rate=nan", "expected a finite number"),
        ("learning_rate=inf", "expected a finite number"),
        ("mirror=1", "expected bool"),
        ("mirror=", "expected bool"),
        ("conv3.filters=1e3", "expected int"),
        ("width=wide", "expected float"),
        ("width=0", "width=0.0: it must lie above 0"),
        ("width=-1", "it must lie above 0"),
        ("width=17", "up to 16"),
        ("epochs=0", "epochs=0: it must lie between 1"),
        ("epochs=99999999999999999999", "it must lie between"),
    ],
)
def test_setting_that_makes_no_sense_is_refused(setting: str, message: str):
    with pytest.raises(RecipeError, match=message) as caught:
        with_settings(PAPER, [setting])

    assert caught.value.exit_code == 2
