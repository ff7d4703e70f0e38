"""How many cores a process may use, where it may not use all of the machine's."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import alexnet_cli
from alexnet_cli.io.cores import num_cores

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


def test_nothing_else_counts_cores():
    users = [path.name for path in PACKAGE.rglob("*.py") if "cpu_count" in path.read_text()]
    assert users == ["cores.py"]
