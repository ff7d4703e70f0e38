"""What the tables of several commands share."""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.table import Table

from alexnet_cli.cli.console import print_json, safe

RESULT_FILE = "ALEXNET_RESULT_FILE"  # where the job of another command leaves its result
INTERVALS = "in parentheses: 95 % intervals of the errors"


def show(result: dict, as_json: bool, table: Callable[[dict], None]) -> None:
    """Print a result as one JSON object, or as its table; a job also leaves it for its parent."""
    if path := os.environ.get(RESULT_FILE):
        Path(path).write_bytes(json.dumps(result).encode())
    print_json(result) if as_json else table(result)


def split_table(result: dict) -> Table:
    table = Table()
    kinds = ("found", "written", "rejected", "ignored", "shards")
    counts = [kind for kind in kinds if all(kind in split for split in result["splits"].values())]
    for column in ("split", *counts):
        table.add_column(column, justify="left" if column == "split" else "right")
    for name, split in result["splits"].items():
        table.add_row(name, *(f"{split[count]:,}" for count in counts))
    return table


def error_table(title: str) -> Table:
    table = Table(title=title)
    table.add_column("")
    for column in ("top-1 error", "top-5 error", "log loss"):
        table.add_column(column, justify="right", no_wrap=True)
    return table


def error_cells(row: dict) -> tuple[str, str, str]:
    """Return the errors in percent, with their 95 % intervals where the row has them."""
    errors = [with_interval(row[f"{k}_error"], row.get(f"{k}_interval")) for k in ("top1", "top5")]
    return errors[0], errors[1], f"{row['log_loss']:.4f}"


def with_interval(error: float, interval: Sequence[float] | None) -> str:
    """Return a fraction as percent, with an interval in parentheses."""
    if interval is None:
        return f"{error:.2%}"
    low, high = (f"{100 * end:.1f}" for end in interval)
    return f"{error:.2%} ({low}-{high})"


def some_of(result: dict) -> str:
    """Return the line that says what the two figures of a subset are."""
    some, all_of = result["dataset_classes"], result["model_classes"]
    return (
        f"the dataset has {some:,} of the network's {all_of:,} classes: the first figures are over "
        "all of them, those below among these"
    )


def short_name(wnid: str, name: str) -> str:
    """Return the first of a class's words, safe to print; a folder's name whole, commas and all."""
    return safe(name if name == wnid else name.split(",")[0])
