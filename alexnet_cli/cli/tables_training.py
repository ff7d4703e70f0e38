"""Plans, reproduced tables and checks as tables on stdout; each takes what --json prints."""

import math
import shlex

from rich.table import Table

from alexnet_cli.cli.console import print_line, print_rich, safe


def show_plan(result: dict) -> None:
    """The commands of a reproduction in the order in which they run, with their cost."""
    for name, commands in result["to_prepare"].items():
        print_line(f"[bold]first[/], with the archives or class folders of {name} in SOURCE:")
        print_line(f"  $ {safe(commands)}")
    for step in result["steps"]:
        cost = [f"{step['images']:,} images", _hours(step["hours"]), _size(step["disk_bytes"])]
        print_line(f"  $ alexnet {safe(shlex.join(step['command']))}")
        print_line(f"    [dim]{', '.join(cost)}[/]")
    rates = ", ".join(f"{name}: {rate:g}" for name, rate in result["rates"].items())
    print_line(f"training images/s measured here on {' + '.join(result['devices'])}: {safe(rates)}")
    hours = _hours(result["hours"])
    print_line(f"in all {result['images']:,} images, {hours} one after the other")
    print_line(
        f"disk: {_size(result['disk_bytes'])} for runs and predictions, "
        f"{_size(result['data_bytes'])} for the shards"
    )
    print_line(
        "Each command can be run by hand, on any machine that sees the folders, with its own"
    )
    print_line("GPUs (CUDA_VISIBLE_DEVICES=0,1 alexnet ...). reproduce takes up what is there.")


def _hours(hours: float) -> str:
    return f"{60 * hours:.0f} min" if hours < 1.5 else f"{hours:,.1f} h"


def _size(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.0f} MB"


def show_reproduce(result: dict) -> None:
    """The table of results.md, and where the files are."""
    from alexnet_cli.reproduce.results import describe_ratio, table_cells

    for caveat in result["caveats"]:
        print_line(f"[bold yellow]not the published experiment:[/] {safe(caveat)}")
    cells = table_cells(result)
    if "rows" in result:  # a terminal has no room for the paper's gain and the images
        cells = [[row[column] for column in (0, 1, 2, 3, 5, 6, 8)] for row in cells]
        cells[0][4] = "worse by"
    header, *rows = cells
    table = Table(title=result["title"])
    for column in header:
        table.add_column(column, no_wrap=column == "row")
    for row in rows:
        table.add_row(*row)
    print_rich(table)
    if "laps" in result:
        print_line(describe_ratio(result))
        print_line(safe(result["figure"]))
    print_line(safe(result["results"]))


def show_check(result: dict) -> None:
    """Signals layer by layer, and the batch learned by heart."""
    table = Table(title=f"{result['recipe']} as drawn, on {safe(result['data'])}")
    for column in ("after", "scale", "spread", "silent"):
        table.add_column(column, justify="right" if column != "after" else "left")
    for row in result["signals"]:
        numbers = (f"{row['scale']:.3g}", f"{row['spread']:.3g}", f"{row['silent']:.0%}")
        table.add_row(row["name"], *numbers)
    print_rich(table)
    print_line("scale: root mean square; spread: between images; silent: zero for every image")
    print_line(
        f"first loss {result['first_loss']:.3f}; a guess has ln({result['classes']}) = "
        f"{result['chance_loss']:.3f}"
    )
    one = result["overfit"]
    verb = "learned" if one["learned"] else "[bold red]not learned[/]"
    print_line(
        f"{one['images']} images {verb} by heart in {len(one['losses'])} steps at rate "
        f"{one['rate']:.2g}: loss {one['losses'][0]:.3f} to {_finite(one['losses'][-1]):.3f}"
    )


def _finite(value: float | None) -> float:
    """Return what JSON has no number for as infinite."""
    return math.inf if value is None else value
