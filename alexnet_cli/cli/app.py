"""The `alexnet` command: its subcommands and its entry point.

Each file in `commands` imports what it runs when it is called, so that `--help` loads neither torch
nor numpy.
"""

import os
from contextlib import suppress
from functools import partial
from typing import Annotated

import typer

from alexnet_cli import __version__
from alexnet_cli.cli import console
from alexnet_cli.cli.command import Command
from alexnet_cli.cli.error_boundary import EXIT_CODES, ErrorBoundary
from alexnet_cli.cli.libraries import silence_libraries
from alexnet_cli.cli.openmp import limit_busy_waiting, limit_threads
from alexnet_cli.cli.variables import PREFIX
from alexnet_cli.commands import (
    bench,
    check,
    compare,
    demo,
    doctor,
    download,
    ensemble,
    errors,
    evaluate,
    export,
    features,
    figure,
    import_weights,
    info,
    pca,
    predict,
    prep,
    recipes,
    report,
    reproduce,
    runs,
    show,
    similar,
    train,
    verify,
)

VARIABLES = (
    "Variables: each option of a command is also read from the environment, as --batch-size of "
    "train from ALEXNET_TRAIN_BATCH_SIZE."
)
app = typer.Typer(
    cls=ErrorBoundary,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    epilog=f"{VARIABLES}\n\n{EXIT_CODES}",
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": PREFIX},
)


REPORTED_PACKAGES = (
    "torch",
    "torchvision",
    "numpy",
    "pillow",
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
)


def _print_version(wanted: bool) -> None:
    if not wanted:
        return
    import platform
    from importlib import metadata  # a tenth of what --help takes

    console.print_line(f"alexnet {__version__}")
    console.print_line(f"python {platform.python_version()} on {platform.platform()}")
    for name in REPORTED_PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            console.print_line(f"{name} {metadata.version(name)}")
    raise typer.Exit


@app.callback()
def options(
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Show results and errors, but no progress.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="In log files, show progress every 10 seconds.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", envvar="ALEXNET_DEBUG", help="Show tracebacks.")
    ] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", "-V", callback=_print_version, is_eager=True, help="Show versions."
        ),
    ] = False,
) -> None:
    """From ImageNet's archives to the results table of the 2012 AlexNet paper."""
    console.setup()
    if quiet and verbose:
        raise typer.BadParameter("contradicts --verbose.", param_hint="--quiet")
    if console.verbosity() not in console.VERBOSITIES:
        raise typer.BadParameter(
            f"{console.verbosity()!r} is not {', '.join(console.VERBOSITIES)}.",
            param_hint=console.VERBOSITY,
        )
    if quiet or verbose:
        os.environ[console.VERBOSITY] = "quiet" if quiet else "verbose"


command = partial(app.command, cls=Command)

command()(prep.prep)
command()(verify.verify)
command()(pca.pca)
command()(show.show)
command()(train.train)
command()(reproduce.reproduce)
command()(check.check)
command()(bench.bench)
command("eval")(evaluate.evaluate)
command()(ensemble.ensemble)
command()(compare.compare)
command()(errors.errors)
command()(predict.predict)
command()(export.export)
command()(download.download)
command("import")(import_weights.import_weights)
command()(info.info)
command()(features.features)
command()(similar.similar)
app.add_typer(figure.app, name="figure")
command()(report.report)
command()(recipes.recipes)
command()(runs.runs)
command()(demo.demo)
command()(doctor.doctor)


def main() -> None:
    """Entry point of the `alexnet` command."""
    silence_libraries()
    limit_threads()
    limit_busy_waiting()  # before a command imports torch; the processes it starts inherit it
    app()
