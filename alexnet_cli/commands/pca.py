"""`alexnet pca`: the training set's mean image and RGB principal components (sections 2, 4.1)."""

from dataclasses import asdict

from rich.table import Table

from alexnet_cli.cli import console
from alexnet_cli.cli.console import print_rich, safe
from alexnet_cli.cli.options import (
    AllowPipe,
    AsJson,
    Classes,
    DatasetSource,
    Stream,
    find_source,
)
from alexnet_cli.cli.tables import show
from alexnet_cli.errors import counted


def pca(
    dataset: DatasetSource,
    stream: Stream = False,
    classes: Classes = None,
    allow_pipe: AllowPipe = False,
    as_json: AsJson = False,
) -> None:
    """Compute the mean image and the RGB principal components of the training images."""
    source = find_source(dataset, stream, classes, allow_pipe)
    from alexnet_cli.data import pca as verb

    result = verb.pca(source, progress=console.ConsoleProgress())
    show(asdict(result), as_json, show_pca)
    source.check_all_used()


def show_pca(result: dict) -> None:
    """Print the mean color and the principal components."""
    table = Table(title=f"{safe(result['file'])}: {counted(result['images'], 'image')}")
    for column in ("", "red", "green", "blue", "std (gray levels)"):
        table.add_column(column, justify="right")
    table.add_row("mean", *(f"{value:.2f}" for value in result["mean_rgb"]), "")
    for i, variance in enumerate(result["eigenvalues"]):
        vector = (f"{row[i]:+.4f}" for row in result["eigenvectors"])
        table.add_row(f"component {i + 1}", *vector, f"{variance**0.5:.2f}")
    print_rich(table)
