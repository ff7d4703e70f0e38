"""How many CPU cores and how much memory this process was given."""

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
UNLIMITED_BYTES = 1 << 60  # cgroup v1 writes a number near 2^63 for "no limit"


def num_cores() -> int:
    """Return the number of cores this process may use, at least 1.

    The least of what a scheduler pinned it to (CPU affinity), what a container's quota allows
    (cgroup v2 or v1; half a core counts as one), and what the machine has.
    """
    counts = [os.cpu_count() or 1]
    if hasattr(os, "sched_getaffinity"):
        counts.append(len(os.sched_getaffinity(0)))
    counts += [math.ceil(quota) for quota in _cpu_quotas()]
    return max(1, min(counts))


def limited_cores(*, knows_affinity: bool) -> int | None:
    """Return the number of cores for a library that would count too many; None if it counts right.

    Args:
        knows_affinity: whether it counts the cores that it is pinned to; none knows quotas.
    """
    seen = os.cpu_count() or 1
    if knows_affinity and hasattr(os, "sched_getaffinity"):
        seen = len(os.sched_getaffinity(0))
    count = num_cores()
    return count if count < seen else None


def num_workers(bytes_each: int) -> tuple[int, str]:
    """Return how many workers to start, at least 1, and what decides it.

    Half of a container's memory is for them, the other half for this process and the page cache.

    Args:
        bytes_each: memory that one needs.
    """
    count, limit = num_cores(), memory_limit()
    if limit is not None and (fitting := max(1, limit // 2 // bytes_each)) < count:
        return fitting, f"a memory limit of {limit / 1e9:.1f} GB"
    return count, f"{count} core{'s' if count > 1 else ''} that may be used"


def memory_limit() -> int | None:
    """Return the bytes of memory that a container may use; None without a limit."""
    names = (("", "memory.max"), ("memory", "memory.limit_in_bytes"))
    limits = [
        int(text)
        for controller, name in names
        for text in _read_all(controller, name)
        if text.isdigit() and int(text) < UNLIMITED_BYTES
    ]
    return min(limits, default=None)


def _cpu_quotas() -> Iterator[float]:
    """Yield the cores that each cgroup around this process allows."""
    for text in _read_all("", "cpu.max"):  # v2: "max 100000" or "150000 100000"
        quota, _, period = text.partition(" ")
        if quota.isdigit() and period.isdigit():
            yield int(quota) / int(period)
    quotas = _read_all("cpu", "cpu.cfs_quota_us")  # v1: -1 without a quota
    for quota, period in zip(quotas, _read_all("cpu", "cpu.cfs_period_us"), strict=False):
        if quota.isdigit() and period.isdigit():
            yield int(quota) / int(period)


def _read_all(controller: str, name: str) -> list[str]:
    """Return what a file of this process's cgroup and of every one around it says.

    Args:
        controller: of cgroup v1, such as "cpu"; "" for v2, which has one tree for all.
    """
    folder = CGROUPS / controller
    own = folder / _own_cgroup(controller).lstrip("/")
    found = []
    for place in (own, *own.parents):
        with suppress(OSError):  # the root has no limits; a container sees its own cgroup only
            found.append((place / name).read_text(encoding="utf-8").strip())
        if place == folder:
            break
    return found


def _own_cgroup(controller: str) -> str:
    """Return the path of this process's cgroup below its controller's folder."""
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    for line in lines:  # "0::/user.slice" or "4:cpu,cpuacct:/docker/abc"
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return path
    return ""
