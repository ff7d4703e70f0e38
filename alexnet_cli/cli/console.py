"""Lines, progress and errors with rich, on stderr except for results."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console, RenderableType
from rich.markup import escape

from alexnet_cli.cli.hints import sentence
from alexnet_cli.errors import Hint, on_one_line
from alexnet_cli.io.atomic import writing_to_stdout
from alexnet_cli.io.progress import Tracker

VERBOSITY = "ALEXNET_VERBOSITY"  # jobs and replicas inherit it
VERBOSITIES = ("quiet", "normal", "verbose")
FIRST_LINE_SECONDS = 10.0
SECONDS_BETWEEN_LINES = {"normal": 60.0, "verbose": 10.0}


def verbosity() -> str:
    """Return how much progress to show."""
    return os.environ.get(VERBOSITY, "normal")


def seconds_between_lines() -> float:
    """Return the time between two lines of progress where there is no terminal."""
    return SECONDS_BETWEEN_LINES.get(verbosity(), SECONDS_BETWEEN_LINES["normal"])


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
    with writing_to_stdout():
        print(json.dumps(result), flush=True)  # so that a reader that is gone is noticed here


def print_error(message: str) -> None:
    """Print at most three lines on stderr."""
    lines = "\n".join(safe(line) for line in message.split("\n")[:3])
    _stderr().print(f"[bold red]error:[/] {lines}", soft_wrap=True, highlight=False)


def print_line(line: str) -> None:
    """Print one line of a result on stdout; it may hold rich's markup."""
    with writing_to_stdout():
        _stdout().print(line, soft_wrap=True, highlight=False)


def print_rich(renderable: RenderableType) -> None:
    """Print a table or the like on stdout."""
    with writing_to_stdout():
        _stdout().print(renderable)


def shows_color() -> bool:
    """Return whether standard output is shown in color."""
    return _stdout().color_system is not None


def shows_unicode() -> bool:
    """Return whether standard output takes all characters, also while a bar stands in for it."""
    return "utf" in (getattr(_stdout().file, "encoding", None) or "").lower()


class _Console(Console):
    def on_broken_pipe(self) -> None:
        raise BrokenPipeError  # for the face; rich would end the program itself


def _stdout() -> Console:
    return _Console(file=sys.stdout, emoji=False)


def _stderr() -> Console:
    # FORCE_COLOR is for what people pipe on; in a log file it would leave control codes.
    return _Console(file=sys.stderr, emoji=False, force_terminal=sys.stderr.isatty())


def _can_draw_bars() -> bool:
    return sys.stderr.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown")


class LogLines:
    """Progress in plain lines, for files and schedulers: the first soon, then one a minute."""

    def __init__(self, what: str, total: int, clock: Callable[[], float] = time.monotonic):
        self._what, self._total, self._clock = what, total, clock
        self._done, self._note = 0, ""
        self._began = clock()
        self._next = self._began + FIRST_LINE_SECONDS

    def advance(self, count: int = 1, note: str = "") -> None:
        self._done += count
        self._note = note or self._note
        if self._clock() >= self._next:
            self._next = self._clock() + seconds_between_lines()
            _print_progress(self._line())

    def _line(self) -> str:
        rate = self._done / max(self._clock() - self._began, 1e-9)
        left = timedelta(seconds=round(max(self._total - self._done, 0) / max(rate, 1e-9)))
        share = self._done / max(self._total, 1)
        parts = [
            f"{self._what}: {self._done:,} of {self._total:,} ({share:.0%})",
            f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.2f}/s",
            f"{left} left",
            self._note,
        ]
        return ", ".join(part for part in parts if part)


class _NoLines:
    def advance(self, count: int = 1, note: str = "") -> None:
        """Show nothing."""


class ConsoleProgress:
    """Progress on stderr: bars on a terminal, elsewhere a plain line a minute; none if quiet."""

    def say(self, line: str | Hint) -> None:
        """Show one line that stays, or a hint in words."""
        if verbosity() != "quiet":
            _print_progress(sentence(line))

    @contextmanager
    def track(self, what: str, total: int) -> Iterator[Tracker]:
        """Show count, rate, time left and a note."""
        if verbosity() == "quiet":
            yield _NoLines()
        elif _can_draw_bars():
            from alexnet_cli.cli.bars import draw_bar  # rich's bars take as long as --help's text

            with draw_bar(_stderr(), what, total, safe) as bar:
                yield bar
        else:
            yield LogLines(what, total)


def _print_progress(line: str) -> None:
    _stderr().print(safe(line), soft_wrap=True, highlight=False)
