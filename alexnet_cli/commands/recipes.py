"""`alexnet recipes`: every named recipe, what it changes, and the published results."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from alexnet_cli.cli.console import print_line, print_rich, safe
from alexnet_cli.cli.options import (
    AsJson,
    complete_recipe,
)
from alexnet_cli.cli.tables import show

if TYPE_CHECKING:
    from alexnet_cli.recipes.named_recipe import NamedRecipe


def recipes(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="Name of a recipe, to show all its fields.",
            autocompletion=complete_recipe,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the named recipes with the published results they reproduce."""
    from alexnet_cli.recipes.catalog import NAMED_RECIPES, known_name

    entries = [NAMED_RECIPES[known_name(name)]] if name else list(NAMED_RECIPES.values())
    fields = json.loads(entries[0].recipe.to_json()) if name else None
    show({"recipes": [_row(entry) for entry in entries], "fields": fields}, as_json, show_recipes)


def _row(entry: "NamedRecipe") -> dict:
    """Return what is printed of one recipe: errors as fractions, and how to run it."""
    name, run = entry.recipe.name, f"runs/{entry.recipe.name}"
    # The published results for CIFAR-10 are of nine views of the test set.
    views = " --split test --views 9" if entry.data == "cifar-10" else ""
    source = entry.init_from
    init = f" --init-from runs/{source}/last.safetensors" if source else ""
    return {
        "name": name,
        "parent": entry.parent,
        "about": entry.summary,
        "data": entry.data,
        "changes": _changes(entry),
        "targets": [asdict(result.as_fractions()) for result in entry.published],
        "commands": [
            f"alexnet train DATASET --run {run} --recipe {name}{init}",
            f"alexnet eval {run}/best.safetensors DATASET{views}",
        ],
    }


def _changes(entry: "NamedRecipe") -> dict:
    """Return the fields in which a recipe differs from its parent; inner fields with a dot."""
    from alexnet_cli.recipes.catalog import RECIPES

    if not entry.parent:
        return {}
    changes = entry.recipe.changes_from(RECIPES[entry.parent])
    return {name: own for name, (_, own) in changes.items() if name != "name"}


def show_recipes(result: dict) -> None:
    """Print one line per recipe and published result; of a single recipe every field."""
    table = Table(caption="published error rates; alexnet recipes NAME shows their source")
    for column in ("recipe", "shows", "data", "top-1 / top-5"):
        table.add_column(column, no_wrap=column != "shows")
    for row in result["recipes"]:
        cells = [(t["data"], _target_errors(t)) for t in row["targets"]] or [(row["data"], "")]
        table.add_row(row["name"], row["about"], *cells[0])
        for cell in cells[1:]:
            table.add_row("", "", *cell)
    print_rich(table)
    if result["fields"] is not None:
        _show_recipe(result["recipes"][0], result["fields"])


def _target_errors(target: dict) -> str:
    errors = (target["top1_error"], target["top5_error"])
    return " / ".join("-" if error is None else f"{error:.1%}" for error in errors)


def _show_recipe(row: dict, fields: dict) -> None:
    for target in row["targets"]:
        print_line(f"{_target_errors(target)}: {target['protocol']} ({target['source']})")
    if row["changes"]:
        print_line(f"changes from {row['parent']}:")
    for field, value in row["changes"].items():
        print_line(f"  {field} = {safe(str(value))}")
    print_line("every field:")
    for field, value in fields.items():
        inner = value.items() if isinstance(value, dict) else None
        shown = " ".join(f"{name}={part}" for name, part in inner) if inner else value
        print_line(f"  {field}: {safe(str(shown))}")
    for command in row["commands"]:
        print_line(f"$ {command}")
