"""The command line: parse, call one verb, print. Verbs are imported when they are called, so that
`alexnet --help` waits for neither torch nor numpy.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from alexnet_cli import __version__, cli_training, console, report
from alexnet_cli.face import EXIT_CODES, Face
from alexnet_cli.options import (
    AllowEmptyClass,
    AllowPipe,
    AsJson,
    CheckpointPath,
    Classes,
    DatasetPath,
    DatasetSource,
    Device,
    FollowLinks,
    Gpus,
    Layout,
    Settings,
    Stream,
    Views,
    find_source,
)
from alexnet_cli.options_training import Columns, Replicated
from alexnet_cli.report import show
from alexnet_cli.report_verify import show_verify

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


def _check_views(views: int | None) -> None:
    if views not in (None, 1, 9, 10):
        raise typer.BadParameter(f"{views} is none of 1, 9 and 10.", param_hint="--views")


@app.command()
def prep(
    source: Annotated[
        Path, typer.Argument(help="Folder with the archives, class folders, or another layout.")
    ],
    dataset: Annotated[
        Path | None, typer.Argument(help="New folder; by default shards/NAME of SOURCE.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; by default one a core.")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Of a Dask cluster to do the work.")
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
    layout: Layout = None,
    check_md5: Annotated[
        bool, typer.Option("--check-md5", help="Compare official archives with their MD5 first.")
    ] = False,
    max_bad: Annotated[
        int, typer.Option(min=0, help="Rejected pictures to accept with exit 0.")
    ] = 0,
    follow_links: FollowLinks = False,
    allow_empty_class: AllowEmptyClass = False,
    force: Annotated[
        bool, typer.Option("--force", help="Begin even if the disk looks too small.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Resize ImageNet to 256x256 WebDataset shards."""
    from alexnet_cli.commands import prep as verb

    if scheduler is not None and workers is not None:
        raise typer.BadParameter("a cluster brings its own workers.", param_hint="--workers")
    folder = dataset or Path("shards") / _name_of(source)
    chosen = verb.PrepOptions(size, quality, shard_size, seed, val_fraction)
    how = {"num_workers": workers, "scheduler": scheduler, "check_md5": check_md5, "force": force}
    how |= {"layout": layout, "follow_links": follow_links, "allow_empty_class": allow_empty_class}
    result = verb.prep(source, folder, chosen, **how, progress=console.ConsoleProgress())
    show(asdict(result), as_json, report.show_prep)
    _check_rejected(len(result.rejected), folder, max_bad)


def _name_of(source: Path) -> str:
    """Return what a dataset is called after: a folder's name, or an archive's up to its dot."""
    name = source.resolve().name
    return name.partition(".")[0] if source.is_file() else name


def _check_rejected(count: int, folder: Path, max_bad: int) -> None:
    from alexnet_cli.errors import RejectedError

    if count > max_bad:
        raise RejectedError(
            f"{count} pictures were rejected, listed in {folder / 'rejected.csv'}.\n"
            f"The dataset is complete without them. To accept: --max-bad {count}"
        )


@app.command()
def verify(
    dataset: DatasetPath,
    deep: Annotated[bool, typer.Option("--deep", help="Also decode every picture.")] = False,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Make damaged indexes again, without the source.")
    ] = False,
    repair: Annotated[
        Path | None,
        typer.Option(metavar="SOURCE", help="Make what is damaged again from these pictures."),
    ] = None,
    layout: Layout = None,
    workers: Annotated[int | None, typer.Option(min=1, help="By default one a core.")] = None,
    as_json: AsJson = False,
) -> None:
    """Check that every byte of a dataset is as prep wrote it, and repair it."""
    from alexnet_cli.commands import verify as verb

    how = {"deep": deep, "rebuild": rebuild, "source": repair, "layout": layout}
    result = verb.verify(dataset, **how, num_workers=workers, progress=console.ConsoleProgress())
    show(asdict(result), as_json, show_verify)
    result.raise_findings()


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
    as_json: AsJson = False,
) -> None:
    """Measure top-1 and top-5 error, centre view and ten views."""
    _check_views(views)
    source = find_source(dataset, stream, classes, allow_pipe)
    from alexnet_cli.commands import evaluate as verb

    result = verb.evaluate(
        checkpoint,
        source,
        split=split,
        num_views=views,
        predictions_path=predictions,
        device=device,
        num_devices=gpus,
        columns=columns,
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
    as_json: AsJson = False,
) -> None:
    """Average the probabilities of several networks."""
    _check_views(views)
    from alexnet_cli.commands import ensemble as verb
    from alexnet_cli.data.remote import location

    source = location(data) if data else None
    where = {"device": device, "num_devices": gpus, "progress": console.ConsoleProgress()}
    result = verb.ensemble(members, source, split=split, num_views=views, weights=weights, **where)
    show(asdict(result), as_json, report.show_ensemble)


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
    """Write an ONNX model that takes pictures and gives probabilities."""
    _check_views(views)
    from alexnet_cli.commands import export as verb

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
    from alexnet_cli.commands import info as verb

    result = verb.info(thing, settings=settings, num_classes=classes)
    show(asdict(result), as_json, report.show_info)


@app.command()
def recipes(
    name: Annotated[str | None, typer.Argument(help="Show every field of this one.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the recipes with the published figures they are held against."""
    from alexnet_cli.commands import recipes as verb

    show(asdict(verb.recipes(name)), as_json, report.show_recipes)


app.command()(cli_training.demo)


def main() -> None:
    """Entry point of the `alexnet` command."""
    app()
