"""`alexnet prep`: any source of labeled images becomes 256x256 JPEG shards (paper section 2)."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

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

Source = Annotated[
    str,
    typer.Argument(
        help="Folder with the archives, class folders, or another layout; or the URLs of "
        "WebDataset tars, which are fetched: s3://bucket/train-{000..099}.tar"
    ),
]
TarClasses = Annotated[
    Path | None, typer.Option("--classes", help="With URLs: class names in label order.")
]
TarPipe = Annotated[
    bool, typer.Option("--allow-pipe", help="Let SOURCE be pipe:COMMAND, run in a shell.")
]


def prep(
    source: Source,
    dataset: Annotated[
        Path | None, typer.Argument(help="New folder; by default shards/NAME of SOURCE.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; by default one a core.")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Of a Dask cluster to do the work.")
    ] = None,
    size: Annotated[int, typer.Option(min=8, max=4096, help="Side of the square images.")] = 256,
    quality: Annotated[
        int, typer.Option(min=1, max=100, help="JPEG quality; from 95 on with all color pixels.")
    ] = 90,
    shard_size: Annotated[int, typer.Option(min=1, help="Images a shard.")] = 1000,
    val_fraction: Annotated[
        float, typer.Option(min=0.0, max=0.99, help="Share of CLASS folders kept for validation.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Of the one shuffle of the training set.")] = 0,
    layout: Layout = None,
    classes: TarClasses = None,
    allow_pipe: TarPipe = False,
    check_md5: Annotated[
        bool, typer.Option("--check-md5", help="Compare official archives with their MD5 first.")
    ] = False,
    max_bad: Annotated[int, typer.Option(min=0, help="Rejected images to accept with exit 0.")] = 0,
    follow_links: FollowLinks = False,
    allow_empty_class: AllowEmptyClass = False,
    force: Annotated[
        bool, typer.Option("--force", help="Begin even if the disk looks too small.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Resize ImageNet to 256x256 WebDataset shards."""
    from alexnet_cli.prep import build as verb

    if scheduler is not None and workers is not None:
        raise typer.BadParameter("a cluster brings its own workers.", param_hint="--workers")
    place = _find_source(source, classes, allow_pipe)
    folder = dataset or Path("shards") / _name_of(place)
    chosen = verb.PrepOptions(size, quality, shard_size, seed, val_fraction)
    how = {"num_workers": workers, "scheduler": scheduler, "check_md5": check_md5, "force": force}
    how |= {"layout": layout, "follow_links": follow_links, "allow_empty_class": allow_empty_class}
    result = verb.prep(place, folder, chosen, **how, progress=console.ConsoleProgress())
    show(asdict(result), as_json, show_prep)
    _check_rejected(len(result.rejected), folder, max_bad)


def _find_source(text: str, classes: Path | None, allow_pipe: bool):
    """Return the path, or the tars at URLs, that SOURCE names."""
    from alexnet_cli.data.remote.files import is_url
    from alexnet_cli.data.remote.tar_set import PIPE, TarSet

    if is_url(text) or text.startswith(PIPE):
        return TarSet(text, classes, allow_pipe)
    if classes or allow_pipe:
        name = "--classes" if classes else "--allow-pipe"
        raise typer.BadParameter("is for tars at URLs.", param_hint=name)
    return Path(text)


def _name_of(source) -> str:
    """Return what a dataset is called after: a folder's name, or an archive's up to its dot."""
    if not isinstance(source, Path):
        raise typer.BadParameter("tars at URLs need the name of the folder.", param_hint="DATASET")
    name = source.resolve().name
    return name.partition(".")[0] if source.is_file() else name


def _check_rejected(count: int, folder: Path, max_bad: int) -> None:
    from alexnet_cli.errors import RejectedError

    if count > max_bad:
        raise RejectedError(
            f"{count} images were rejected, listed in {folder / 'rejected.csv'}.\n"
            f"The dataset is complete without them. To accept: --max-bad {count}"
        )


def show_prep(result: dict) -> None:
    """Table of splits, then why images were rejected."""
    print_line(f"[bold]{safe(result['dataset'])}[/]: {result['classes']:,} classes")
    print_rich(split_table(result))
    for kind, count in {**result["reasons"], **result["ignored"]}.items():
        print_line(f"  {count:,} {kind}")
    for row in result["rejected"][:5]:
        print_line(f"  rejected {safe(row['source'])}: {row['reason']} ({safe(row['detail'])})")
    if result["already_complete"]:
        print_line("already complete: nothing was done")
