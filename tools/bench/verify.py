"""How fast is `alexnet verify`, against SHA-256 alone and against reading alone?

    python tools/bench/verify.py DATASET [--rounds 5]

`sha256` hashes the same shards from memory, on as many threads; `read` only reads them. For the
rows named disk the kernel was asked before to keep none of the shards in memory. One round runs
every variant once; ratios are taken inside a round and their median is printed. Processor time is
that of all threads of this process: on a machine that others use too it is the surer figure.
"""

import argparse
import hashlib
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from alexnet_cli.io.progress import SILENT
from alexnet_cli.prep.audit import audit_dataset


def forget(shards: list[Path]) -> None:
    """Ask the kernel to keep none of the shards in memory."""
    for path in shards:
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read(path: Path) -> None:
    """Read a file and do nothing with it."""
    buffer = bytearray(1 << 20)
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def on_threads(work: Callable, items: list, num_threads: int) -> None:
    """Do some work on every item."""
    with ThreadPoolExecutor(num_threads) as pool:
        list(pool.map(work, items))


def measure(variant: Callable[[], object]) -> tuple[float, float]:
    """Return the seconds a variant took, and the processor time."""
    began, worked = time.perf_counter(), time.process_time()
    variant()
    return time.perf_counter() - began, time.process_time() - worked


def main() -> None:
    """Time every variant in turn and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    shards = sorted(options.dataset.glob("*.tar"))
    contents = [path.read_bytes() for path in shards]
    megabytes = sum(map(len, contents)) / 1e6
    audit = partial(audit_dataset, options.dataset, deep=False, progress=SILENT)
    print(
        f"{'workers':>7}  {'files':6}{'sha256':>10}{'read':>10}{'verify':>10}   of the slower",
        end="",
    )
    print("   processor time: of sha256")
    for num_threads in (1, 2):
        for kind in ("memory", "disk"):
            rounds = []
            for _ in range(options.rounds):
                taken = {
                    "sha256": measure(partial(on_threads, hashlib.sha256, contents, num_threads))
                }
                for name, variant in (
                    ("read", partial(on_threads, read, shards, num_threads)),
                    ("verify", partial(audit, num_threads=num_threads)),
                ):
                    if kind == "disk":
                        forget(shards)
                    taken[name] = measure(variant)
                rounds.append(taken)
            speeds = [
                megabytes / statistics.median(taken[name][0] for taken in rounds)
                for name in rounds[0]
            ]
            slower = statistics.median(
                max(taken["sha256"][0], taken["read"][0]) / taken["verify"][0] for taken in rounds
            )
            worked = statistics.median(taken["sha256"][1] / taken["verify"][1] for taken in rounds)
            figures = "".join(f"{speed:10,.0f}" for speed in speeds)
            print(f"{num_threads:7}  {kind:6}{figures}{slower:16.2f}{worked:28.2f}", flush=True)


if __name__ == "__main__":
    main()
