"""Plans, reproduced tables and checks as tables on stdout; each takes what --json prints."""

import math
import shlex

from rich.table import Table

from alexnet_cli.console import print_line, print_rich, safe


def show_plan(result: dict) -> None:
    """The commands of a reproduction, wave by wave, with their cost."""
    wave = 0
    for name, commands in result["to_prepare"].items():
        print_line(f"[bold]first[/], with the archives or class folders of {name} in SOURCE:")
        print_line(f"  $ {safe(commands)}")
    for step in result["steps"]:
        if step["wave"] != wave:
            wave = step["wave"]
            print_line(f"[bold]wave {wave}[/] (these can run at once)")
        cost = [f"{step['images']:,} images", _hours(step["hours"]), _size(step["disk_bytes"])]
        print_line(f"  $ alexnet {safe(shlex.join(step['command']))}")
        print_line(f"    [dim]{', '.join(cost)}[/]")
    rates = ", ".join(f"{name}: {rate:g}" for name, rate in result["rates"].items())
    print_line(f"training images/s measured here on {' + '.join(result['devices'])}: {safe(rates)}")
    print_line(
        f"in all {result['images']:,} images, {_hours(result['hours'])} one after the other, "
        f"{_hours(result['hours_on_8_gpus'])} on 8 such devices at once"
    )
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
    """The table of results.md, or Figure 1's, and where the files are."""
    for caveat in result["caveats"]:
        print_line(f"[bold yellow]not the published experiment:[/] {safe(caveat)}")
    print_rich(_race_table(result) if "laps" in result else _reproduced_table(result))
    if "laps" in result:
        ratio = "none" if result["ratio"] is None else f"{result['ratio']:.1f}"
        print_line(f"ratio {ratio} (paper: about {result['paper_ratio']:g})")
        print_line(f"{safe(result['picture'])}")
    print_line(f"{safe(result['results'])}")


def _reproduced_table(result: dict) -> Table:
    table = Table(title=result["title"], caption="top-1 / top-5 error in percent")
    for column in ("row", "paper", "2012 log", "ours", "worse by", "epochs", "measured on"):
        table.add_column(column, no_wrap=column == "row")
    for row in result["rows"]:
        cells = [row["name"], *(_pair(row[key]) for key in ("paper", "log", "ours"))]
        if row["ours"]:
            epochs = ", ".join(str(count) for count in row["epochs"])
            cells += [_pair(row["gain"], sign="+"), epochs]
            cells += [f"{row['data']}, {row['protocol']}, {row['images']:,} images"]
        else:
            cells += ["", "", f"no --data {', '.join(row['missing'])}"]
        table.add_row(*cells)
    return table


def _pair(errors: list | None, sign: str = "") -> str:
    shown = ["-" if error is None else f"{100 * error:{sign}.1f}" for error in errors or ()]
    return " / ".join(shown)


def _race_table(result: dict) -> Table:
    table = Table(title=result["title"])
    for column in ("network", "rate", "epochs trained", "epochs to the goal"):
        table.add_column(column, justify="right")
    for lap in result["laps"]:
        reached = "not reached" if lap["epochs"] is None else f"{lap['epochs']:.1f}"
        table.add_row(lap["recipe"], f"{lap['rate']:g}", str(len(lap["train_errors"])), reached)
    return table


def show_check(result: dict) -> None:
    """Signals layer by layer, and the batch learned by heart."""
    table = Table(title=f"{result['recipe']} as drawn, on {safe(result['data'])}")
    for column in ("after", "scale", "spread", "silent"):
        table.add_column(column, justify="right" if column != "after" else "left")
    for row in result["signals"]:
        numbers = (f"{row['scale']:.3g}", f"{row['spread']:.3g}", f"{row['silent']:.0%}")
        table.add_row(row["name"], *numbers)
    print_rich(table)
    print_line("scale: root mean square; spread: between pictures; silent: zero for every picture")
    print_line(
        f"first loss {result['first_loss']:.3f}; a guess has ln({result['classes']}) = "
        f"{result['guess_loss']:.3f}"
    )
    one = result["overfit"]
    verb = "learned" if one["learned"] else "[bold red]not learned[/]"
    print_line(
        f"{one['images']} pictures {verb} by heart in {len(one['losses'])} steps at rate "
        f"{one['rate']:.2g}: loss {one['losses'][0]:.3f} to {_finite(one['losses'][-1]):.3f}"
    )


def _finite(value: float | None) -> float:
    """Return what JSON has no number for as infinite."""
    return math.inf if value is None else value
