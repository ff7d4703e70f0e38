"""Bounds and choices of a recipe's fields."""

from dataclasses import replace

import pytest

from alexnet_cli.errors import RecipeError
from alexnet_cli.recipes.recipe import PAPER


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
