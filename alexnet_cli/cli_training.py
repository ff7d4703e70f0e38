"""The command line of what trains: train, and demo, which runs the other commands."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from alexnet_cli import console, report, report_training
from alexnet_cli.children import run_child
from alexnet_cli.options import AsJson, DatasetPath, Device, Gpus, Settings
from alexnet_cli.report import show


def train(
    dataset: DatasetPath,
    run: Annotated[Path, typer.Option(help="Folder of the run, for example runs/paper.")],
    recipe: Annotated[
        str | None, typer.Option(help="By default paper; see alexnet recipes.")
    ] = None,
    settings: Settings = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Same as --set epochs=N.")] = None,
    init_from: Annotated[
        Path | None, typer.Option(help="Checkpoint whose layers the run begins with.")
    ] = None,
    gpus: Gpus = None,
    device: Device = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the run stopped.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train the network, on one device or split over two."""
    from dataclasses import replace

    from alexnet_cli.recipes import find_recipe
    from alexnet_cli.settings import with_settings

    named = recipe is not None or bool(settings)
    wanted = with_settings(find_recipe(recipe or "paper"), settings or [])
    if epochs:
        wanted = replace(wanted, epochs=epochs)
    from alexnet_cli.commands import train as verb

    where = {"device": device, "num_devices": gpus, "progress": console.ConsoleProgress()}
    if resume and init_from:
        raise typer.BadParameter("a resumed run began already.", param_hint="--init-from")
    if resume:
        result = verb.resume(dataset, run, wanted if named else None, epochs, **where)
    else:
        result = verb.train(dataset, run, wanted, init_from=init_from, **where)
    show(asdict(result), as_json, report.show_train)


def demo(
    folder: Annotated[Path | None, typer.Argument(help="New folder; by default demo.")] = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Show all of it working on generated pictures, in a few minutes."""
    from alexnet_cli.commands import demo as verb

    def run_command(arguments: list[str], purpose: str) -> dict:
        return run_child(arguments, purpose, quiet=as_json)

    result = verb.demo(
        folder or verb.unused_folder(),
        run_command,
        device=device,
        progress=console.ConsoleProgress(),
    )
    show(asdict(result), as_json, report.show_demo)


def reproduce(
    table: Annotated[str, typer.Argument(help="ilsvrc-2010, ilsvrc-2012, ablations or figure-1.")],
    data: Annotated[
        list[str] | None, typer.Option(metavar="NAME=DATASET", help="Such as ilsvrc-2012=shards/a.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of runs and results; by default results/TABLE.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Shorten every run.")] = None,
    only: Annotated[list[str] | None, typer.Option(metavar="ROW", help="Only this row.")] = None,
    settings: Settings = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the commands with images, hours and disk.")
    ] = False,
    gpus: Gpus = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Train and measure a table of the paper, beside its figures."""
    from alexnet_cli.commands import reproduce as verb

    shortcuts = verb.Shortcuts(epochs, tuple(settings or ()), device, gpus)
    pairs = tuple(_parse_data(text) for text in data or ())
    folder = out or Path("results") / table
    request = verb.Request(table, pairs, folder, tuple(only or ()), shortcuts)
    if dry_run:
        estimate = verb.plan(request, progress=console.ConsoleProgress())
        show(asdict(estimate), as_json, report_training.show_plan)
        return

    def run_command(arguments: list[str], purpose: str) -> dict:
        return run_child(arguments, purpose, quiet=as_json)

    result = verb.reproduce(request, run_command, progress=console.ConsoleProgress())
    show(result, as_json, report_training.show_reproduce)


def _parse_data(text: str) -> tuple[str, Path]:
    name, equals, folder = text.partition("=")
    if not (name and equals and folder):
        raise typer.BadParameter(f"{text}: write NAME=DATASET.", param_hint="--data")
    return name, Path(folder)


def check(
    recipe: Annotated[str, typer.Argument(help="Its name, or the recipe.json of a run.")] = "paper",
    data: Annotated[
        Path | None, typer.Option(help="Dataset to take pictures from; drawn ones otherwise.")
    ] = None,
    settings: Settings = None,
    steps: Annotated[int, typer.Option(min=1, help="Updates to learn one batch in.")] = 300,
    as_json: AsJson = False,
) -> None:
    """Check a recipe's gradients and signals, and that it learns one batch by heart."""
    from alexnet_cli.recipes import find_recipe, load_recipe
    from alexnet_cli.settings import with_settings

    found = load_recipe(Path(recipe)) if recipe.endswith(".json") else find_recipe(recipe)
    wanted = with_settings(found, settings or [])
    from alexnet_cli.commands import check as verb

    result = verb.check(wanted, data, steps=steps, progress=console.ConsoleProgress())
    show(result.to_json(), as_json, report_training.show_check)
    result.raise_faults()
