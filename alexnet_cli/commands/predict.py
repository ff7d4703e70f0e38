"""`alexnet predict`: class names and probabilities of image files."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from alexnet_cli.cli import console
from alexnet_cli.cli.console import print_line, print_rich, safe, shows_unicode
from alexnet_cli.cli.options import MODEL, AsJson, Device, check_views, complete_model
from alexnet_cli.cli.tables import RESULT_FILE, show
from alexnet_cli.errors import counted

BAR_WIDTH = 30


Images = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="IMAGE",
        help="Image files, folders or glob patterns; - is one image on standard input.",
    ),
]
ImageList = Annotated[
    str | None,
    typer.Option(
        metavar="LIST",
        help="Also classify the image files listed in LIST, one per line; - is standard input.",
    ),
]
NullSeparated = Annotated[
    bool,
    typer.Option(
        "--null",
        "-0",
        help="Names in LIST end with a zero byte, as find -print0 writes them.",
    ),
]
ModelName = Annotated[
    Path | None,
    typer.Option(
        metavar="MODEL",
        help=f"Trained network, by default that of the newest run: {MODEL}",
        autocompletion=complete_model,
    ),
]
NumViews = Annotated[
    int | None,
    typer.Option(
        help="Crops to average over: 1, 9 or 10; by default 10, or as many as an .onnx file "
        "was exported with.",
    ),
]
Top = Annotated[
    int,
    typer.Option(
        "--top",
        "-k",
        min=1,
        help="Maximum number of classes per image.",
    ),
]
MinProbability = Annotated[
    float,
    typer.Option(
        min=0,
        max=1,
        help="Leave out classes that are less probable.",
    ),
]
RowFormat = Annotated[
    Literal["table", "csv", "jsonl", "parquet"] | None,
    typer.Option(
        "--format",
        help="How to write the results, one row per image; by default what the name of the "
        "output file says, otherwise a table for people.",
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Write the rows to FILE, which appears when it is complete.",
    ),
]
Draw = Annotated[
    bool,
    typer.Option(
        "--show",
        help="Also show a small picture of each image, in a terminal with colors.",
    ),
]


def predict(
    images: Images = None,
    from_file: ImageList = None,
    null: NullSeparated = False,
    model: ModelName = None,
    views: NumViews = None,
    device: Device = "auto",
    top: Top = 5,
    min_probability: MinProbability = 0.0,
    row_format: RowFormat = None,
    output: Output = None,
    draw: Draw = False,
    as_json: AsJson = False,
) -> None:
    """Classify image files."""
    check_views(views)
    chosen = _format(row_format, output, as_json)
    if draw and (as_json or chosen != "table"):
        raise typer.BadParameter("goes with the table for people only.", param_hint="--show")
    if null and from_file is None:
        raise typer.BadParameter("is for --from-file.", param_hint="--null")
    from alexnet_cli.inference import predict as verb
    from alexnet_cli.pretrained.names import find_model

    progress = console.ConsoleProgress()
    request = verb.PredictRequest(
        images=tuple(images or ()),
        image_list=from_file,
        null_separated=null,
        model=find_model(model, progress) if model else None,
        num_top=top,
        min_probability=min_probability,
        num_views=views,
        device=device,
    )
    found = verb.predict(request, progress)
    if as_json or RESULT_FILE in os.environ:
        show(_as_json(found), as_json, show_predict)
    elif chosen == "table":
        is_drawn = draw and _can_draw()
        for result in found.results():
            if is_drawn and result.error is None:
                _draw(result.image)
            show_result(result.to_dict())
        show_ignored(found.ignored)
    else:
        found.write(output, chosen)
        for line in lines_of_ignored(found.ignored):
            progress.say(line)
        if output:
            bad = f", {found.num_bad:,} could not be read" if found.num_bad else ""
            print_line(f"[bold]{safe(str(output))}[/]: {counted(found.total, 'image')}{bad}")
    found.check_all_read()


def _format(chosen: str | None, output: Path | None, as_json: bool) -> str:
    """Return the format of the rows, by its option or the name of the output file."""
    if as_json and (chosen or output):
        raise typer.BadParameter("goes with neither --format nor --output.", param_hint="--json")
    if output and chosen in (None, "table"):
        named = output.suffix.lower().removeprefix(".")
        if chosen or named not in ("csv", "jsonl", "parquet"):
            what = f"{safe(str(output))} does not end in .csv, .jsonl or .parquet"
            raise typer.BadParameter(f"{what}; --format says what to write.", param_hint="--output")
        return named
    if chosen == "parquet" and not output:
        raise typer.BadParameter("parquet requires --output FILE.", param_hint="--format")
    return chosen or "table"


def _as_json(found: Any) -> dict:
    """Return all results as one object."""
    info = found.model.info
    return {
        "model": str(info.path),
        "runtime": info.runtime,
        "views": info.num_views,
        "images": [result.to_dict() for result in found.results()],
        "ignored": found.ignored,
    }


def show_predict(result: dict) -> None:
    """Print every image, and what was passed over."""
    for entry in result["images"]:
        show_result(entry)
    show_ignored(result["ignored"])


def show_ignored(ignored: dict[str, int]) -> None:
    """Print how many entries of folders are no images."""
    for line in lines_of_ignored(ignored):
        print_line(safe(line))


def lines_of_ignored(ignored: dict[str, int]) -> list[str]:
    """Return a line for each kind of entries of folders that are no images."""
    return [f"passed over: {count:,} {kind}" for kind, count in ignored.items()]


def _can_draw() -> bool:
    from alexnet_cli.cli.pictures import can_draw

    return can_draw()


def _draw(image: str) -> None:
    """Show a small picture of an image file; of standard input there is nothing left to read."""
    from alexnet_cli.cli.pictures import COLUMNS, half_blocks
    from alexnet_cli.errors import ImageError
    from alexnet_cli.inference.images import thumbnail

    with suppress(ImageError):
        print_rich(half_blocks(thumbnail(image, COLUMNS)))


def show_result(entry: dict) -> None:
    """Print names and probabilities with bars, one block per image."""
    block = "\u2588" if shows_unicode() else "#"
    print_line(f"[bold]{safe(entry['image'])}[/]")
    if "error" in entry:
        print_line(f"  [red]{safe(entry['error'])}[/]")
    for row in entry.get("predictions", ()):
        bar = block * round(BAR_WIDTH * row["probability"])
        name = f"{safe(row['name'].split(',')[0])} ({safe(row['wnid'])})"
        print_line(f"  {row['probability']:6.1%} [green]{bar:<{BAR_WIDTH}}[/] {name}")
