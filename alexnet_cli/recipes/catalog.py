"""The named recipes of all families by name."""

from pathlib import Path

from alexnet_cli.errors import RecipeError
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
    """Return the recipe with that name.

    Raises:
        RecipeError: if there is no such recipe.
    """
    if name not in RECIPES:
        raise RecipeError(f"no recipe {name!r}.", hint=f"Recipes: {', '.join(RECIPES)}.")
    return RECIPES[name]


def load_recipe(path: Path) -> Recipe:
    """Read the recipe.json of a run.

    Raises:
        RecipeError: if the file cannot be read or is not a recipe.
    """
    try:
        return Recipe.from_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: not a readable recipe ({error}).") from error
    except RecipeError as error:
        raise error.replaced(problem=f"{path}: {error.problem}") from error
