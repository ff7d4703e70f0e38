"""The command line: parse, call one verb, print. Verbs are imported when they are called, so that
`alexnet --help` waits for neither torch nor numpy.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from alexnet_cli import __version__
from alexnet_cli.cli import (
    app_data as cli_data,
)
from alexnet_cli.cli import (
    app_training as cli_training,
)
from alexnet_cli.cli import (
    console,
)
from alexnet_cli.cli import (
    tables as report,
)
from alexnet_cli.cli.error_boundary import EXIT_CODES, ErrorBoundary
from alexnet_cli.cli.openmp import limit_busy_waiting
from alexnet_cli.cli.options import (
    AllowPipe,
    AsJson,
    CheckpointPath,
    Classes,
    DatasetSource,
    Device,
    Gpus,
    Settings,
    Stream,
    Views,
    find_source,
)
from alexnet_cli.cli.options_training import Columns, Precision, Replicated
from alexnet_cli.cli.tables import show

app = typer.Typer(
    cls=ErrorBoundary,
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


def _check_views(views: int | None) -> None:
    if views not in (None, 1, 9, 10):
        raise typer.BadParameter(f"{views} is none of 1, 9 and 10.", param_hint="--views")


app.command()(cli_data.prep)
app.command()(cli_data.verify)
app.command()(cli_training.pca)
app.command()(cli_training.train)
app.command()(cli_training.reproduce)
app.command()(cli_training.check)
app.command()(cli_training.bench)


@app.command("eval")
def evaluate(
    checkpoint: CheckpointPath,
    dataset: DatasetSource,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "val",
    stream: Stream = False,
    classes: Classes = None,
    allow_pipe: AllowPipe = False,
    views: Views = 10,
    predictions: Annotated[
        Path | None, typer.Option(help="Also save every image's probabilities, for ensemble.")
    ] = None,
    gpus: Replicated = None,
    columns: Columns = None,
    device: Device = "auto",
    precision: Precision = "fp32",
    as_json: AsJson = False,
) -> None:
    """Measure top-1 and top-5 error, center view and ten views."""
    _check_views(views)
    source = find_source(dataset, stream, classes, allow_pipe)
    from alexnet_cli.inference import evaluate as verb

    result = verb.evaluate(
        checkpoint,
        source,
        split=split,
        num_views=views,
        predictions_path=predictions,
        device=device,
        num_devices=gpus,
        columns=columns,
        precision=precision,
        progress=console.ConsoleProgress(),
    )
    if result:  # nothing from a replica that is not the first
        show(asdict(result), as_json, report.show_eval)


@app.command()
def ensemble(
    members: Annotated[list[Path], typer.Argument(help="Checkpoints or predictions files (.npz).")],
    data: Annotated[str | None, typer.Option(help="Dataset to run checkpoints on.")] = None,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "val",
    views: Views = 10,
    weights: Annotated[str, typer.Option(help="equal, search, or numbers: 0.5,1,1.")] = "equal",
    gpus: Gpus = None,
    device: Device = "auto",
    precision: Precision = "fp32",
    as_json: AsJson = False,
) -> None:
    """Average the probabilities of several networks."""
    _check_views(views)
    from alexnet_cli.data.remote.files import location
    from alexnet_cli.inference import ensemble as verb

    source = location(data) if data else None
    where = {"device": device, "num_devices": gpus, "precision": precision}
    where |= {"progress": console.ConsoleProgress()}
    result = verb.ensemble(members, source, split=split, num_views=views, weights=weights, **where)
    show(asdict(result), as_json, report.show_ensemble)


@app.command()
def predict(
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Files, folders, globs.")],
    model: Annotated[
        Path | None, typer.Option(help="Checkpoint or .onnx; by default the newest run here.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Classes to show an image.")] = 5,
    views: Annotated[int | None, typer.Option(help="1, 9 or 10; .onnx models have theirs.")] = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Classify images."""
    _check_views(views)
    from alexnet_cli.inference import predict as verb

    result = verb.predict(
        images,
        model,
        num_top=top,
        num_views=views,
        device=device,
        progress=console.ConsoleProgress(),
    )
    show(result.to_json(), as_json, report.show_predict)
    result.check_all_read()


@app.command()
def export(
    checkpoint: CheckpointPath,
    output: Annotated[Path, typer.Option("-o", "--output", help="The .onnx file to write.")],
    views: Views = 1,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write an ONNX model that takes images and gives probabilities."""
    _check_views(views)
    from alexnet_cli.inference import export as verb

    result = verb.export(
        checkpoint, output, num_views=views, force=force, progress=console.ConsoleProgress()
    )
    show(asdict(result), as_json, report.show_export)


@app.command()
def info(
    thing: Annotated[
        str, typer.Argument(help="Recipe name, checkpoint, ONNX model, dataset folder or URL.")
    ] = "paper",
    settings: Settings = None,
    classes: Annotated[int, typer.Option(min=1, help="For a recipe.")] = 1000,
    as_json: AsJson = False,
) -> None:
    """Show what a recipe, checkpoint, model or dataset is."""
    from alexnet_cli.inference import describe as verb

    result = verb.info(thing, settings=settings, num_classes=classes)
    show(asdict(result), as_json, report.show_info)


@app.command()
def recipes(
    name: Annotated[str | None, typer.Argument(help="Show every field of this one.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the recipes with the published figures they are held against."""
    from alexnet_cli.recipes import listing as verb

    show(asdict(verb.recipes(name)), as_json, report.show_recipes)


app.command()(cli_training.demo)


def main() -> None:
    """Entry point of the `alexnet` command."""
    limit_busy_waiting()  # before a command imports torch; the processes it starts inherit it
    app()
