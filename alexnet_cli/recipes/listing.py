"""`alexnet recipes`: every recipe, what it changes, and the published figure it is held against."""

import json
from dataclasses import dataclass

from alexnet_cli.recipes.catalog import NAMED_RECIPES, RECIPES, find_recipe
from alexnet_cli.recipes.named_recipe import NamedRecipe, PublishedResult
from alexnet_cli.recipes.recipe import Recipe


@dataclass(frozen=True, slots=True)
class RecipeRow:
    """One recipe.

    Attributes:
        changes: field -> value, of the fields in which it differs from its parent; inner fields
            with a dot.
        targets: published figures; errors are fractions.
        commands: how to run it.
    """

    name: str
    parent: str | None
    about: str
    data: str
    changes: dict
    targets: list[PublishedResult]
    commands: list[str]


@dataclass(frozen=True, slots=True)
class RecipesResult:
    """All recipes, or one of them with every field."""

    recipes: list[RecipeRow]
    fields: dict | None


def recipes(name: str | None = None) -> RecipesResult:
    """List the recipes, or describe one of them.

    Raises:
        RecipeError: there is none of that name.
    """
    if name is None:
        return RecipesResult([_row(entry) for entry in NAMED_RECIPES.values()], None)
    fields = json.loads(find_recipe(name).to_json())
    return RecipesResult([_row(NAMED_RECIPES[name])], fields)


def _row(entry: NamedRecipe) -> RecipeRow:
    recipe = entry.recipe
    run = f"runs/{recipe.name}"
    # The CIFAR-10 figures are those of nine views of the test set.
    views = " --split test --views 9" if entry.data == "cifar-10" else ""
    begin = f" --init-from runs/{source}/last.safetensors" if (source := entry.init_from) else ""
    return RecipeRow(
        name=recipe.name,
        parent=entry.parent,
        about=entry.about,
        data=entry.data,
        changes=_changes(recipe, RECIPES[entry.parent]) if entry.parent else {},
        targets=[target.as_fractions() for target in entry.targets],
        commands=[
            f"alexnet train DATASET --run {run} --recipe {recipe.name}{begin}",
            f"alexnet eval {run}/best.safetensors DATASET{views}",
        ],
    )


def _changes(recipe: Recipe, parent: Recipe) -> dict:
    found, before = recipe.flat(), parent.flat()
    return {key: value for key, value in found.items() if key != "name" and value != before[key]}
