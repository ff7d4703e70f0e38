"""What the tables of several commands share."""

import json
import os
from collections.abc import Callable
from pathlib import Path

from rich.table import Table

from alexnet_cli.cli.console import print_json

RESULT_FILE = "ALEXNET_RESULT_FILE"  # where the job of another command leaves its result
VIEWS = {1: "center view", 9: "nine views", 10: "ten views"}


def show(result: dict, as_json: bool, table: Callable[[dict], None]) -> None:
    """Print a result as one JSON object, or as its table; a job also leaves it for its parent."""
    if path := os.environ.get(RESULT_FILE):
        Path(path).write_bytes(json.dumps(result).encode())
    print_json(result) if as_json else table(result)


def split_table(result: dict) -> Table:
    table = Table()
    counts = ("found", "written", "rejected", "shards")
    for column in ("split", *counts):
        table.add_column(column, justify="left" if column == "split" else "right")
    for name, split in result["splits"].items():
        table.add_row(name, *(f"{split[count]:,}" for count in counts))
    return table


def error_table(title: str) -> Table:
    table = Table(title=title)
    table.add_column("")
    for column in ("top-1 error", "top-5 error", "log loss"):
        table.add_column(column, justify="right")
    return table


def error_cells(row: dict) -> tuple[str, str, str]:
    return f"{row['top1_error']:.2%}", f"{row['top5_error']:.2%}", f"{row['log_loss']:.4f}"
