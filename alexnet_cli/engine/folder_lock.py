"""One writer a folder: a lock that ends with its process, however that ends."""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from alexnet_cli.errors import AlexNetError

SOMEBODY = "another process"


@contextmanager
def locked(folder: Path, refuse: Callable[[str], AlexNetError]) -> Iterator[None]:
    """Keep every other process that asks for the same lock out, until the block or we end.

    On a network disk without locks nobody is kept out.

    Args:
        refuse: makes the refusal of who has it: "another process (17, since 2012-09-30 18:05)".

    Raises:
        AlexNetError: the refusal, because another process has the lock.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise refuse(_holder(descriptor)) from None
        except OSError:
            pass  # no locks there
        yield
    finally:
        with suppress(OSError):
            os.close(descriptor)


def _holder(descriptor: int) -> str:
    """Say which process of this machine has the lock on an open folder, and since when it runs."""
    status = os.fstat(descriptor)
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
    with suppress(OSError, LookupError, ValueError):  # on another machine, or ended meanwhile
        for line in Path("/proc/locks").read_text().splitlines():
            _, kind, _, _, process, place, *_ = line.split()
            if kind == "FLOCK" and place == f"{device}:{status.st_ino}":
                began = time.localtime(_began(int(process)))
                since = time.strftime("%Y-%m-%d %H:%M", began)
                return f"{SOMEBODY} ({process}, since {since})"
    return SOMEBODY


def _began(process: int) -> float:
    """Return when a process was started, in seconds since 1970."""
    ticks = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    since_boot = int(ticks) / os.sysconf("SC_CLK_TCK")
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + since_boot
