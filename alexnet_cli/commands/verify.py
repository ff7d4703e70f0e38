"""`alexnet verify`: a dataset compared with its index, and repaired."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from alexnet_cli.cli import console
from alexnet_cli.cli.console import print_line, safe
from alexnet_cli.cli.options import (
    AsJson,
    DatasetPath,
    Layout,
)
from alexnet_cli.cli.tables import show
from alexnet_cli.errors import counted


def _local(text: str) -> Path:
    if "://" in text or text.startswith("pipe:"):
        raise typer.BadParameter(
            "a repair reads local files. Copy the tars into a folder and name it."
        )
    return Path(text)


def verify(
    dataset: DatasetPath,
    deep: Annotated[bool, typer.Option("--deep", help="Also decode every image.")] = False,
    rebuild: Annotated[
        bool,
        typer.Option(
            "--rebuild", help="Rebuild damaged indexes from the shards, without the source."
        ),
    ] = False,
    repair: Annotated[
        Path | None,
        typer.Option(
            metavar="SOURCE",
            parser=_local,
            help="Make damaged shards again from the images they were made of.",
        ),
    ] = None,
    layout: Layout = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="File of image names and classes, if the dataset was made with one."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Number of threads; by default one per CPU core.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare a dataset with the checksums in its index, and repair it."""
    from alexnet_cli.prep.verify import verify as run

    result = run(
        dataset,
        deep=deep,
        rebuild=rebuild,
        source=repair,
        layout=layout,
        labels=labels,
        num_workers=workers,
        progress=console.ConsoleProgress(),
    )
    show(asdict(result), as_json, show_verify)
    result.raise_findings()


def show_verify(result: dict) -> None:
    """Print the counts, then every finding, then what was repaired."""
    speed = result["bytes"] / 1e6 / result["seconds"] if result["seconds"] else 0.0
    decoded = ", decoded" if result["deep"] else ""
    print_line(
        f"[bold]{safe(result['dataset'])}[/]: {counted(result['shards'], 'shard')}, "
        f"{counted(result['samples'], 'sample')}{decoded}, {result['bytes'] / 1e6:,.0f} MB "
        f"at {speed:,.0f} MB/s"
    )
    for finding in result["findings"]:
        print_line(f"  [red]{_words(finding)}[/]")
    for finding in result["repaired"]:
        print_line(f"  [green]repaired[/] {_words(finding)}")
    if result["replaced"]:
        print_line(f"replaced: {safe(', '.join(result['replaced']))}")
    elif not result["findings"]:
        print_line("every byte is as prep wrote it")


def _words(finding: dict) -> str:
    sample = f": sample {finding['key']}" if finding["key"] else ""
    expected, found = finding["expected"], finding["found"]
    return safe(f"{finding['file']}{sample}: {finding['what']}: expected {expected}, found {found}")
