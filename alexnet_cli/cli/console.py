"""Lines, bars and errors with rich, on stderr except for results; report.py has the tables."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, RenderableType
from rich.markup import escape
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

from alexnet_cli.cli.hints import sentence
from alexnet_cli.errors import Hint, on_one_line


def setup() -> None:
    """Let any name be printed, whatever the terminal's encoding."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def safe(text: str) -> str:
    """Escape control characters, bytes that are no UTF-8, and rich's own markup."""
    return escape(on_one_line(text).encode("utf-8", "backslashreplace").decode())


def print_json(result: dict) -> None:
    """Print one JSON object on stdout and nothing else."""
    print(json.dumps(result), flush=True)  # so that a reader that is gone is noticed here


def print_error(message: str) -> None:
    """Print at most three lines on stderr."""
    lines = "\n".join(safe(line) for line in message.split("\n")[:3])
    _stderr().print(f"[bold red]error:[/] {lines}", soft_wrap=True, highlight=False)


def print_line(line: str) -> None:
    """Print one line of a result on stdout; it may hold rich's markup."""
    _stdout().print(line, soft_wrap=True, highlight=False)


def print_rich(renderable: RenderableType) -> None:
    """Print a table or the like on stdout."""
    _stdout().print(renderable)


class _Console(Console):
    def on_broken_pipe(self) -> None:
        raise BrokenPipeError  # for the face; rich would end the program itself


def _stdout() -> Console:
    return _Console(file=sys.stdout, emoji=False)


def _stderr() -> Console:
    return _Console(file=sys.stderr, emoji=False)


class _Rate(ProgressColumn):
    """Items a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f}/s" if speed else "")


class _Bar:
    def __init__(self, bars: Progress, task: TaskID) -> None:
        self._bars, self._task = bars, task

    def advance(self, count: int = 1, note: str = "") -> None:
        self._bars.advance(self._task, count)
        if note:
            self._bars.update(self._task, note=safe(note))


class ConsoleProgress:
    """Progress drawn on stderr; without a terminal only the lines that stay."""

    def say(self, line: str | Hint) -> None:
        """Show one line that stays, or a hint in words."""
        _stderr().print(safe(sentence(line)), soft_wrap=True, highlight=False)

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
