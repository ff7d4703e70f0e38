"""`alexnet reproduce`: a table of the paper, trained and measured, beside the published figures."""

import shlex
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from alexnet_cli.cli import console
from alexnet_cli.cli.console import print_line, print_rich, safe
from alexnet_cli.cli.job import run_job
from alexnet_cli.cli.options import (
    AsJson,
    Device,
    Settings,
)
from alexnet_cli.cli.tables import show
from alexnet_cli.errors import counted

if TYPE_CHECKING:
    from alexnet_cli.data.dataset_ref import DatasetRef
    from alexnet_cli.recipes.recipe import Recipe
    from alexnet_cli.reproduce.estimate import Estimate
    from alexnet_cli.reproduce.jobs import Job, Shortcuts, TableDataset


def reproduce(
    table: Annotated[
        str,
        typer.Argument(
            metavar="TABLE",
            help="Table to reproduce: ilsvrc-2010, ilsvrc-2012, ablations or figure-1.",
        ),
    ],
    data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=DATASET",
            help="Dataset for an official data set, such as ilsvrc-2012=shards/a.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Folder for runs and results; by default results/TABLE."
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Number of epochs of every run, instead of the recipe's."),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="ROW", help="Reproduce only this row; can be repeated."),
    ] = None,
    settings: Settings = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Show the commands with their images, hours and disk space."
        ),
    ] = False,
    gpus: Annotated[
        int | None,
        typer.Option(min=1, help="Number of GPUs; 2 split the network, more are replicas."),
    ] = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Train and evaluate a table of the paper, and compare with the published figures."""
    from alexnet_cli.reproduce import run as verb

    shortcuts = verb.Shortcuts(epochs, tuple(settings or ()), device, gpus)
    pairs = tuple(_parse_data(text) for text in data or ())
    folder = output or Path("results") / table
    request = verb.ReproduceRequest(table, pairs, folder, tuple(only or ()), shortcuts)
    if dry_run:
        estimate = verb.plan(request, progress=console.ConsoleProgress())
        show(_plan_as_json(estimate), as_json, show_plan)
        return
    result = verb.reproduce(
        request,
        lambda job: run_job(job_arguments(job), job.purpose, quiet=as_json),
        progress=console.ConsoleProgress(),
    )
    show(result, as_json, show_reproduce)


def _parse_data(text: str) -> "tuple[str, DatasetRef]":
    from alexnet_cli.data.dataset_ref import DatasetRef

    name, equals, place = text.partition("=")
    if not (name and equals and place):
        raise typer.BadParameter(f"{text}: write NAME=DATASET.", param_hint="--data")
    return name, DatasetRef.parse(place)


def job_arguments(job: "Job") -> list[str]:
    """Return the command line of a job."""
    from alexnet_cli.reproduce.jobs import EnsembleJob, TrainJob

    if isinstance(job, EnsembleJob):
        return ["ensemble", *(str(member.predictions) for member in job.evals)]
    train = job if isinstance(job, TrainJob) else job.train
    dataset = train.dataset
    runtime = runtime_options(train.shortcuts, train.recipe)
    if not isinstance(job, TrainJob):
        command = ["eval", str(train.last), dataset.path, "--split", dataset.split]
        return [*command, "--output", str(job.predictions), *runtime]
    # Always with its epochs: a run that was shortened once must not stay short.
    command = ["train", dataset.path, "--run", str(train.folder)]
    command += ["--recipe", train.recipe_name, "--epochs", str(train.recipe.epochs)]
    command += [f"--set={setting}" for setting in train.shortcuts.settings] + runtime
    if train.resumes:
        return [*command, "--resume"]
    return [*command, "--init-from", str(train.parent.last)] if train.parent else command


def runtime_options(shortcuts: "Shortcuts", recipe: "Recipe") -> list[str]:
    """Return where train and eval run; on more devices than columns each holds a replica."""
    options = ["--device", shortcuts.device] if shortcuts.device != "auto" else []
    if shortcuts.num_devices:
        options += ["--gpus", str(shortcuts.num_devices)]
        options += ["--columns", "1"] if shortcuts.num_devices > recipe.columns else []
    return options


def prep_commands(dataset: "TableDataset") -> str:
    """Return the command lines that prepare an official data set from its source."""
    from alexnet_cli.recipes.paper_tables import OFFICIAL_SETS

    command, official = f"alexnet prep SOURCE {dataset.path}", OFFICIAL_SETS[dataset.name]
    if official.size != 256:
        command += f" --size {official.size} --quality {official.quality}"
    return f"{command} && alexnet pca {dataset.path}"


def _plan_as_json(estimate: "Estimate") -> dict:
    """Return the estimate with the command lines of its jobs and of the missing datasets."""
    steps = [
        {
            "name": step.job.name,
            "command": job_arguments(step.job),
            "images": step.images,
            "hours": step.hours,
            "disk_bytes": step.disk_bytes,
        }
        for step in estimate.steps
    ]
    commands = {dataset.name: prep_commands(dataset) for dataset in estimate.to_prepare}
    return asdict(replace(estimate, steps=[], to_prepare=[])) | {
        "steps": steps,
        "to_prepare": commands,
    }


def show_plan(result: dict) -> None:
    """Print the commands of a reproduction in order, with their cost."""
    for name, commands in result["to_prepare"].items():
        print_line(f"[bold]first[/], with the archives or class folders of {name} in SOURCE:")
        print_line(f"  $ {safe(commands)}")
    for step in result["steps"]:
        cost = [counted(step["images"], "image"), _hours(step["hours"]), _size(step["disk_bytes"])]
        print_line(f"  $ alexnet {safe(shlex.join(step['command']))}")
        print_line(f"    [dim]{', '.join(cost)}[/]")
    rates = ", ".join(f"{name}: {rate:g}" for name, rate in result["rates"].items())
    print_line(f"training images/s measured here on {' + '.join(result['devices'])}: {safe(rates)}")
    hours = _hours(result["hours"])
    print_line(f"in all {result['images']:,} images, {hours} one after the other")
    print_line(
        f"disk: {_size(result['disk_bytes'])} for runs and predictions, "
        f"{_size(result['data_bytes'])} for the shards"
    )
    print_line(
        "Each command can be run by hand, on any machine that sees the folders, with its own"
    )
    print_line("GPUs (CUDA_VISIBLE_DEVICES=0,1 alexnet ...). reproduce uses what is complete.")


def _hours(hours: float) -> str:
    return f"{60 * hours:.0f} min" if hours < 1.5 else f"{hours:,.1f} h"


def _size(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.0f} MB"


def show_reproduce(result: dict) -> None:
    """Print the table of results.md and the paths of the files."""
    from alexnet_cli.reproduce.results import describe_ratio, interval_text, table_cells

    for caveat in result["caveats"]:
        print_line(f"[bold yellow]not the published experiment:[/] {safe(caveat)}")
    cells = table_cells(result)
    if "rows" in result:  # a terminal has no room for the paper's gain and the images
        cells = [[row[column] for column in (0, 1, 2, 3, 6, 7, 9)] for row in cells]
        cells[0][4] = "worse by"
    header, *rows = cells
    table = Table(title=result["title"])
    for column in header:
        table.add_column(column, no_wrap=column == "row")
    for row in rows:
        table.add_row(*row)
    print_rich(table)
    for row in result.get("rows", ()):
        if row["intervals"]:
            print_line(f"{safe(row['name'])}: 95 % intervals {interval_text(row['intervals'])}")
    if "runs" in result:
        print_line(describe_ratio(result))
        print_line(safe(result["figure"]))
    print_line(safe(result["results"]))
