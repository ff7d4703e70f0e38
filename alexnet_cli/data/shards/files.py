"""Shards in use: opened when first read, read by position, and looked at before any work begins.

Not mapped into memory: a mapped shard that gets shorter, or whose disk fails, kills the process. A
read says so, costs 3 us an image, and lets other threads run while it waits.
"""

import os
import resource
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alexnet_cli.data.shards.index import Shard
from alexnet_cli.data.shards.tar_layout import BLOCK
from alexnet_cli.errors import MachineError
from alexnet_cli.io.disk import advice_on, fault_in_words
from alexnet_cli.io.thread_map import thread_map

NUM_THREADS = 16  # that look at shards before work begins; on a network each waits for its answer


class ShardFiles:
    """The bytes of some shards, for any number of threads.

    Shards stay open as far as the process may have so many files: ImageNet has 1,332 shards of
    1,000 images, and on a network disk opening one anew for every image would take longer than
    reading it.
    """

    def __init__(self, folder: Path, shards: Sequence[Shard]):
        self.folder, self.shards = folder, tuple(shards)
        self.paths = [folder / shard.name for shard in shards]
        self._open: dict[int, OpenFile] = {}
        self._stamps: dict[int, tuple[int, int]] = {}
        self._lock = threading.Lock()
        self._max_open = _files_allowed(len(shards))

    def __reduce__(self) -> tuple:
        """Another process opens the shards itself."""
        return ShardFiles, (self.folder, self.shards)

    def read(self, shard: int, offset: int, length: int) -> bytes:
        """Return some bytes of a shard.

        Raises:
            MachineError: the disk does not give them, or the file got shorter.
        """
        path = self.paths[shard]
        try:
            file = self._open.get(shard) or self._opened(shard)
            content = os.pread(file.descriptor, length, offset)
        except OSError as error:
            raise MachineError(f"{fault_in_words(error, path)}.\n{advice_on(error)}") from error
        if len(content) < length:
            raise MachineError(
                f"{path}: ends before byte {offset + length}; it was longer when work began.\n"
                f"See what is left: alexnet verify {path.parent}"
            )
        return content

    def has_changed(self, shard: int) -> bool:
        """Tell whether a shard was written to, or replaced, since it was first read."""
        try:
            return _stamp(self._opened(shard).descriptor) != self._stamps[shard]
        except OSError:
            return True

    def _opened(self, shard: int) -> "OpenFile":
        file = OpenFile(os.open(self.paths[shard], os.O_RDONLY))
        with self._lock:
            self._stamps.setdefault(shard, _stamp(file.descriptor))
            if len(self._open) >= self._max_open:
                del self._open[next(iter(self._open))]
            self._open[shard] = file
        return file


def _files_allowed(wanted: int) -> int:
    """Return how many files may be open here, half of the limit, which is raised if it can be."""
    limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    raised = 2 * wanted if most == resource.RLIM_INFINITY else min(2 * wanted, most)
    if 0 <= limit < raised:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, most))
            limit = raised
    return limit // 2 if limit >= 0 else wanted


@dataclass(slots=True)
class OpenFile:
    """A file that is closed once no thread reads it any more."""

    descriptor: int

    def __del__(self) -> None:
        os.close(self.descriptor)


def _stamp(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_size, status.st_mtime_ns


def shard_faults(
    folder: Path, split: str, shards: Sequence[Shard], samples: np.ndarray
) -> list[str]:
    """Look at every shard of a split in little time: is it there, as long, and the right one?

    Args:
        samples: rows of the sample index, in stored order.

    Returns:
        What is wrong, each with the shard's name; shards too many are among it.
    """
    ends = np.cumsum([shard.num_samples for shard in shards], dtype=np.int64).tolist()
    firsts = [
        samples[end - shard.num_samples :][:1] for shard, end in zip(shards, ends, strict=True)
    ]
    pairs = list(zip(shards, firsts, strict=True))
    faults = thread_map(lambda pair: _fault(folder, split, *pair), pairs, NUM_THREADS)
    known = {shard.name for shard in shards}
    extra = sorted({path.name for path in folder.glob(f"{split}-*.tar")} - known)
    return [*filter(None, faults), *(f"{name}: index.json does not know it" for name in extra)]


def _fault(folder: Path, split: str, shard: Shard, first: np.ndarray) -> str:
    path = folder / shard.name
    found = path.stat().st_size if path.is_file() else None
    if found != shard.num_bytes:
        what = "missing" if found is None else f"{found} bytes"
        return f"{shard.name}: {what}, index.json says {shard.num_bytes}"
    if not shard.num_samples:
        return ""
    _, offset, _, _, number = first[0].item()[:5]
    with path.open("rb", buffering=0) as file:
        file.seek(offset - BLOCK)
        name = file.read(BLOCK)[:100].rstrip(b"\0").decode("latin-1")
    expected = f"{split}-{number:08d}.jpg"
    return "" if name == expected else f"{shard.name}: begins with {name!a}, not {expected}"
