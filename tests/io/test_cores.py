"""How many cores and how much memory a process may use, where it may not use all of them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import alexnet_cli
from alexnet_cli.data.batches.readers import num_ahead
from alexnet_cli.io import cores
from alexnet_cli.io.cores import limited_cores, memory_limit, num_cores, num_workers

PACKAGE = Path(alexnet_cli.__file__).parent
needs_affinity = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="this system does not limit cores"
)


def in_child(program: str) -> str:
    """Run a program that may use one core only; return what it printed."""
    lines = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n" + program
    command = [sys.executable, "-c", lines]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@needs_affinity
def test_cores_are_those_the_process_may_run_on():
    assert num_cores() == len(os.sched_getaffinity(0))
    assert in_child("from alexnet_cli.io.cores import num_cores; print(num_cores())") == "1"


@needs_affinity
def test_loader_has_as_many_threads_as_cores_that_it_may_run_on():
    program = (
        "from concurrent.futures import ThreadPoolExecutor as Pool\n"
        "from alexnet_cli.data.batches import readers\n"
        "readers.ThreadPoolExecutor = lambda n: print(n) or Pool(n)\n"
        "readers.ThreadReader()\n"
    )
    assert in_child(program) == "1"


def test_cores_are_all_of_the_machine_where_it_has_no_limits(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert num_cores() == 7
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert num_cores() == 1


@pytest.fixture
def cgroup(tmp_path, monkeypatch):
    """A machine of 16 cores on which this process is in a cgroup; returns how to limit it."""
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    monkeypatch.setattr(cores, "CGROUPS", tmp_path)
    monkeypatch.setattr(cores, "_own_cgroup", lambda controller: "/job/step")

    def write(name: str, text: str) -> None:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")

    return write


@pytest.mark.parametrize(
    ("limit", "expected"),
    [("max 100000", 16), ("200000 100000", 2), ("50000 100000", 1), ("250000 100000", 3), ("", 16)],
)
def test_quota_of_a_container_limits_the_cores(cgroup, limit, expected):
    cgroup("job/step/cpu.max", limit)
    assert num_cores() == expected


def test_least_quota_of_the_cgroups_around_counts(cgroup):
    cgroup("job/step/cpu.max", "max 100000")
    cgroup("job/cpu.max", "400000 100000")
    cgroup("cpu.max", "800000 100000")
    assert num_cores() == 4


@pytest.mark.parametrize(("quota", "expected"), [("-1", 16), ("300000", 3)])
def test_quota_of_the_first_version_of_cgroups_limits_the_cores(cgroup, quota, expected):
    cgroup("cpu/job/step/cpu.cfs_quota_us", quota)
    cgroup("cpu/job/step/cpu.cfs_period_us", "100000")
    assert num_cores() == expected


def test_affinity_and_quota_count_together(cgroup, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    cgroup("job/cpu.max", "800000 100000")
    assert num_cores() == 3


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("job/memory.max", "max", None),
        ("job/step/memory.max", "1073741824", 1 << 30),
        ("memory/job/memory.limit_in_bytes", "2147483648", 2 << 30),
        ("memory/job/memory.limit_in_bytes", "9223372036854771712", None),
    ],
)
def test_memory_is_what_the_container_allows(cgroup, name, text, expected):
    cgroup(name, text)
    assert memory_limit() == expected


@pytest.mark.parametrize(
    ("limit", "bytes_each", "count", "why"),
    [
        (None, 1 << 28, 16, "16 cores that may be used"),
        (64 << 30, 1 << 28, 16, "16 cores that may be used"),
        (2 << 30, 1 << 28, 4, "a memory limit of 2.1 GB"),
        (1 << 28, 1 << 28, 1, "a memory limit of 0.3 GB"),
        (2 << 30, 1 << 26, 16, "16 cores that may be used"),
    ],
)
def test_workers_fit_into_half_of_the_memory(cgroup, limit, bytes_each, count, why):
    cgroup("job/memory.max", limit or "max")
    assert num_workers(bytes_each) == (count, why)


def test_libraries_are_limited_where_they_would_count_too_many_cores(cgroup, monkeypatch):
    assert limited_cores(knows_affinity=False) is None
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    assert limited_cores(knows_affinity=True) is None
    assert limited_cores(knows_affinity=False) == 4
    cgroup("job/cpu.max", "200000 100000")
    assert limited_cores(knows_affinity=True) == 2
    assert limited_cores(knows_affinity=False) == 2


def test_batches_are_read_ahead_as_far_as_memory_allows():
    paper, large = 128 * 256 * 256 * 3, 4096 * 256 * 256 * 3
    assert [num_ahead(paper, limit) for limit in (None, 1 << 30, 1 << 28)] == [3, 3, 1]
    assert [num_ahead(large, limit) for limit in (None, 16 << 30, 1 << 30)] == [3, 2, 1]


@pytest.mark.parametrize(
    ("lines", "controller", "expected"),
    [
        ("0::/user.slice/job\n", "", "/user.slice/job"),
        ("4:cpu,cpuacct:/docker/abc\n1:name=systemd:/\n", "cpu", "/docker/abc"),
        ("1:name=systemd:/\n", "cpu", ""),
    ],
)
def test_own_cgroup_is_found_in_either_version(monkeypatch, lines, controller, expected):
    monkeypatch.setattr(cores.Path, "read_text", lambda self, encoding: lines)
    assert cores._own_cgroup(controller) == expected


def test_nothing_else_counts_cores():
    users = [path.name for path in PACKAGE.rglob("*.py") if "cpu_count" in path.read_text()]
    assert users == ["cores.py"]
