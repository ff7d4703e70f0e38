"""Starting processes of our own: what keeps them from it, said in words."""

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager

from alexnet_cli.errors import Hint, MachineError

SHARED_MEMORY = "/dev/shm"
NO_MORE = ("new thread", "new process")


def shared_memory_fault() -> str | None:
    """Return why processes cannot share a lock here; None if they can.

    multiprocessing's locks are POSIX semaphores, which Linux keeps in `SHARED_MEMORY`. A container
    may lack it, or have it full or read-only.
    """
    try:
        multiprocessing.get_context("spawn").Lock()
    except (ImportError, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        return f"{SHARED_MEMORY} cannot be used: {reason}"
    return None


@contextmanager
def starting(what: str, *, kept: str | None = None, hint: Hint | None = None) -> Iterator[None]:
    """Start processes in the block.

    Args:
        what: the process, as a message names it.

    Raises:
        MachineError: if one is killed while it starts, or a limit prevents it.
    """
    try:
        yield
    except (EOFError, ConnectionError) as error:  # the other end of a pipe is gone
        raise MachineError(
            f"{what} ended when it started: killed as memory is full, or too many processes or "
            "threads (ulimit -u).",
            kept=kept,
            hint=hint,
        ) from error
    except (BlockingIOError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not any(words in str(error) for words in NO_MORE):
            raise
        raise MachineError(
            f"{what} cannot be started: too many processes or threads (ulimit -u).",
            kept=kept,
            hint=hint,
        ) from error
