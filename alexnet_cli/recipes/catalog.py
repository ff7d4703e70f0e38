"""The named recipes of all families by name."""

import json
from pathlib import Path

from alexnet_cli.errors import RecipeError, did_you_mean
from alexnet_cli.recipes import (
    cifar,
    fast,
    five_cnns,
    imported,
    original_2012,
    paper,
    pretraining,
    small,
)
from alexnet_cli.recipes.named_recipe import NamedRecipe
from alexnet_cli.recipes.recipe import Recipe

FAMILIES = (paper, fast, original_2012, five_cnns, pretraining, cifar, imported, small)
NAMED_RECIPES: dict[str, NamedRecipe] = {
    entry.recipe.name: entry for family in FAMILIES for entry in family.NAMED_RECIPES
}
RECIPES: dict[str, Recipe] = {name: entry.recipe for name, entry in NAMED_RECIPES.items()}


def find_recipe(name: str) -> Recipe:
    """Return the recipe with that name, or that of a .json file.

    Raises:
        RecipeError: if there is no such recipe, or the file is none.
    """
    return load_recipe(Path(name)) if is_recipe_file(name) else RECIPES[known_name(name)]


def known_name(name: str) -> str:
    """Return the name.

    Raises:
        RecipeError: if there is no such recipe.
    """
    if name not in RECIPES:
        near = did_you_mean(name, RECIPES, "alexnet recipes lists all of them.")
        raise RecipeError(f"no recipe {name!r}.", hint=near)
    return name


def is_recipe(name: str) -> bool:
    """Return whether there is a recipe of that name."""
    return name in RECIPES


def is_recipe_file(name: str) -> bool:
    """Return whether this is the name of a file, not of a recipe."""
    return name.lower().endswith(".json")


def load_recipe(path: Path) -> Recipe:
    """Read a recipe: the recipe.json of a run, or what `alexnet recipes` prints as JSON.

    Raises:
        RecipeError: if the file cannot be read or is not a recipe.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        return Recipe.from_json(_fields_in(text))
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: not a readable recipe ({error}).") from error
    except RecipeError as error:
        raise error.replaced(problem=f"{path}: {error.problem}") from error


def _fields_in(text: str) -> str:
    """Return a recipe's own object where it is one of several parts."""
    try:
        content = json.loads(text)
    except ValueError:  # which Recipe.from_json says
        return text
    is_listed = isinstance(content, dict) and {"recipes", "fields"} <= set(content)
    return json.dumps(content["fields"]) if is_listed and content["fields"] else text
