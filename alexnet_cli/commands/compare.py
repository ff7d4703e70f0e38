"""`alexnet compare`: whether one network errs less often than another on the same images."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from alexnet_cli.cli.console import print_line, print_rich, safe
from alexnet_cli.cli.options import AsJson
from alexnet_cli.cli.tables import INTERVALS, show, with_interval
from alexnet_cli.errors import counted


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
    title = f"{result['split']}: {counted(result['images'], 'image')}"
    print_rich(_table(title, result))
    if subset := result["subset"]:
        print_rich(_table(f"among {counted(subset['classes'], 'class')}", subset))
    print_line(f"{INTERVALS} and of their difference")


def _table(title: str, result: dict) -> Table:
    table = Table(title=title)
    for name in ("", "top-1", "top-5"):
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    found = (result["top1"], result["top5"])
    for letter, which in (("A", "first"), ("B", "second")):
        cells = (with_interval(x[f"{which}_error"], x[f"{which}_interval"]) for x in found)
        table.add_row(f"error of {letter}", *cells)
    table.add_section()
    table.add_row("B minus A", *map(_difference_cell, found))
    table.add_row("only A is right", *(f"{x['only_first']:,}" for x in found))
    table.add_row("only B is right", *(f"{x['only_second']:,}" for x in found))
    table.add_row("McNemar's p", *(f"{x['p']:.2g}" for x in found))
    return table


def _difference_cell(found: dict) -> str:
    low, high = (f"{100 * end:+.2f}" for end in found["interval"])
    return f"{found['difference']:+.2%} ({low} to {high})"
