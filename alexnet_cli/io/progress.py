"""The protocol by which long work reports its progress; `SILENT` reports nothing."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from alexnet_cli.errors import Hint


class Tracker(Protocol):
    """One progress bar."""

    def advance(self, count: int = 1, note: str = "") -> None:
        """Count items as done; `note` replaces the text shown beside the bar."""


class Progress(Protocol):
    """Where long work reports its progress."""

    def say(self, line: str | Hint) -> None:
        """Show one line that stays, or a hint in words."""

    def track(self, what: str, total: int) -> AbstractContextManager[Tracker]:
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
