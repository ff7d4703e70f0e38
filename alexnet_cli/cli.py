"""The command line: parse, call one verb, print. Verbs are imported when they are called, so that
`alexnet --help` waits for neither torch nor numpy.
"""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from alexnet_cli import __version__, console
from alexnet_cli.face import EXIT_CODES, Face
from alexnet_cli.options import AsJson, CheckpointPath, DatasetPath, Device, Gpus, Settings, Views

app = typer.Typer(
    cls=Face,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    epilog=EXIT_CODES,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        console.print_line(f"alexnet {__version__}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show it.")
    ] = False,
) -> None:
    """From ImageNet's archives to the results table of the 2012 AlexNet paper."""
    console.setup()


def _show(result: dict, as_json: bool, show) -> None:
    console.print_json(result) if as_json else show(result)


def _check_views(views: int | None) -> None:
    if views not in (None, 1, 9, 10):
        raise typer.BadParameter(f"{views} is none of 1, 9 and 10.", param_hint="--views")


@app.command()
def prep(
    source: Annotated[
        Path, typer.Argument(help="Folder with the archives, or with class folders.")
    ],
    dataset: Annotated[
        Path | None, typer.Argument(help="New folder; by default shards/NAME of SOURCE.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; by default one a core.")
    ] = None,
    size: Annotated[int, typer.Option(min=8, max=4096, help="Side of the square pictures.")] = 256,
    quality: Annotated[
        int, typer.Option(min=1, max=100, help="JPEG quality; from 95 on with all colour pixels.")
    ] = 90,
    shard_size: Annotated[int, typer.Option(min=1, help="Pictures a shard.")] = 1000,
    val_fraction: Annotated[
        float, typer.Option(min=0.0, max=0.99, help="Share of CLASS folders kept for validation.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Of the one shuffle of the training set.")] = 0,
    max_bad: Annotated[
        int, typer.Option(min=0, help="Rejected pictures to accept with exit 0.")
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """Resize ImageNet to 256x256 WebDataset shards."""
    from alexnet_cli.commands import prep as verb
    from alexnet_cli.errors import RejectedError

    folder = dataset or Path("shards") / source.resolve().name
    chosen = verb.PrepOptions(size, quality, shard_size, seed, val_fraction)
    result = verb.prep(
        source, folder, chosen, num_workers=workers, progress=console.ConsoleProgress()
    )
    _show(asdict(result), as_json, console.show_prep)
    if len(result.rejected) > max_bad:
        raise RejectedError(
            f"{len(result.rejected)} pictures were rejected, listed in {folder / 'rejected.csv'}.\n"
            f"The dataset is complete without them. To accept: --max-bad {len(result.rejected)}"
        )


@app.command()
def pca(dataset: DatasetPath, as_json: AsJson = False) -> None:
    """Compute the mean image and the RGB principal components."""
    from alexnet_cli.commands import pca as verb

    result = verb.pca(dataset, progress=console.ConsoleProgress())
    _show(asdict(result), as_json, console.show_pca)


@app.command()
def train(
    dataset: DatasetPath,
    run: Annotated[Path, typer.Option(help="Folder of the run, for example runs/paper.")],
    recipe: Annotated[
        str | None, typer.Option(help="By default paper; see alexnet recipes.")
    ] = None,
    settings: Settings = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Same as --set epochs=N.")] = None,
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
    if resume:
        result = verb.resume(dataset, run, wanted if named else None, epochs, **where)
    else:
        result = verb.train(dataset, run, wanted, **where)
    _show(asdict(result), as_json, console.show_train)


@app.command("eval")
def evaluate(
    checkpoint: CheckpointPath,
    dataset: DatasetPath,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "val",
    views: Views = 10,
    predictions: Annotated[
        Path | None, typer.Option(help="Also save every image's probabilities, for ensemble.")
    ] = None,
    gpus: Gpus = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Measure top-1 and top-5 error, centre view and ten views."""
    _check_views(views)
    from alexnet_cli.commands import evaluate as verb

    result = verb.evaluate(
        checkpoint,
        dataset,
        split=split,
        num_views=views,
        predictions_path=predictions,
        device=device,
        num_devices=gpus,
        progress=console.ConsoleProgress(),
    )
    _show(asdict(result), as_json, console.show_eval)


@app.command()
def ensemble(
    members: Annotated[list[Path], typer.Argument(help="Checkpoints or predictions files (.npz).")],
    data: Annotated[Path | None, typer.Option(help="Dataset to run checkpoints on.")] = None,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "val",
    views: Views = 10,
    weights: Annotated[str, typer.Option(help="equal, search, or numbers: 0.5,1,1.")] = "equal",
    gpus: Gpus = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Average the probabilities of several networks."""
    _check_views(views)
    from alexnet_cli.commands import ensemble as verb

    where = {"device": device, "num_devices": gpus, "progress": console.ConsoleProgress()}
    result = verb.ensemble(members, data, split=split, num_views=views, weights=weights, **where)
    _show(asdict(result), as_json, console.show_ensemble)


@app.command()
def predict(
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Files, folders, globs.")],
    model: Annotated[
        Path | None, typer.Option(help="Checkpoint or .onnx; by default the newest run here.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Classes to show a picture.")] = 5,
    views: Annotated[int | None, typer.Option(help="1, 9 or 10; .onnx models have theirs.")] = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Classify pictures."""
    _check_views(views)
    from alexnet_cli.commands import predict as verb

    result = verb.predict(
        images,
        model,
        num_top=top,
        num_views=views,
        device=device,
        progress=console.ConsoleProgress(),
    )
    _show(result.to_json(), as_json, console.show_predict)
    result.check_all_read()


@app.command()
def export(
    checkpoint: CheckpointPath,
    output: Annotated[Path, typer.Option("-o", "--output", help="The .onnx file to write.")],
    views: Views = 1,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write an ONNX model that takes pictures and gives probabilities."""
    _check_views(views)
    from alexnet_cli.commands import export as verb

    result = verb.export(
        checkpoint, output, num_views=views, force=force, progress=console.ConsoleProgress()
    )
    _show(asdict(result), as_json, console.show_export)


@app.command()
def info(
    thing: Annotated[
        str, typer.Argument(help="Recipe name, checkpoint, ONNX model or dataset folder.")
    ] = "paper",
    settings: Settings = None,
    classes: Annotated[int, typer.Option(min=1, help="For a recipe.")] = 1000,
    as_json: AsJson = False,
) -> None:
    """Show what a recipe, checkpoint, model or dataset is."""
    from alexnet_cli.commands import info as verb

    result = verb.info(thing, settings=settings, num_classes=classes)
    _show(asdict(result), as_json, console.show_info)


@app.command()
def recipes(
    name: Annotated[str | None, typer.Argument(help="Show every field of this one.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the recipes with the published figures they are held against."""
    from alexnet_cli.commands import recipes as verb

    _show(asdict(verb.recipes(name)), as_json, console.show_recipes)


@app.command()
def demo(
    folder: Annotated[Path | None, typer.Argument(help="New folder; by default demo.")] = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Show all of it working on generated pictures, in a few minutes."""
    from alexnet_cli.commands import demo as verb

    def run_command(arguments: list[str], purpose: str) -> dict:
        return _run_child(arguments, purpose, quiet=as_json)

    result = verb.demo(
        folder or verb.unused_folder(),
        run_command,
        device=device,
        progress=console.ConsoleProgress(),
    )
    _show(asdict(result), as_json, console.show_demo)


def _run_child(arguments: list[str], purpose: str, *, quiet: bool) -> dict:
    """Run `alexnet ARGUMENTS` as a process of its own, show what it shows, return its JSON."""
    if not quiet:
        console.print_line(f"\n[dim]{purpose}[/]\n[bold cyan]$ alexnet {' '.join(arguments)}[/]")
        sys.stdout.flush()
    command = [sys.executable, "-m", "alexnet_cli", *arguments, "--json"]
    finished = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    if finished.returncode:
        raise typer.Exit(finished.returncode)
    result = json.loads(finished.stdout)
    if not quiet:
        getattr(console, f"show_{arguments[0]}")(result)
    return result


def main() -> None:
    """Entry point of the `alexnet` command."""
    app()
