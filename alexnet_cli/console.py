"""The only file that knows rich: tables, bars and errors, on stderr except for results."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

BAR_WIDTH = 30
VIEWS = {1: "centre view", 9: "nine views", 10: "ten views"}


def setup() -> None:
    """Let any name be printed, whatever the terminal's encoding."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def safe(text: str) -> str:
    """Escape control characters, bytes that are no UTF-8, and rich's own markup."""
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    return escape(shown.encode("utf-8", "backslashreplace").decode())


def print_json(result: dict) -> None:
    """Print one JSON object on stdout and nothing else."""
    print(json.dumps(result))


def print_error(message: str) -> None:
    """Print at most three lines on stderr."""
    lines = "\n".join(safe(line) for line in message.split("\n")[:3])
    _stderr().print(f"[bold red]error:[/] {lines}", soft_wrap=True, highlight=False)


def print_line(line: str) -> None:
    """Print one line of a result on stdout; it may hold rich's markup."""
    _stdout().print(line, soft_wrap=True, highlight=False)


class _Console(Console):
    def on_broken_pipe(self) -> None:
        raise BrokenPipeError  # for the face; rich would end the program itself


def _stdout() -> Console:
    return _Console(file=sys.stdout, emoji=False)


def _stderr() -> Console:
    return _Console(file=sys.stderr, emoji=False)


class _Rate(ProgressColumn):
    """Items a second."""

    def render(self, task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f}/s" if speed else "")


class _Bar:
    def __init__(self, bars: Progress, task):
        self._bars, self._task = bars, task

    def advance(self, count: int = 1, note: str = "") -> None:
        changes = {"note": safe(note)} if note else {}
        self._bars.update(self._task, advance=count, **changes)


class ConsoleProgress:
    """Progress drawn on stderr; without a terminal only the lines that stay."""

    def say(self, line: str) -> None:
        """Show one line that stays."""
        _stderr().print(safe(line), soft_wrap=True, highlight=False)

    @contextmanager
    def track(self, what: str, total: int) -> Iterator[_Bar]:
        """Draw a bar with count, rate, time left and a note."""
        console = _stderr()
        columns = (  # 80 characters with a training step's note
            TextColumn("{task.description}"),
            BarColumn(12),
            TaskProgressColumn(),
            _Rate(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(
            *columns, console=console, transient=True, disable=not console.is_terminal
        ) as bars:
            yield _Bar(bars, bars.add_task(safe(what), total=total, note=""))


# --- results; each takes what --json prints


def show_prep(result: dict) -> None:
    """Table of splits, then why pictures were rejected."""
    print_line(f"[bold]{safe(result['dataset'])}[/]: {result['classes']:,} classes")
    _stdout().print(_split_table(result))
    for kind, count in {**result["reasons"], **result["ignored"]}.items():
        print_line(f"  {count:,} {kind}")
    for row in result["rejected"][:5]:
        print_line(f"  rejected {safe(row['source'])}: {row['reason']} ({safe(row['detail'])})")
    if result["already_complete"]:
        print_line("already complete: nothing was done")


def show_pca(result: dict) -> None:
    """Mean colour and components."""
    table = Table(title=f"{safe(result['file'])}: {result['images']:,} images")
    for column in ("", "red", "green", "blue", "std (grey levels)"):
        table.add_column(column, justify="right")
    table.add_row("mean", *(f"{value:.2f}" for value in result["mean_rgb"]), "")
    for i, variance in enumerate(result["eigenvalues"]):
        vector = (f"{row[i]:+.4f}" for row in result["eigenvectors"])
        table.add_row(f"component {i + 1}", *vector, f"{variance**0.5:.2f}")
    _stdout().print(table)


def show_train(result: dict) -> None:
    """Where the run is and what it reached."""
    best = result["best"]
    print_line(
        f"[bold]{safe(result['run'])}[/]: {result['epochs']} epochs, {result['steps']:,} steps"
    )
    if best.get("top1_error") is not None:
        errors = f"top-1 {best['top1_error']:.1%}, top-5 {best['top5_error']:.1%}"
        print_line(f"best: epoch {best['epoch']}, centre-view validation error {errors}")
    if result["images_per_second"]:
        print_line(
            f"{result['images_per_second']:,.0f} images/s on {' + '.join(result['devices'])}"
        )


def show_eval(result: dict) -> None:
    """The protocol and the errors."""
    print_line(f"[bold]{safe(result['checkpoint'])}[/] on {safe(result['dataset'])}")
    table = _error_table(f"{result['split']}: {result['images']:,} images")
    if result["center"]:
        table.add_row("centre view", *_errors(result["center"]))
    table.add_row(VIEWS[result["views"]], *_errors(result))
    _stdout().print(table)


def show_ensemble(result: dict) -> None:
    """Each member and the average."""
    table = _error_table(f"ensemble of {len(result['members'])}: {result['images']:,} images")
    for member, weight in zip(result["members"], result["weights"], strict=True):
        table.add_row(f"{safe(member['file'])} x {weight:.3g}", *_errors(member))
    table.add_section()
    table.add_row("[bold]average of probabilities[/]", *_errors(result))
    _stdout().print(table)
    if result["searched_on"]:
        print_line(f"weights searched on {result['searched_on']:,} other images of the split")


def show_export(result: dict) -> None:
    """The file, and how far it is from torch."""
    views = VIEWS[result["views"]]
    about = f"{result['bytes'] / 1e6:.0f} MB, {result['classes']} classes, {views}"
    print_line(f"[bold]{safe(result['onnx'])}[/]: {about}, opset {result['opset']}")
    batches = ", ".join(map(str, result["batches"]))
    difference = f"{result['max_abs_difference']:.1e}"
    print_line(f"probabilities within {difference} of torch's (batches of {batches})")


def show_predict(result: dict) -> None:
    """Names and probabilities as bars, one block a picture."""
    block = "#" if "utf" not in (sys.stdout.encoding or "").lower() else "\u2588"
    for entry in result["images"]:
        print_line(f"[bold]{safe(entry['image'])}[/]")
        if "error" in entry:
            print_line(f"  [red]{safe(entry['error'])}[/]")
        for row in entry.get("predictions", ()):
            bar = block * round(BAR_WIDTH * row["probability"])
            name = f"{safe(row['name'].split(',')[0])} ({safe(row['wnid'])})"
            print_line(f"  {row['probability']:6.1%} [green]{bar:<{BAR_WIDTH}}[/] {name}")


def show_info(result: dict) -> None:
    """The network, a line a layer, or a dataset's splits; then everything known about it."""
    print_line(f"[bold]{safe(result['name'])}[/]: {result['kind']}, {result['classes']:,} classes")
    _stdout().print(_layer_table(result) if "layers" in result else _split_table(result))
    for name, value in result["about"].items():
        print_line(f"  {name}: {safe(str(value))}")


def _layer_table(result: dict) -> Table:
    size = " x ".join(map(str, result["input"]))
    table = Table(title=f"recipe {safe(result['recipe'])}, input {size}")
    for column in ("layer", "output", "parameters"):
        table.add_column(column, justify="left" if column == "layer" else "right")
    for layer in result["layers"]:
        shape = " x ".join(map(str, layer["output"]))
        count = f"{layer['parameters']:,}" if layer["parameters"] else ""
        table.add_row(layer["name"], shape, count)
    table.add_section()
    table.add_row("[bold]all[/]", "", f"[bold]{result['parameters']:,}[/]")
    return table


def _split_table(result: dict) -> Table:
    table = Table()
    counts = ("found", "written", "rejected", "shards")
    for column in ("split", *counts):
        table.add_column(column, justify="left" if column == "split" else "right")
    for name, split in result["splits"].items():
        table.add_row(name, *(f"{split[count]:,}" for count in counts))
    return table


def show_recipes(result: dict) -> None:
    """One line a recipe and target; for a single one all of it."""
    table = Table(caption="published error rates; alexnet recipes NAME shows their source")
    for column in ("recipe", "shows", "data", "top-1 / top-5"):
        table.add_column(column, no_wrap=column != "shows")
    for row in result["recipes"]:
        cells = [(t["data"], _target_errors(t)) for t in row["targets"]] or [(row["data"], "")]
        table.add_row(row["name"], row["about"], *cells[0])
        for cell in cells[1:]:
            table.add_row("", "", *cell)
    _stdout().print(table)
    if result["fields"] is not None:
        _show_recipe(result["recipes"][0], result["fields"])


def _target_errors(target: dict) -> str:
    errors = (target["top1_error"], target["top5_error"])
    return " / ".join("-" if error is None else f"{error:.1%}" for error in errors)


def _show_recipe(row: dict, fields: dict) -> None:
    for target in row["targets"]:
        print_line(f"{_target_errors(target)}: {target['protocol']} ({target['source']})")
    if row["changes"]:
        print_line(f"changes against {row['parent']}:")
    for field, value in row["changes"].items():
        print_line(f"  {field} = {safe(str(value))}")
    print_line("every field:")
    for field, value in fields.items():
        inner = value.items() if isinstance(value, dict) else None
        shown = " ".join(f"{name}={part}" for name, part in inner) if inner else value
        print_line(f"  {field}: {safe(str(shown))}")
    for command in row["commands"]:
        print_line(f"$ {command}")


def show_demo(result: dict) -> None:
    """The demo's results table, and what to type for ImageNet."""
    table = _error_table("what the demo reached, on generated validation pictures")
    for row in result["rows"]:
        table.add_row(safe(row["name"]), *_errors(row))
    _stdout().print(table)
    print_line(f"{result['seconds']:.0f} s in all; everything is in {safe(result['folder'])}/")
    print_line("\nThe same on ImageNet, with the three official archives in one folder:")
    for line in result["next"]:
        print_line(f"  {safe(line)}")


def _error_table(title: str) -> Table:
    table = Table(title=title)
    table.add_column("")
    for column in ("top-1 error", "top-5 error", "log loss"):
        table.add_column(column, justify="right")
    return table


def _errors(row: dict) -> tuple[str, str, str]:
    return f"{row['top1_error']:.2%}", f"{row['top5_error']:.2%}", f"{row['log_loss']:.4f}"
