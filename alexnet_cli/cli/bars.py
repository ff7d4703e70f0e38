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
from rich.text import Text

from alexnet_cli.io.progress import Tracker


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
    columns = (  # 80 characters with a train step's note
        TextColumn("{task.description}"),
        BarColumn(12),
        TaskProgressColumn(),
        _Rate(),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, transient=True) as bars:
        yield _Bar(bars, bars.add_task(escape(what), total=total, note=""), escape)
