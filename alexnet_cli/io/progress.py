"""How the work tells the face how far it is, without knowing who is looking.

Commands and loops take a `Progress`; console.py has the one that draws, `SILENT` says nothing.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from alexnet_cli.errors import Hint


class Tracker(Protocol):
    """One bar: how many of its items are done."""

    def advance(self, count: int = 1, note: str = "") -> None:
        """Count items as done; `note` replaces the text shown beside the bar."""


class Progress(Protocol):
    """Where long work reports to."""

    def say(self, line: str | Hint) -> None:
        """Show one line that stays, or a hint in words."""

    def track(self, what: str, total: int):
        """Return a context manager that yields a `Tracker` over `total` items."""


class _SilentTracker:
    def advance(self, count: int = 1, note: str = "") -> None:
        pass


class _Silent:
    def say(self, line: str | Hint) -> None:
        pass

    @contextmanager
    def track(self, what: str, total: int) -> Iterator[Tracker]:
        yield _SilentTracker()


SILENT: Progress = _Silent()
