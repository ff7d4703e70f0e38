"""`alexnet prep`: any source of labeled images becomes 256x256 JPEG shards (paper section 2)."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from alexnet_cli.cli import console
from alexnet_cli.cli.console import print_line, print_rich, safe
from alexnet_cli.cli.options import (
    AllowEmptyClass,
    AsJson,
    FollowLinks,
    Layout,
)
from alexnet_cli.cli.tables import show, split_table

if TYPE_CHECKING:
    from alexnet_cli.data.remote.tar_set import TarSet

Source = Annotated[
    str,
    typer.Argument(
        help="Folder of ImageNet's archives, of class folders or of another layout; or URLs of "
        "WebDataset tars, which are fetched: s3://bucket/train-{000..099}.tar"
    ),
]
TarClasses = Annotated[
    Path | None,
    typer.Option("--classes", help="With URLs: file of class names, one per line, in label order."),
]
TarPipe = Annotated[
    bool,
    typer.Option("--allow-pipe", help="Allow SOURCE to be pipe:COMMAND, which runs in a shell."),
]


def prep(
    source: Source,
    dataset: Annotated[
        Path | None,
        typer.Argument(
            help="New folder for the dataset; by default shards/NAME, with the name of SOURCE."
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Number of worker processes; by default one per CPU core."),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Dask scheduler whose workers make the shards."),
    ] = None,
    size: Annotated[
        int, typer.Option(min=8, max=4096, help="Side of the square images in pixels.")
    ] = 256,
    quality: Annotated[
        int,
        typer.Option(min=1, max=100, help="JPEG quality; from 95 on without color subsampling."),
    ] = 90,
    shard_size: Annotated[
        int, typer.Option(min=1, help="Maximum number of images per shard.")
    ] = 1000,
    val_fraction: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=0.99,
            help="Fraction of each class to use for validation, if SOURCE has class folders only.",
        ),
    ] = 0.0,
    seed: Annotated[
        int,
        typer.Option(
            min=0, help="Seed of the shuffle that orders the training images in the shards."
        ),
    ] = 0,
    layout: Layout = None,
    classes: TarClasses = None,
    allow_pipe: TarPipe = False,
    check_md5: Annotated[
        bool,
        typer.Option(
            "--check-md5", help="First compare the official archives with their published MD5."
        ),
    ] = False,
    max_bad: Annotated[
        int, typer.Option(min=0, help="Number of rejected images to accept with exit code 0.")
    ] = 0,
    follow_links: FollowLinks = False,
    allow_empty_class: AllowEmptyClass = False,
    force: Annotated[
        bool, typer.Option("--force", help="Start even if the disk seems too small.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Resize labeled images to 256x256 and pack them into WebDataset shards."""
    from alexnet_cli.prep.build import prep as run
    from alexnet_cli.prep.plan import PrepOptions, PrepRequest

    if scheduler is not None and workers is not None:
        raise typer.BadParameter("the workers are those of the cluster.", param_hint="--workers")
    place = _find_source(source, classes, allow_pipe)
    request = PrepRequest(
        source=place,
        folder=dataset or Path("shards") / _name_of(place),
        options=PrepOptions(size, quality, shard_size, seed, val_fraction),
        layout=layout,
        workers=workers,
        scheduler=scheduler,
        check_md5=check_md5,
        follow_links=follow_links,
        allow_empty_class=allow_empty_class,
        force=force,
    )
    result = run(request, console.ConsoleProgress())
    show(asdict(result), as_json, show_prep)
    _check_rejected(len(result.rejected), request.folder, max_bad)


def _find_source(text: str, classes: Path | None, allow_pipe: bool) -> "Path | TarSet":
    """Return the path, or the tars at URLs, that SOURCE names."""
    from alexnet_cli.data.remote.files import is_url
    from alexnet_cli.data.remote.tar_set import PIPE, TarSet

    if is_url(text) or text.startswith(PIPE):
        return TarSet(text, classes, allow_pipe)
    if classes or allow_pipe:
        name = "--classes" if classes else "--allow-pipe"
        raise typer.BadParameter("is for tars at URLs.", param_hint=name)
    return Path(text)


def _name_of(source: "Path | TarSet") -> str:
    """Return the default name of a dataset: that of the folder, or of the archive to its dot."""
    if not isinstance(source, Path):
        raise typer.BadParameter("tars at URLs need the name of a folder.", param_hint="DATASET")
    name = source.resolve().name
    return name.partition(".")[0] if source.is_file() else name


def _check_rejected(count: int, folder: Path, max_bad: int) -> None:
    from alexnet_cli.errors import RejectedError

    if count > max_bad:
        raise RejectedError(
            f"{count} images were rejected, listed in {folder / 'rejected.csv'}.",
            kept="The dataset is complete without them.",
            hint=f"To accept them: --max-bad {count}",
        )


def show_prep(result: dict) -> None:
    """Print a table of the splits, then why images were rejected."""
    print_line(f"[bold]{safe(result['dataset'])}[/]: {result['classes']:,} classes")
    print_rich(split_table(result))
    for kind, count in {**result["reasons"], **result["ignored"]}.items():
        print_line(f"  {count:,} {kind}")
    for row in result["rejected"][:5]:
        print_line(f"  rejected {safe(row['source'])}: {row['reason']} ({safe(row['detail'])})")
    if result["already_complete"]:
        print_line("already complete: nothing was done")
