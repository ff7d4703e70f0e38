"""`alexnet train`: a dataset and a recipe become a run (paper section 5)."""

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from alexnet_cli.cli import console
from alexnet_cli.cli.console import print_line, safe
from alexnet_cli.cli.options import (
    AllowDataChange,
    AllowPipe,
    AsJson,
    BatchSize,
    Cache,
    Classes,
    Columns,
    Compiled,
    DatasetSource,
    Device,
    Epochs,
    Freeze,
    InitFrom,
    JoinMinutes,
    LearningRate,
    Loggers,
    Precision,
    RecipeName,
    Replicated,
    Resume,
    Run,
    SaveMinutes,
    SaveSteps,
    Seed,
    Settings,
    Stream,
    Workers,
    find_source,
    runtime_config,
    settings_of,
    unused_folder,
    wanted_recipe,
)
from alexnet_cli.cli.tables import show
from alexnet_cli.errors import UsageError, counted, hint, some_names

if TYPE_CHECKING:
    from alexnet_cli.recipes.recipe import Recipe


def train(
    dataset: DatasetSource,
    run: Run = None,
    recipe: RecipeName = None,
    settings: Settings = None,
    epochs: Epochs = None,
    lr: LearningRate = None,
    batch_size: BatchSize = None,
    seed: Seed = None,
    init_from: InitFrom = None,
    freeze: Freeze = None,
    gpus: Replicated = None,
    columns: Columns = None,
    device: Device = "auto",
    precision: Precision = "fp32",
    compiled: Compiled = False,
    join_minutes: JoinMinutes = None,
    workers: Workers = None,
    cache: Cache = None,
    save_minutes: SaveMinutes = 10.0,
    save_steps: SaveSteps = 0,
    loggers: Loggers = None,
    resume: Resume = False,
    allow_data_change: AllowDataChange = False,
    stream: Stream = False,
    classes: Classes = None,
    allow_pipe: AllowPipe = False,
    as_json: AsJson = False,
) -> None:
    """Train the network on one device, split over two, or replicated over many."""
    if allow_data_change and not resume:
        raise typer.BadParameter("requires --resume.", param_hint="--allow-data-change")
    if resume and init_from:
        raise typer.BadParameter(
            "cannot change how a resumed run was initialized.", param_hint="--init-from"
        )
    if cache and stream:
        raise typer.BadParameter("requires a dataset that prep made.", param_hint="--cache")
    if run is None and (resume or "RANK" in os.environ):
        raise typer.BadParameter(
            "is needed to resume, as in --run RUN --resume, and where several processes train.",
            param_hint="--run",
        )
    from alexnet_cli.pretrained.names import find_model
    from alexnet_cli.recipes.catalog import is_recipe

    changes = settings_of(settings, learning_rate=lr, batch_size=batch_size, seed=seed)
    progress = console.ConsoleProgress()
    init_from = find_model(init_from, progress) if init_from else None
    resumed = _recipe_of(run) if resume else None
    named = recipe or (resumed.name if resumed and is_recipe(resumed.name) else None)
    network = _network(named, init_from, resumed)
    wanted = wanted_recipe(named, changes, epochs, network, freeze)
    if network and named is None:
        _check_network(wanted, network, init_from)
    is_named = not resume or recipe is not None or bool(changes) or freeze is not None
    ends = epochs or any(setting.startswith("epochs=") for setting in changes)
    source = find_source(dataset, stream, classes, allow_pipe)
    from alexnet_cli.training.checkpointer import SaveInterval
    from alexnet_cli.training.run import TrainRequest
    from alexnet_cli.training.run import train as train_run

    request = TrainRequest(
        dataset=source,
        run=run or unused_folder(Path("runs", _run_name(recipe, wanted))),
        recipe=wanted if is_named else None,
        init_from=init_from,
        resume=resume,
        num_epochs=wanted.epochs if ends else None,
        allow_data_change=allow_data_change,
        runtime=runtime_config(device, gpus, columns, precision, compiled, join_minutes),
        save_interval=SaveInterval(save_minutes, save_steps),
        loggers=tuple(name for name in (loggers or "").split(",") if name),
        cache=cache,
        workers=workers,
    )
    result = train_run(request, progress)
    if result:  # None from a replica that is not the main one
        show(asdict(result), as_json, show_train)
        source.check_all_used()


def _run_name(recipe: str | None, wanted: "Recipe") -> str:
    """Return the recipe's name for a run folder; of a recipe file that of the file."""
    from alexnet_cli.recipes.catalog import is_recipe_file

    return Path(recipe).stem if recipe and is_recipe_file(recipe) else wanted.name


def _recipe_of(run: Path | None) -> "Recipe | None":
    """Return the recipe of a run that has a checkpoint to continue from."""
    from alexnet_cli.model.checkpoint import LAST_NAME, read_recipe

    return read_recipe(run / LAST_NAME) if run and (run / LAST_NAME).is_file() else None


def _network(
    recipe: str | None, init_from: Path | None, resumed: "Recipe | None"
) -> "Recipe | None":
    """Return the recipe of the network that --init-from names, or a resumed run has."""
    from alexnet_cli.inference.network import recipe_of_network

    if init_from:
        return recipe_of_network(init_from)
    if recipe == "finetune" and not resumed:
        raise UsageError(
            "recipe finetune trains another network further; none is named.",
            hint=hint("name_init_from"),
        )
    return resumed if recipe == "finetune" else None


def _check_network(wanted: "Recipe", network: "Recipe", init_from: Path | None) -> None:
    """Check that a recipe that nobody named has the network of the checkpoint.

    Raises:
        UsageError: if it has not.
    """
    if fields := wanted.network_differs(network):
        raise UsageError(
            f"{init_from}: a network of recipe {network.name}, which differs from {wanted.name} in "
            f"{some_names(fields)}.",
            hint=hint("finetune_recipe"),
        )


def show_train(result: dict) -> None:
    """Print the folder of the run and its best validation errors."""
    best = result["best"]
    print_line(
        f"[bold]{safe(result['run'])}[/]: {counted(result['epochs'], 'epoch')}, "
        f"{counted(result['steps'], 'step')}"
    )
    if best.get("top1_error") is not None:
        errors = f"top-1 {best['top1_error']:.1%}, top-5 {best['top5_error']:.1%}"
        print_line(f"best: epoch {best['epoch']}, center-view validation error {errors}")
    if result["images_per_second"]:
        print_line(
            f"{result['images_per_second']:,.0f} images/s on {' + '.join(result['devices'])}"
        )
