"""`alexnet check`: activation statistics of a new network, and whether it overfits one batch."""

import math
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from alexnet_cli.cli import console
from alexnet_cli.cli.console import print_line, print_rich, safe
from alexnet_cli.cli.options import (
    AsJson,
    Settings,
    complete_recipe,
)
from alexnet_cli.cli.tables import show


def check(
    recipe: Annotated[
        str,
        typer.Argument(
            help="Name of a recipe, or the recipe.json of a run.", autocompletion=complete_recipe
        ),
    ] = "paper",
    data: Annotated[
        str | None,
        typer.Option(help="Dataset to take images from; by default images are generated."),
    ] = None,
    settings: Settings = None,
    steps: Annotated[
        int,
        typer.Option(
            min=1, help="Maximum number of updates to overfit one batch, per learning rate."
        ),
    ] = 300,
    as_json: AsJson = False,
) -> None:
    """Measure activation statistics of every layer, and try to overfit one batch."""
    from alexnet_cli.recipes.catalog import find_recipe, load_recipe
    from alexnet_cli.recipes.overrides import with_settings

    found = load_recipe(Path(recipe)) if recipe.endswith(".json") else find_recipe(recipe)
    wanted = with_settings(found, settings or [])
    from alexnet_cli.data.remote.files import location
    from alexnet_cli.training import check as verb

    source = location(data) if data else None
    result = verb.check(wanted, source, steps=steps, progress=console.ConsoleProgress())
    show(result.to_json(), as_json, show_check)
    result.raise_faults()


def show_check(result: dict) -> None:
    """Print the activation statistics of each layer and the result of overfitting."""
    table = Table(title=f"{result['recipe']} as drawn, on {safe(result['data'])}")
    for column in ("after", "scale", "spread", "silent"):
        table.add_column(column, justify="right" if column != "after" else "left")
    for row in result["signals"]:
        numbers = (f"{row['scale']:.3g}", f"{row['spread']:.3g}", f"{row['silent']:.0%}")
        table.add_row(row["name"], *numbers)
    print_rich(table)
    print_line("scale: root mean square; spread: between images; silent: zero for every image")
    print_line(
        f"first loss {result['first_loss']:.3f}; chance level is ln({result['classes']}) = "
        f"{result['chance_loss']:.3f}"
    )
    one = result["overfit"]
    verb = "learned" if one["learned"] else "[bold red]not learned[/]"
    print_line(
        f"{one['images']} images {verb} in {len(one['losses'])} steps at rate "
        f"{one['rate']:.2g}: loss {one['losses'][0]:.3f} to {_finite(one['losses'][-1]):.3f}"
    )


def _finite(value: float | None) -> float:
    """Return infinity for a loss that JSON cannot express."""
    return math.inf if value is None else value
