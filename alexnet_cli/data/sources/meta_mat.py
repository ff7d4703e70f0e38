"""The leaf synsets of a development kit's meta.mat, read in a process of its own.

scipy's reader can crash the interpreter on a damaged file, or unpack it into all of the memory. The
other process runs this file: meta.mat on its stdin, JSON on its stdout.
"""

import io
import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

SECONDS = 60
MEMORY_BYTES = 1 << 29  # beside the libraries; the file of 2012 takes under a MB


class MetaError(Exception):
    """meta.mat cannot be read."""


def read_leaves(meta: bytes) -> list[tuple[int, str, str]]:
    """Return (devkit id, wnid, words) of every synset without children, in the file's order."""
    command = [sys.executable, "-P", __file__]  # no library is loaded from the working folder
    try:
        done = subprocess.run(command, input=meta, capture_output=True, timeout=SECONDS)
    except subprocess.TimeoutExpired as error:
        raise MetaError(f"not read in {SECONDS} seconds") from error
    if done.returncode:
        why = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise MetaError(why[:200] or f"the reader died, code {done.returncode}")
    return [(number, wnid, words) for number, wnid, words in json.loads(done.stdout)]


def _leaves(meta: bytes) -> list[tuple[int, str, str]]:
    import scipy.io

    _limit_memory()
    synsets = scipy.io.loadmat(io.BytesIO(meta), squeeze_me=True)["synsets"]
    id_field = next(name for name in synsets.dtype.names if name.endswith("_ID"))
    leaves = [row for row in synsets if int(row["num_children"]) == 0]
    return [(int(row[id_field]), str(row["WNID"]), str(row["words"])) for row in leaves]


def _limit_memory() -> None:
    """Limit the memory beyond what the libraries use, where the system reports it."""
    with suppress(ImportError, OSError, ValueError):
        import resource

        pages = int(Path("/proc/self/statm").read_bytes().split()[0])
        limit = pages * resource.getpagesize() + MEMORY_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))


def _main() -> None:
    try:
        leaves = _leaves(sys.stdin.buffer.read())
    except Exception as error:  # scipy raises many kinds on a damaged file
        sys.exit(f"{type(error).__name__}: {' '.join(str(error).split())}")
    json.dump(leaves, sys.stdout)


if __name__ == "__main__":
    _main()
