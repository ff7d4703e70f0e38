"""Threads of OpenMP runtimes: how many, and how they wait: awake for a moment, then asleep.

torch's threads wait for each other after every operator. Beside other busy processes a thread that
waits awake takes the processor from the one that it waits for; one that sleeps at once costs a
wake-up for each operator. A runtime reads these variables when it is loaded, so they are set before
torch is imported.
"""

import os
from collections.abc import MutableMapping

from alexnet_cli.io.cores import limited_cores

# If the user set one of these, all of them are left as they are.
WAITING_VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")
# GNU's runtime (libgomp) waits 300,000 pauses of the processor by default, 6 to 12 ms of them;
# nearly all operators of a train step follow each other sooner than 30,000 of them.
SPIN_COUNT = 30_000


def limit_busy_waiting(environment: MutableMapping[str, str] = os.environ) -> None:
    """Shorten the time that waiting threads stay awake, unless the user set how they wait."""
    if not any(name in environment for name in WAITING_VARIABLES):
        environment["GOMP_SPINCOUNT"] = str(SPIN_COUNT)


def limit_threads(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let torch and numpy start no more threads than a container's quota of cores allows.

    They see by themselves which cores a process is pinned to, but no quota.
    """
    if "OMP_NUM_THREADS" not in environment and (count := limited_cores(knows_affinity=True)):
        environment["OMP_NUM_THREADS"] = str(count)
