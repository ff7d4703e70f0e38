"""`alexnet prep`: any source of labeled images becomes 256x256 JPEG shards (paper section 2)."""

from collections.abc import Iterator
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
from alexnet_cli.errors import counted, some_names
from alexnet_cli.io.disk import size_in_words

if TYPE_CHECKING:
    from alexnet_cli.data.remote.tar_set import TarSet

Source = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="Folder of ImageNet's archives, of class folders or of another layout; a zip or tar "
        "of class folders; or URLs of WebDataset tars, which are fetched: "
        "s3://bucket/train-{000..099}.tar",
    ),
]
ClassNames = Annotated[
    Path | None,
    typer.Option(
        "--classes",
        help="File of class names in label order, one per line or JSON: names of numbered folders, "
        "of numbers in tars or parquet files; what images say is compared with it.",
    ),
]
Columns = Annotated[
    str | None,
    typer.Option(
        metavar="image=NAME,label=NAME",
        help="Columns of parquet files, where several may hold images or labels.",
    ),
]
TarPipe = Annotated[
    bool,
    typer.Option("--allow-pipe", help="Allow SOURCE to be pipe:COMMAND, which runs in a shell."),
]


DatasetFolder = Annotated[
    Path | None,
    typer.Argument(
        metavar="DATASET",
        help="New folder for the dataset; by default shards/NAME, with the name of SOURCE.",
    ),
]
WorkerProcesses = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Number of worker processes; by default one per CPU core, fewer where a "
        "container's memory limit asks for it.",
    ),
]
Scheduler = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT", help="Dask scheduler whose workers make the shards."),
]
Size = Annotated[int, typer.Option(min=8, max=4096, help="Side of the square images in pixels.")]
Quality = Annotated[
    int,
    typer.Option(min=1, max=100, help="JPEG quality; from 95 on without color subsampling."),
]
ShardSize = Annotated[int, typer.Option(min=1, help="Maximum number of images per shard.")]
ValFraction = Annotated[
    float,
    typer.Option(
        min=0.0,
        max=0.99,
        help="Fraction of each class to use for validation, if SOURCE has class folders only.",
    ),
]
ShuffleSeed = Annotated[
    int,
    typer.Option(min=0, help="Seed of the shuffle that orders the training images in the shards."),
]
LabelFile = Annotated[
    Path | None,
    typer.Option(
        help="CSV, TSV or text file of image names and classes, for images that are not in "
        "class folders."
    ),
]
CheckMd5 = Annotated[
    bool,
    typer.Option(
        "--check-md5", help="First compare the official archives with their published MD5."
    ),
]
ApplyOrientation = Annotated[
    bool,
    typer.Option(
        "--apply-orientation",
        help="Turn images as their EXIF orientation says, as phones expect it; published "
        "figures of ImageNet do not.",
    ),
]
GrayBits = Annotated[
    int | None,
    typer.Option(
        min=8,
        max=32,
        help="Bits in use of gray images of 16 or 32 bits whose files do not say it; by "
        "default 16.",
    ),
]
MaxBad = Annotated[
    int, typer.Option(min=0, help="Number of rejected images to accept with exit code 0.")
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Count images, classes and shards, and the disk they need; write nothing.",
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Start even if the disk seems too small.")]


def prep(
    source: Source,
    dataset: DatasetFolder = None,
    workers: WorkerProcesses = None,
    scheduler: Scheduler = None,
    size: Size = 256,
    quality: Quality = 90,
    shard_size: ShardSize = 1000,
    val_fraction: ValFraction = 0.0,
    seed: ShuffleSeed = 0,
    layout: Layout = None,
    labels: LabelFile = None,
    classes: ClassNames = None,
    columns: Columns = None,
    allow_pipe: TarPipe = False,
    check_md5: CheckMd5 = False,
    apply_orientation: ApplyOrientation = False,
    gray_bits: GrayBits = None,
    max_bad: MaxBad = 0,
    follow_links: FollowLinks = False,
    allow_empty_class: AllowEmptyClass = False,
    dry_run: DryRun = False,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Resize labeled images to 256x256 and pack them into WebDataset shards.

    JPEG, PNG, WebP, GIF, BMP, TIFF, PPM, PGM, PBM, AVIF and JPEG 2000 files are read, whatever
    their names; HEIC after pip install pillow-heif.
    """
    from alexnet_cli.data.remote.tar_set import TarSet
    from alexnet_cli.data.sources.samples import NO_IMAGE
    from alexnet_cli.prep.build import plan
    from alexnet_cli.prep.build import prep as run
    from alexnet_cli.prep.plan import PrepOptions, PrepRequest

    if scheduler is not None and workers is not None:
        raise typer.BadParameter("the workers are those of the cluster.", param_hint="--workers")
    place = _find_source(source, classes, allow_pipe)
    request = PrepRequest(
        source=place,
        folder=dataset or Path("shards") / _name_of(place),
        options=PrepOptions(
            size, quality, shard_size, seed, val_fraction, apply_orientation, gray_bits
        ),
        layout=layout,
        workers=workers,
        scheduler=scheduler,
        check_md5=check_md5,
        labels=labels,
        classes=None if isinstance(place, TarSet) else classes,
        columns=columns,
        follow_links=follow_links,
        allow_empty_class=allow_empty_class,
        force=force,
    )
    progress = console.ConsoleProgress()
    if dry_run:
        show(asdict(plan(request, progress)), as_json, show_plan)
        return
    result = run(request, progress)
    for line in describe_noted(result.noted, apply_orientation):
        progress.say(line)
    show(asdict(result), as_json, show_prep)
    without_image = result.ignored.get(NO_IMAGE, 0)
    _check_rejected(len(result.rejected), without_image, request.folder, max_bad)


def _find_source(text: str, classes: Path | None, allow_pipe: bool) -> "Path | TarSet":
    """Return the path, or the tars at URLs, that SOURCE names."""
    from alexnet_cli.data.remote.files import is_url
    from alexnet_cli.data.remote.tar_set import PIPE, TarSet

    if is_url(text) or text.startswith(PIPE):
        return TarSet(text, classes, allow_pipe)
    if allow_pipe:
        raise typer.BadParameter("is for tars at URLs.", param_hint="--allow-pipe")
    return Path(text)


def _name_of(source: "Path | TarSet") -> str:
    """Return the default name of a dataset: that of the folder, or of the archive to its dot."""
    if not isinstance(source, Path):
        raise typer.BadParameter("tars at URLs need the name of a folder.", param_hint="DATASET")
    name = source.resolve().name
    return name.partition(".")[0] if source.is_file() else name


def _check_rejected(rejected: int, without_image: int, folder: Path, max_bad: int) -> None:
    from alexnet_cli.errors import RejectedError

    parts = []
    if rejected:
        parts.append(
            f"{counted(rejected, 'image was', 'images were')} rejected, listed in "
            f"{folder / 'rejected.csv'}"
        )
    if without_image:
        parts.append(
            counted(
                without_image,
                "sample of the tars has no image",
                "samples of the tars have no image",
            )
        )
    if rejected + without_image > max_bad:
        raise RejectedError(
            f"{'; '.join(parts)}.",
            kept="The dataset is complete without them.",
            hint=f"To accept them: --max-bad {rejected + without_image}",
        )


def describe_noted(noted: dict[str, int], apply_orientation: bool) -> Iterator[str]:
    """Yield what to say about images that other options would change."""
    if count := noted.get("rotated"):
        choice = "applied" if apply_orientation else "ignored; to apply it: --apply-orientation"
        yield (
            f"{counted(count, 'image has', 'images have')} an EXIF orientation, which was {choice}"
        )
    dim = {key.rpartition("-")[2]: num for key, num in noted.items() if key.startswith("dim-gray-")}
    if dim:
        bits = max(8, *map(int, dim))
        yield (
            f"warning: {counted(sum(dim.values()), 'gray image')} of more than 8 bits became dark, "
            f"with no value over {(1 << bits) - 1:,}; to use that range for all such images: "
            f"--gray-bits {bits}; if they are meant to be dark: --gray-bits 16"
        )


def show_plan(result: dict) -> None:
    """Print what prep would make, what it would leave out, and the room it needs."""
    there = ", which is there already" if result["exists"] else ""
    print_line(
        f"[bold]{safe(result['source'])}[/]: {safe(result['layout'])}, "
        f"{counted(result['classes'], 'class')}; would become {safe(result['dataset'])}{there}"
    )
    print_rich(split_table(result))
    for kind, count in result["ignored"].items():
        print_line(f"  {count:,} {safe(kind)}")
    if empty := result["empty_classes"]:
        print_line(f"classes without a training image: {len(empty):,} ({safe(some_names(empty))})")
    room = f"about {size_in_words(result['needed_bytes'])} for the shards"
    if copies := result["staging_bytes"]:
        room += f", {size_in_words(copies)} for copies until prep is done"
    print_line(f"disk: {room}; {size_in_words(result['free_bytes'])} are free")
    print_line("images that cannot be decoded show when prep reads them; nothing was written")


def show_prep(result: dict) -> None:
    """Print a table of the splits, then why images were rejected."""
    print_line(f"[bold]{safe(result['dataset'])}[/]: {counted(result['classes'], 'class')}")
    print_rich(split_table(result))
    for kind, count in {**result["reasons"], **result["ignored"]}.items():
        print_line(f"  {count:,} {kind}")
    for row in result["rejected"][:5]:
        print_line(f"  rejected {safe(row['source'])}: {row['reason']} ({safe(row['detail'])})")
    if result["already_complete"]:
        print_line("already complete: nothing was done")
