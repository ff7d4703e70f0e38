"""Progress bars on a terminal, drawn by rich."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

from alexnet_cli.io.progress import Tracker

WIDE = 76  # characters of a bar with a train step's note


def _column(width: int) -> Column:
    return Column(no_wrap=True, min_width=width)


class _Rate(ProgressColumn):
    """Items a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f}/s" if speed else "")


class _Bar:
    def __init__(self, bars: Progress, task: TaskID, escape: Callable[[str], str]) -> None:
        self._bars = bars
        self._task = task
        self._escape = escape

    def advance(self, count: int = 1, note: str = "") -> None:
        self._bars.advance(self._task, count)
        if note:
            self._bars.update(self._task, note=self._escape(note))


@contextmanager
def draw_bar(
    console: Console, what: str, total: int, escape: Callable[[str], str]
) -> Iterator[Tracker]:
    """Draw one bar with count, rate, time left and a note, until the block ends.

    Args:
        escape: makes any text safe for a terminal.
    """
    is_wide = console.width >= WIDE  # on narrow terminals only the note is cut
    columns: list[ProgressColumn] = [
        TextColumn("{task.description}", table_column=_column(len(what))),
        *([BarColumn(12)] if is_wide else []),
        TaskProgressColumn(table_column=_column(4)),
        *([_Rate()] if is_wide else []),
        TimeRemainingColumn(compact=True, table_column=_column(5)),
        TextColumn("{task.fields[note]}"),
    ]
    with Progress(*columns, console=console, transient=True) as bars:
        yield _Bar(bars, bars.add_task(escape(what), total=total, note=""), escape)
