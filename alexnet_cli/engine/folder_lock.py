"""One writer a folder: a lock that ends with its process, however that ends."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from alexnet_cli.errors import AlexNetError


@contextmanager
def locked(folder: Path, refusal: AlexNetError) -> Iterator[None]:
    """Keep every other process that asks for the same lock out, until the block or we end.

    On a network disk without locks nobody is kept out.

    Raises:
        AlexNetError: the refusal, because another process has the lock.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise refusal from None
        except OSError:
            pass  # no locks there
        yield
    finally:
        with suppress(OSError):
            os.close(descriptor)
