"""`alexnet download`: the archive of a small public data set, for prep."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from alexnet_cli.cli import console
from alexnet_cli.cli.console import print_line, safe
from alexnet_cli.cli.options import AsJson
from alexnet_cli.cli.tables import show


def complete_dataset(incomplete: str) -> list[str]:
    """Return the data sets whose name begins so, for shell completion."""
    from alexnet_cli.data.remote.datasets import DATASETS

    return [name for name in DATASETS if name.startswith(incomplete)]


def download(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="imagenette-160, tiny-imagenet or cifar-10.",
            autocompletion=complete_dataset,
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="File or folder to copy it to, besides the cache."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
    as_json: AsJson = False,
) -> None:
    """Fetch a small public data set, whose hash is known, into the cache."""
    from alexnet_cli.data.remote import datasets as verb

    progress = console.ConsoleProgress()
    result = verb.download(name, output, force=force, progress=progress)
    show(asdict(result), as_json, show_download)


def show_download(result: dict) -> None:
    """Print where the archive is, and the command that makes a dataset of it."""
    print_line(f"[bold]{safe(result['file'])}[/]: {result['bytes'] / 1e6:,.0f} MB")
    print_line(f"{result['algorithm']} {result['digest']}, as published")
    print_line(f"next: alexnet prep {safe(result['file'])} shards/{result['name']}")
