"""The command line of what trains: pca, train, bench, and demo, which runs the other commands."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from alexnet_cli.cli import (
    console,
)
from alexnet_cli.cli import (
    tables as report,
)
from alexnet_cli.cli import (
    tables_bench as report_bench,
)
from alexnet_cli.cli import (
    tables_training as report_training,
)
from alexnet_cli.cli.job import run_child
from alexnet_cli.cli.options import (
    AllowPipe,
    AsJson,
    Classes,
    DatasetSource,
    Device,
    Settings,
    Stream,
    find_source,
)
from alexnet_cli.cli.options_training import (
    AllowDataChange,
    Cache,
    Columns,
    Compiled,
    Epochs,
    InitFrom,
    Precision,
    RecipeName,
    Replicated,
    Resume,
    Run,
    SaveMinutes,
    SaveSteps,
    Tensorboard,
)
from alexnet_cli.cli.tables import show


def pca(
    dataset: DatasetSource,
    stream: Stream = False,
    classes: Classes = None,
    allow_pipe: AllowPipe = False,
    as_json: AsJson = False,
) -> None:
    """Compute the mean image and the RGB principal components."""
    source = find_source(dataset, stream, classes, allow_pipe)
    from alexnet_cli.data import pca as verb

    result = verb.pca(source, progress=console.ConsoleProgress())
    show(asdict(result), as_json, report.show_pca)


def train(
    dataset: DatasetSource,
    run: Run,
    recipe: RecipeName = None,
    settings: Settings = None,
    epochs: Epochs = None,
    init_from: InitFrom = None,
    gpus: Replicated = None,
    columns: Columns = None,
    device: Device = "auto",
    precision: Precision = "fp32",
    compiled: Compiled = False,
    cache: Cache = None,
    save_minutes: SaveMinutes = 10.0,
    save_steps: SaveSteps = 0,
    tensorboard: Tensorboard = False,
    resume: Resume = False,
    allow_data_change: AllowDataChange = False,
    stream: Stream = False,
    classes: Classes = None,
    allow_pipe: AllowPipe = False,
    as_json: AsJson = False,
) -> None:
    """Train the network, on one device, split over two, or on many replicas."""
    if allow_data_change and not resume:
        raise typer.BadParameter("is for --resume.", param_hint="--allow-data-change")
    if resume and init_from:
        raise typer.BadParameter("a resumed run began already.", param_hint="--init-from")
    if cache and stream:
        raise typer.BadParameter("needs a dataset that prep made.", param_hint="--cache")
    wanted = _wanted_recipe(recipe, settings or [], epochs)
    named = recipe is not None or bool(settings)
    source = find_source(dataset, stream, classes, allow_pipe)
    from alexnet_cli.training import run as verb

    how = {"device": device, "num_devices": gpus, "columns": columns}
    how |= {"precision": precision, "compiled": compiled, "with_curves": tensorboard}
    how |= {"cache": cache}
    how |= {"every": verb.SaveEvery(save_minutes, save_steps)}
    how |= {"progress": console.ConsoleProgress()}
    if resume:
        ends = epochs or any(setting.startswith("epochs=") for setting in settings or [])
        how |= {"allow_data_change": allow_data_change}
        end = wanted.epochs if ends else None
        result = verb.resume(source, run, wanted if named else None, end, **how)
    else:
        result = verb.train(source, run, wanted, init_from=init_from, **how)
    if result:  # nothing from a replica that is not the first
        show(asdict(result), as_json, report.show_train)


def _wanted_recipe(name: str | None, settings: list[str], epochs: int | None):
    from dataclasses import replace

    from alexnet_cli.recipes.catalog import find_recipe
    from alexnet_cli.recipes.overrides import with_settings

    wanted = with_settings(find_recipe(name or "paper"), settings)
    return replace(wanted, epochs=epochs) if epochs else wanted


def demo(
    folder: Annotated[Path | None, typer.Argument(help="New folder; by default demo.")] = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Show all of it working on generated images, in a few minutes."""
    from alexnet_cli.reproduce import demo as verb

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
    gpus: Annotated[
        int | None, typer.Option(min=1, help="2: one per column. More: that many replicas.")
    ] = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Train and measure a table of the paper, beside its figures."""
    from alexnet_cli.reproduce import run as verb

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


def _parse_data(text: str) -> tuple[str, Path | str]:
    from alexnet_cli.data.remote.files import location

    name, equals, place = text.partition("=")
    if not (name and equals and place):
        raise typer.BadParameter(f"{text}: write NAME=DATASET.", param_hint="--data")
    return name, location(place)


def check(
    recipe: Annotated[str, typer.Argument(help="Its name, or the recipe.json of a run.")] = "paper",
    data: Annotated[
        str | None, typer.Option(help="Dataset to take images from; drawn ones otherwise.")
    ] = None,
    settings: Settings = None,
    steps: Annotated[int, typer.Option(min=1, help="Updates to learn one batch in.")] = 300,
    as_json: AsJson = False,
) -> None:
    """Measure the activations of every layer of a recipe, and overfit one batch."""
    from alexnet_cli.recipes.catalog import find_recipe, load_recipe
    from alexnet_cli.recipes.overrides import with_settings

    found = load_recipe(Path(recipe)) if recipe.endswith(".json") else find_recipe(recipe)
    wanted = with_settings(found, settings or [])
    from alexnet_cli.data.remote.files import location
    from alexnet_cli.training import check as verb

    source = location(data) if data else None
    result = verb.check(wanted, source, steps=steps, progress=console.ConsoleProgress())
    show(result.to_json(), as_json, report_training.show_check)
    result.raise_faults()


def bench(
    dataset: Annotated[
        str | None, typer.Argument(metavar="[DATASET]", help="Made by prep; else drawn images.")
    ] = None,
    recipe: RecipeName = None,
    settings: Settings = None,
    batch: Annotated[
        int | None, typer.Option(min=1, help="By default the recipe's; 16 on a CPU.")
    ] = None,
    precision: Annotated[
        Literal["fp32", "tf32", "bf16"] | None, typer.Option(help="By default fp32.")
    ] = None,
    compiled: Annotated[
        bool | None, typer.Option("--compile/--no-compile", help="By default not compiled.")
    ] = None,
    gpus: Replicated = None,
    columns: Columns = None,
    device: Device = "auto",
    seconds: Annotated[float, typer.Option(min=0.01, help="Of each measurement.")] = 2.0,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only this: reading, parts, step, shards, views, ..."),
    ] = None,
    kernels: Annotated[
        bool, typer.Option("--kernels", help="Also profile a step, kernel by kernel.")
    ] = False,
    every: Annotated[
        bool, typer.Option("--all", help="Batches of 128 to 2048, all precisions, both kernels.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the report's files; with --all bench.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure each stage of training here, what limits it, and torchvision's alexnet."""
    wanted = _wanted_recipe(recipe, settings or [], None)
    source = find_source(dataset, False, None, False) if dataset else None
    from alexnet_cli.bench import run as verb

    ways = verb.Ways(
        (batch,) if batch else None,
        (precision,) if precision else None,
        None if compiled is None else (compiled,),
    )
    how = {"every": every, "device": device, "num_devices": gpus, "columns": columns}
    extent = verb.Extent(seconds, tuple(only or verb.MEASUREMENTS), kernels)
    how |= {"extent": extent, "out": out or (Path("bench") if every else None)}
    result = verb.bench(source, wanted, ways, **how, progress=console.ConsoleProgress())
    if result:  # nothing from a replica that is not the first
        show(asdict(result), as_json, report_bench.show_bench)
