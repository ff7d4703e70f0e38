"""The small recipes."""

import pytest

from alexnet_cli.recipes.recipe import PAPER
from alexnet_cli.recipes.small import DEMO, SMALL


@pytest.mark.parametrize(("recipe", "width"), [(SMALL, 3 / 8), (DEMO, 1 / 4)])
def test_small_recipe_has_a_part_of_every_layer(recipe, width):
    layers, whole = {**recipe.convs(), **recipe.denses()}, {**PAPER.convs(), **PAPER.denses()}
    sizes = {name: getattr(layer, "filters", None) or layer.units for name, layer in layers.items()}
    full = {name: getattr(layer, "filters", None) or layer.units for name, layer in whole.items()}

    for name, size in full.items():
        assert sizes[name] == pytest.approx(size * width, abs=4)  # multiples of 8
        assert sizes[name] % 8 == 0


@pytest.mark.parametrize("recipe", [SMALL, DEMO])
def test_small_recipe_ends_by_itself(recipe):
    assert recipe.schedule == "linear"
    assert recipe.epochs <= 16
