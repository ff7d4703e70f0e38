"""Recipes as --set changes them."""

from dataclasses import replace

import pytest

from alexnet_cli.errors import RecipeError
from alexnet_cli.recipes.overrides import layers_between, widen, with_settings
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


@pytest.mark.parametrize(("short", "field"), [("lr", "learning_rate"), ("wd", "weight_decay")])
def test_short_names_are_those_of_other_programs(short: str, field: str):
    assert with_settings(PAPER, [f"{short}=0.25"]) == replace(PAPER, **{field: 0.25})
    assert with_settings(PAPER, ["bs=7"]).batch_size == 7


@pytest.mark.parametrize(
    ("setting", "near"),
    [
        ("learnin_rate=1", "learning_rate"),
        ("Batch_Size=1", "batch_size"),
        ("widht=1", "width"),
        ("cov1.filters=3", "conv1"),
        ("conv1.filtres=3", "filters"),
    ],
)
def test_wrong_field_is_answered_with_at_most_three_like_it(setting: str, near: str):
    with pytest.raises(RecipeError) as caught:
        with_settings(PAPER, [setting])
    named = caught.value.hint.removeprefix("Did you mean ").removesuffix("?")
    named = named.replace(" or ", ", ").split(", ")
    assert near in named
    assert len(named) <= 3


def test_field_like_no_other_is_answered_in_one_short_line():
    with pytest.raises(RecipeError) as caught:
        with_settings(PAPER, ["xyzzy=1"])
    assert caught.value.hint == "alexnet recipes paper lists all."


def test_wrong_layer_is_answered_with_those_like_it():
    with pytest.raises(RecipeError, match="no layer 'cnv5'") as caught:
        layers_between(PAPER, "conv1-cnv5")
    assert "conv5" in caught.value.hint
    assert layers_between(PAPER, "conv1, fc6 - fc7,") == ("conv1", "fc6", "fc7")
