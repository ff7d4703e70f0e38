"""`alexnet show`: how many images a dataset has of each class, and how they look."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from alexnet_cli.cli.console import print_line, print_rich, safe
from alexnet_cli.cli.options import (
    AsJson,
    DatasetSource,
    DrawSeed,
    RecipeName,
    Settings,
    Theme,
    wanted_recipe,
)
from alexnet_cli.cli.tables import short_name
from alexnet_cli.cli.tables import show as show_result
from alexnet_cli.errors import counted

MAX_ROWS = 40  # of a table of classes; of more, the smallest and the largest
NUM_ENDS = 10
OF_THE_SHEET = {
    **{"split": "--split", "wanted": "--class", "count": "--count", "augmented": "--augmented"},
    **{"seed": "--seed", "theme": "--theme"},
}

SheetFile = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", help="Sheet of images to write: .png, .svg or .pdf.", metavar="FILE"
    ),
]
SplitOfSheet = Annotated[str, typer.Option(help="Split of the images on the sheet.")]
ClassesOfSheet = Annotated[
    list[str] | None,
    typer.Option(
        "--class",
        help="Class on the sheet, by name or wnid; can be repeated. By default all classes, "
        "or 20 of them at random.",
    ),
]
Count = Annotated[int, typer.Option(min=1, max=100, help="Maximum number of images of a class.")]
Augmented = Annotated[
    bool,
    typer.Option(
        "--augmented",
        help="Show what the network sees in training: crop and mirror, color noise, mean "
        "subtracted.",
    ),
]


def show(
    context: typer.Context,
    dataset: DatasetSource,
    out: SheetFile = None,
    split: SplitOfSheet = "train",
    wanted: ClassesOfSheet = None,
    count: Count = 10,
    augmented: Augmented = False,
    recipe: RecipeName = None,
    settings: Settings = None,
    seed: DrawSeed = 0,
    theme: Theme = "light",
    as_json: AsJson = False,
) -> None:
    """Count the images of each class, and draw a sheet of them."""
    for name, option in OF_THE_SHEET.items():
        source = context.get_parameter_source(name)
        if not out and source and source.name == "COMMANDLINE":
            raise typer.BadParameter("requires -o FILE, the sheet to write.", param_hint=option)
    for is_given, name in ((bool(recipe), "--recipe"), (bool(settings), "--set")):
        if is_given and not augmented:
            raise typer.BadParameter("is for --augmented.", param_hint=name)
    chosen = wanted_recipe(recipe, settings or [], None) if augmented else None
    from alexnet_cli.data.dataset_ref import open_dataset
    from alexnet_cli.data.shards.counts import count_classes

    opened, sheet = open_dataset(dataset), None
    classes = [asdict(entry) for entry in count_classes(opened)]
    if out:
        from alexnet_cli.figures.sheet import SheetRequest, draw_sheet

        # Of one class for each row there is room for one image, of chosen classes for several.
        per_class = 1 if augmented and not wanted else count
        request = SheetRequest(
            opened, out, split, tuple(wanted or ()), per_class, seed, chosen, theme
        )
        sheet = asdict(draw_sheet(request))
    splits = {name: len(found) for name, found in opened.splits.items()}
    result = {"dataset": opened.name, "splits": splits, "classes": classes, "sheet": sheet}
    show_result(result, as_json, show_dataset)


def show_dataset(result: dict) -> None:
    """Print the images of each class, of many classes the smallest and largest."""
    classes, splits = result["classes"], list(result["splits"])
    counts = ", ".join(f"{name} {count:,}" for name, count in result["splits"].items())
    print_line(
        f"[bold]{safe(result['dataset'])}[/]: {counted(len(classes), 'class')}; images: {counts}"
    )
    rows = [[short_name(row["wnid"], row["name"]), *(row["images"][s] for s in splits)]
            for row in classes]  # fmt: skip
    if len(rows) <= MAX_ROWS:
        _print_table("images of each class", splits, rows)
    else:
        by_size = sorted(rows, key=lambda row: row[1])
        _print_table(f"the {NUM_ENDS} smallest classes", splits, by_size[:NUM_ENDS])
        _print_table(f"the {NUM_ENDS} largest classes", splits, by_size[-NUM_ENDS:])
        middle = by_size[len(by_size) // 2][1]
        print_line(f"half of the classes have at least {counted(middle, 'image')} in {splits[0]}")
    if result["sheet"]:
        print_line(f"[bold]{safe(result['sheet']['path'])}[/]: a sheet of images")


def _print_table(title: str, splits: list[str], rows: list[list]) -> None:
    table = Table(title=title)
    table.add_column("class")
    for name in splits:
        table.add_column(name, justify="right", no_wrap=True)
    for name, *counts in rows:
        table.add_row(name, *(f"{count:,}" for count in counts))
    print_rich(table)
