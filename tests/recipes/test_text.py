"""The ablations of the paper's text."""

import pytest

from alexnet_cli.model.alexnet import describe_layers
from alexnet_cli.recipe import PAPER
from alexnet_cli.recipes import find_recipe


@pytest.mark.parametrize(
    ("name", "left_out"), [(f"without-conv{n}", f"conv{n}") for n in (3, 4, 5)]
)
def test_left_out_layer_is_gone_with_what_follows_it(name, left_out):
    names = [layer.name for layer in describe_layers(find_recipe(name), 10)]
    assert left_out not in names
    assert f"relu{left_out[-1]}" not in names
    assert sum(layer.startswith("pool") for layer in names) == 3


def test_average_pooling_changes_every_pooling_layer_and_nothing_else():
    recipe = find_recipe("average-pooling")
    for name, conv in recipe.convs().items():
        before = PAPER.convs()[name].then
        assert conv.then == tuple(step.replace("max", "average") for step in before)
