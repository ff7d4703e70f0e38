"""`alexnet info`: what a recipe, checkpoint, ONNX model or dataset is (paper section 3.5)."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from alexnet_cli.cli import console
from alexnet_cli.cli.console import print_line, print_rich, safe
from alexnet_cli.cli.options import (
    MODEL,
    AsJson,
    Settings,
    complete_recipe,
)
from alexnet_cli.cli.tables import show, split_table
from alexnet_cli.errors import counted


def info(
    thing: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE|MODEL|DATASET",
            help=f"Recipe, by its name or .json file; folder or URL of a dataset; or {MODEL}",
            autocompletion=complete_recipe,
        ),
    ] = "paper",
    settings: Settings = None,
    classes: Annotated[int, typer.Option(min=1, help="Number of classes, for a recipe.")] = 1000,
    as_json: AsJson = False,
) -> None:
    """Describe a recipe, checkpoint, ONNX model or dataset."""
    from alexnet_cli.inference import describe as verb
    from alexnet_cli.pretrained.names import find_model

    if "://" not in thing:
        thing = str(find_model(Path(thing), console.ConsoleProgress()))
    result = verb.info(thing, settings=settings, num_classes=classes)
    show(asdict(result), as_json, show_info)


def show_info(result: dict) -> None:
    """Print one line per layer of a network or per split of a dataset, then its metadata."""
    print_line(
        f"[bold]{safe(result['name'])}[/]: {result['kind']}, {counted(result['classes'], 'class')}"
    )
    print_rich(_layer_table(result) if "layers" in result else split_table(result))
    for name, value in result["about"].items():
        print_line(f"  {name}: {safe(str(value))}")


def _layer_table(result: dict) -> Table:
    size = " x ".join(map(str, result["input"]))
    table = Table(title=f"recipe {safe(result['recipe'])}, input {size}")
    for column in ("layer", "output", "parameters"):
        table.add_column(column, justify="left" if column == "layer" else "right")
    for layer in result["layers"]:
        shape = " x ".join(map(str, layer["output"]))
        count = f"{layer['parameters']:,}" if layer["parameters"] else ""
        table.add_row(layer["name"], shape, count)
    table.add_section()
    table.add_row("[bold]all[/]", "", f"[bold]{result['parameters']:,}[/]")
    return table
