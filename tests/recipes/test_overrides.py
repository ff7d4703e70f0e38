"""Recipes as --set changes them."""

from dataclasses import replace

import pytest

from alexnet_cli.errors import RecipeError
from alexnet_cli.recipes.overrides import widen, with_settings
from alexnet_cli.recipes.recipe import PAPER
from alexnet_cli.recipes.small import SMALL


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
        (
            "conv1.then=max-pool,activation,norm",
            {"conv1": replace(PAPER.conv1, then=("max-pool", "activation", "norm"))},
        ),
        (
            "conv2.then=activation,norm,contrast-norm,average-pool",
            {
                "conv2": replace(
                    PAPER.conv2, then=("activation", "norm", "contrast-norm", "average-pool")
                )
            },
        ),
        ("conv3.then=", {"conv3": replace(PAPER.conv3, then=())}),
        ("conv4.filters=0", {"conv4": replace(PAPER.conv4, filters=0)}),
        ("fc6.linear=true", {"fc6": replace(PAPER.fc6, linear=True)}),
        ("bottleneck.units=2048", {"bottleneck": replace(PAPER.bottleneck, units=2048)}),
        ("low_resolution=true", {"low_resolution": True}),
        ("split_classes=true", {"split_classes": True}),
        ("spatial_divided=false", {"spatial_divided": False}),
        ("init_layers=conv1,fc8", {"init_layers": ("conv1", "fc8")}),
        ("milestones=", {"milestones": ()}),
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


def test_width_reaches_a_bottleneck_that_was_set_before_it():
    found = with_settings(PAPER, ["bottleneck.units=2048", "fc7.units=0", "width=0.25"])

    assert found.bottleneck.units == 512
    assert found.bottleneck.init_std == pytest.approx(2 * PAPER.bottleneck.init_std)
    assert list(found.denses()) == ["fc6", "bottleneck"]


def test_width_leaves_a_bottleneck_that_is_set_after_it():
    found = with_settings(PAPER, ["width=0.25", "bottleneck.units=2048"])

    assert found.bottleneck == replace(PAPER.bottleneck, units=2048)


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
        ("width=0", "width=0.0: must be above 0"),
        ("width=-1", "must be above 0"),
        ("width=17", "at most 16"),
        ("conv1.then=relu", "conv1.then=relu: choose from activation, norm, "),
        ("conv1.then=norm,norm", "conv1.then: norm, norm: list each of them once"),
        ("conv3.local=yes", "expected bool"),
        ("bottleneck=2048", "fields inside bottleneck: units, "),
        ("milestones=1", "milestones: not a list"),
        ("init_layers=conv9", "init_layers: no layer conv9"),
        ("epochs=0", "epochs=0: must be between 1"),
        ("epochs=99999999999999999999", "must be between"),
    ],
)
def test_setting_that_makes_no_sense_is_refused(setting: str, message: str):
    with pytest.raises(RecipeError, match=message) as caught:
        with_settings(PAPER, [setting])

    assert caught.value.exit_code == 2
