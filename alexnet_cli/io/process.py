"""Limits and ways of processes that differ between Linux, macOS and Windows."""

import multiprocessing
import sys
from contextlib import suppress
from types import ModuleType

resource: ModuleType | None = None
with suppress(ImportError):  # Windows has none
    import resource

OPEN_FILES_OF_WINDOWS = 4096  # half of what its C library allows


def start_method() -> str:
    """Return how to start many processes: from a server that imports once, where there is one."""
    methods = multiprocessing.get_all_start_methods()
    return "forkserver" if "forkserver" in methods else "spawn"


def max_open_files(wanted: int) -> int:
    """Return half of the limit of open files, after raising it towards twice as many as wanted."""
    if resource is None:
        return min(wanted, OPEN_FILES_OF_WINDOWS)
    limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    raised = 2 * wanted if most == resource.RLIM_INFINITY else min(2 * wanted, most)
    if 0 <= limit < raised:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, most))
            limit = raised
    return limit // 2 if limit >= 0 else wanted


def peak_memory() -> int | None:
    """Return the peak bytes of this process; None where the system does not say."""
    if resource is None:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
