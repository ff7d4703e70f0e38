"""The ablations of the paper's text."""

import numpy as np
import pytest
import torch

from alexnet_cli.model.architecture import layers_of
from alexnet_cli.model.network import AlexNet
from alexnet_cli.recipes.catalog import find_recipe
from alexnet_cli.recipes.overrides import widen
from alexnet_cli.recipes.recipe import PAPER


@pytest.mark.parametrize(
    ("name", "left_out"), [(f"without-conv{n}", f"conv{n}") for n in (3, 4, 5)]
)
def test_left_out_layer_is_gone_with_what_follows_it(name, left_out):
    names = [layer.name for layer in layers_of(find_recipe(name), 10)]
    assert left_out not in names
    assert f"relu{left_out[-1]}" not in names
    assert sum(layer.startswith("pool") for layer in names) == 3


def test_average_pooling_changes_every_pooling_layer_and_nothing_else():
    recipe = find_recipe("average-pooling")
    for name, conv in recipe.convs().items():
        before = PAPER.convs()[name].then
        assert conv.then == tuple(step.replace("max", "average") for step in before)


def test_normalization_within_a_map_stands_where_that_across_maps_did():
    names = [layer.name for layer in layers_of(find_recipe("intra-channel-lrn"), 10)]
    expected = [layer.name for layer in layers_of(PAPER, 10)]
    assert names == [name.replace("norm", "spatial") for name in expected]


@pytest.mark.parametrize("name", ["spatial1", "spatial2"])
def test_normalization_within_a_map_has_the_papers_constants_on_a_plain_sum(name):
    net = AlexNet(widen(find_recipe("intra-channel-lrn"), 1 / 16), 10)
    x = np.random.default_rng(0).normal(0, 40, (2, 3, 9, 9))

    found = net.get_submodule(name)(torch.from_numpy(x)).numpy()

    padded = np.pad(x, ((0, 0), (0, 0), (2, 2), (2, 2)))
    shifted = [padded[:, :, i : i + 9, j : j + 9] for i in range(5) for j in range(5)]
    total = np.square(shifted).sum(axis=0)
    np.testing.assert_allclose(found, x / (2 + 1e-4 * total) ** 0.75, rtol=1e-12)
    assert (1e-4 * total).max() > 1  # so that it shows


def test_normalization_within_a_map_changes_nothing_else():
    recipe = find_recipe("intra-channel-lrn")
    for name, conv in recipe.convs().items():
        before = PAPER.convs()[name].then
        assert conv.then == tuple("spatial-norm" if step == "norm" else step for step in before)
