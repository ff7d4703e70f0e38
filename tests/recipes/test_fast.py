"""The recipe that is faster than the paper's."""

from dataclasses import replace

from alexnet_cli.model.architecture import layers_of
from alexnet_cli.model.schedule import is_finished, learning_rates_at
from alexnet_cli.recipes.catalog import NAMED_RECIPES
from alexnet_cli.recipes.fast import FAST
from alexnet_cli.recipes.recipe import PAPER


def test_fast_recipe_has_the_papers_network_and_images():
    names = ("name", "batch_size", "schedule", "warmup_epochs", "epochs", "ema_decay")

    assert replace(FAST, **{name: getattr(PAPER, name) for name in names}) == PAPER
    assert sum(layer.num_parameters for layer in layers_of(FAST, 1000)) == 60_965_224


def test_fast_recipe_makes_a_third_of_the_papers_updates_and_ends_by_itself():
    updates, of_the_paper = (recipe.epochs / recipe.batch_size for recipe in (FAST, PAPER))

    assert updates == of_the_paper / 3
    assert not is_finished(FAST, 59, [0.9] * 59)
    assert is_finished(FAST, 60, [])


def test_learning_rates_of_the_fast_recipe_rise_for_an_epoch_and_fall_to_zero():
    rates = [
        learning_rates_at(FAST, progress, []).weights for progress in (0.0, 0.5, 1.0, 30.5, 60.0)
    ]

    assert rates == [0.0, 0.005, 0.01, 0.005, 0.0]


def test_fast_recipe_is_held_against_the_papers_figure():
    (target,) = NAMED_RECIPES["fast"].published

    assert target in NAMED_RECIPES["paper"].published
