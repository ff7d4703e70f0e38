"""`alexnet compare`: whether one network errs less often than another on the same images."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from alexnet_cli.cli.console import print_line, print_rich, safe
from alexnet_cli.cli.options import AsJson
from alexnet_cli.cli.tables import INTERVALS, show, with_interval


def compare(
    first: Annotated[Path, typer.Argument(metavar="A", help="Predictions file (.npz) of eval.")],
    second: Annotated[
        Path, typer.Argument(metavar="B", help="Predictions file of another network.")
    ],
    as_json: AsJson = False,
) -> None:
    """Compare the errors of two networks on the same images."""
    from alexnet_cli.inference import compare as verb

    show(asdict(verb.compare(first, second)), as_json, show_compare)


def show_compare(result: dict) -> None:
    """Print both errors, their difference, and the images that only one network gets right."""
    print_line(f"A: {safe(result['first'])}")
    print_line(f"B: {safe(result['second'])}")
    columns = {"top-1": result["top1"], "top-5": result["top5"]}
    if subset := result["subset"]:
        for k in ("top1", "top5"):
            columns[f"top-{k[-1]}, {subset['classes']:,} classes"] = subset[k]
    table = Table(title=f"{result['split']}: {result['images']:,} images")
    table.add_column("")
    for name in columns:
        table.add_column(name, justify="right")
    found = columns.values()
    for letter, which in (("A", "first"), ("B", "second")):
        cells = (with_interval(x[f"{which}_error"], x[f"{which}_interval"]) for x in found)
        table.add_row(f"error of {letter}", *cells)
    table.add_section()
    table.add_row("B minus A", *map(_difference_cell, found))
    table.add_row("only A is right", *(f"{x['only_first']:,}" for x in found))
    table.add_row("only B is right", *(f"{x['only_second']:,}" for x in found))
    table.add_row("McNemar's exact p", *(f"{x['p']:.2g}" for x in found))
    print_rich(table)
    print_line(f"{INTERVALS} and of their difference")


def _difference_cell(found: dict) -> str:
    low, high = (f"{100 * end:+.2f}" for end in found["interval"])
    return f"{found['difference']:+.2%} ({low} to {high})"
