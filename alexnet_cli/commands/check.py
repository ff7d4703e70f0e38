"""`alexnet check`: activation statistics of a new network, and whether it overfits one batch."""

import math
from typing import Annotated

import typer
from rich.table import Table

from alexnet_cli.cli import console
from alexnet_cli.cli.console import print_line, print_rich, safe
from alexnet_cli.cli.options import (
    AsJson,
    Settings,
    complete_recipe,
    wanted_recipe,
)
from alexnet_cli.cli.tables import show
from alexnet_cli.errors import counted


def check(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="NAME|FILE",
            help="Recipe: a name that alexnet recipes lists, or a .json file.",
            autocompletion=complete_recipe,
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
    wanted = wanted_recipe(recipe, settings or [], None)
    from alexnet_cli.data.dataset_ref import DatasetRef
    from alexnet_cli.training.check import check as check_recipe

    source = DatasetRef.parse(data) if data else None
    result = check_recipe(wanted, source, steps=steps, progress=console.ConsoleProgress())
    show(result.to_json(), as_json, show_check)
    result.raise_faults()


def show_check(result: dict) -> None:
    """Print the activation statistics of each layer and the result of overfitting."""
    table = Table(title=f"{result['recipe']}, untrained, on {safe(result['data'])}")
    for column in ("layer", "rms", "std", "dead"):
        table.add_column(column, justify="right" if column != "layer" else "left")
    for row in result["layers"]:
        numbers = (f"{row['rms']:.3g}", f"{row['std']:.3g}", f"{row['dead_fraction']:.0%}")
        table.add_row(row["name"], *numbers)
    print_rich(table)
    print_line("rms: root mean square; std: between images; dead: outputs zero for every image")
    print_line(
        f"first loss {result['first_loss']:.3f}; chance level is ln({result['classes']}) = "
        f"{result['chance_loss']:.3f}"
    )
    one = result["overfit"]
    verb = "overfitted" if one["learned"] else "[bold red]not overfitted[/]"
    print_line(
        f"one batch of {counted(one['images'], 'image')} {verb} in "
        f"{counted(len(one['losses']), 'step')} at learning "
        f"rate {one['learning_rate']:.2g}: loss {one['losses'][0]:.3f} to "
        f"{_finite(one['losses'][-1]):.3f}"
    )


def _finite(value: float | None) -> float:
    """Return infinity for a loss that JSON cannot express."""
    return math.inf if value is None else value
