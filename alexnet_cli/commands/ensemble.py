"""`alexnet ensemble`: the average of several networks' probabilities (paper section 6)."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from alexnet_cli.cli import console
from alexnet_cli.cli.console import print_line, print_rich, safe
from alexnet_cli.cli.options import (
    MODEL,
    AsJson,
    ClassNames,
    Device,
    Gpus,
    Precision,
    SplitName,
    Views,
    check_views,
    complete_model,
    runtime_config,
)
from alexnet_cli.cli.tables import INTERVALS, error_cells, error_table, show, some_of
from alexnet_cli.errors import counted


def ensemble(
    members: Annotated[
        list[Path],
        typer.Argument(
            metavar="MODEL|PREDICTIONS",
            help=f"Predictions files (.npz) of eval; or trained networks, each a {MODEL}",
            autocompletion=complete_model,
        ),
    ],
    data: Annotated[
        str | None,
        typer.Option(help="Dataset to run the networks on; predictions files need none."),
    ] = None,
    split: SplitName = "val",
    class_names: ClassNames = None,
    views: Views = 10,
    weights: Annotated[
        str, typer.Option(help="Weights of the members: equal, search, or numbers such as 0.5,1,1.")
    ] = "equal",
    gpus: Gpus = None,
    device: Device = "auto",
    precision: Precision = "fp32",
    as_json: AsJson = False,
) -> None:
    """Average the class probabilities of several networks."""
    check_views(views)
    from alexnet_cli.data.dataset_ref import DatasetRef
    from alexnet_cli.inference.ensemble import EnsembleRequest
    from alexnet_cli.inference.ensemble import ensemble as average
    from alexnet_cli.pretrained.names import find_model

    progress = console.ConsoleProgress()
    networks = tuple(find_model(member, progress) for member in members)
    source = DatasetRef.parse(data) if data else None
    runtime = runtime_config(device, gpus, precision=precision)
    request = EnsembleRequest(networks, source, split, views, weights, runtime, class_names)
    result = average(request, progress)
    show(asdict(result), as_json, show_ensemble)


def show_ensemble(result: dict) -> None:
    """Print the errors of each member and of the average."""
    table = error_table(
        f"ensemble of {len(result['members'])}: {counted(result['images'], 'image')}"
    )
    for member, weight in zip(result["members"], result["weights"], strict=True):
        table.add_row(f"{safe(member['file'])} x {weight:.3g}", *error_cells(member))
    table.add_section()
    table.add_row("[bold]average[/]", *error_cells(result))
    if result["subset"]:
        among = counted(result["dataset_classes"], "class")
        table.add_section()
        for member in result["members"]:
            table.add_row(f"{safe(member['file'])}, {among}", *error_cells(member["subset"]))
        table.add_row(f"[bold]average, {among}[/]", *error_cells(result["subset"]))
    print_rich(table)
    print_line(INTERVALS)
    if result["subset"]:
        print_line(some_of(result))
    if result["searched_on"]:
        print_line(
            f"weights searched on {counted(result['searched_on'], 'other image')} of the split"
        )
