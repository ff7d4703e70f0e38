"""Memory that was freed is used again, so that a step does not fault its pages in anew."""

import platform
import subprocess
import sys

import pytest

from alexnet_cli.distributed import allocator

FAULTS = """
import resource
import sys
import torch
from alexnet_cli.distributed.allocator import keep_freed_memory

def touch():
    return sum(torch.ones(1 << 24).sum() for _ in range(3))  # 64 MiB each

if sys.argv[1] == "kept":
    keep_freed_memory()
rounds = []
for _ in range(6):  # small objects may come to lie where a large one was
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    touch()
    rounds.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(min(rounds))
"""


def faults(how: str) -> int:
    command = [sys.executable, "-c", FAULTS, how]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="not the GNU C library")
def test_memory_that_was_freed_is_not_faulted_in_again():
    assert faults("kept") < 100 < 10_000 < faults("returned")


def test_other_c_libraries_are_left_alone(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda _: pytest.fail("a library was changed"))

    allocator.keep_freed_memory()
