"""What is said of the recipes."""

import pytest

from alexnet_cli.recipes.catalog import NAMED_RECIPES, RECIPES
from alexnet_cli.recipes.named_recipe import PublishedResult


@pytest.mark.parametrize("name", RECIPES)
def test_targets_are_percentages_with_a_source(name):
    for target in NAMED_RECIPES[name].targets:
        assert 0 < target.top1_error < 100
        assert target.top5_error is None or 0 < target.top5_error < target.top1_error
        assert target.source.startswith(("paper", "log"))


def test_target_as_fractions_is_exact():
    target = PublishedResult("ilsvrc-2012", 40.664, 18.21, "ten views", "log").as_fractions()
    assert (target.top1_error, target.top5_error) == (0.40664, 0.1821)
