"""How many CPU cores this process may use."""

import os


def num_cores() -> int:
    """Return the number of cores the process may run on, at least 1.

    Slurm and containers often allow fewer than the machine has (cpusets); os.cpu_count() counts
    them all.
    """
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1
