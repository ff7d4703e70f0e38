"""Starting processes of our own: what keeps them from it, said in words."""

import multiprocessing
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from alexnet_cli.errors import Hint, MachineError, on_one_line
from alexnet_cli.io.signals import blocked

SHARED_MEMORY = "/dev/shm"
NO_MORE = ("new thread", "new process")
_MAIN = threading.RLock()


def shared_memory_fault() -> str | None:
    """Return why processes cannot share a lock here; None if they can.

    multiprocessing's locks are POSIX semaphores, which Linux keeps in `SHARED_MEMORY`. A container
    may lack it, or have it full or read-only.
    """
    try:
        with blocked("SIGHUP"):  # it starts Python's own helper, which must outlive a terminal
            multiprocessing.get_context("spawn").Lock()
    except BlockingIOError:  # no more processes, which those that start report
        return None
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
    except OSError as error:  # such as a Python that must not be executed
        where = f"{on_one_line(str(error.filename))}: " if error.filename else ""
        raise MachineError(
            f"{what} cannot be started: {where}{error.strerror or error}.", kept=kept
        ) from error


@contextmanager
def without_main() -> Iterator[None]:
    """Start processes in the block that do not run the user's program.

    Python would have each of them run it again, for what it may define; ours call our own
    functions, and a program need not guard against that.
    """
    with _MAIN:
        main = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = main
