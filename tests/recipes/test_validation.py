"""Bounds and choices of a recipe's fields."""

from dataclasses import replace

import pytest

from alexnet_cli.errors import RecipeError
from alexnet_cli.recipes.recipe import PAPER


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schedule": "polynomial"}, "schedule=polynomial: choose of plateau, "),
        ({"activation": "gelu"}, "activation=gelu: choose of relu, "),
        ({"conv1": replace(PAPER.conv1, then=("relu",))}, "conv1.then=relu: choose of activation"),
        ({"conv2": replace(PAPER.conv2, then=("norm", "norm"))}, "conv2.then: norm, norm: each of"),
        ({"epochs": 0}, "epochs=0: it must lie between 1 and "),
        ({"learning_rate": float("nan")}, "learning_rate=nan: it must lie between"),
        ({"conv3": replace(PAPER.conv3, filters=3)}, "conv3.filters=3: it must split into 2"),
        ({"seed": 1.5}, "seed=1.5: it must lie between"),
        ({"label_smoothing": 1.1}, "label_smoothing=1.1: it must lie between 0.0 and 1.0"),
        ({"label_smoothing": -0.1}, "label_smoothing=-0.1: it must lie between"),
        ({"average_decay": 1.0}, "average_decay=1.0: it must lie between 0.0 and 0.99999"),
        ({"average_decay": -0.1}, "average_decay=-0.1: it must lie between"),
    ],
)
def test_value_outside_its_bounds_is_refused_by_name(changes, message):
    with pytest.raises(RecipeError) as error:
        replace(PAPER, **changes)
    assert str(error.value).startswith(message)
