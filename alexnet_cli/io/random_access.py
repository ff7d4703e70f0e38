"""Files read at any position by many threads, on systems with and without `pread`."""

import os
import threading
from pathlib import Path
from typing import Any

BINARY = getattr(os, "O_BINARY", 0)  # without it Windows changes line ends
NEVER_BLOCKS = getattr(os, "O_NONBLOCK", 0)  # opening a pipe would wait for its other end


def open_for_reading(path: Path, flags: int = 0) -> int:
    """Return the descriptor of a file, which no process that is started inherits."""
    return os.open(path, os.O_RDONLY | BINARY | flags)


class RandomAccessFile:
    """A file that is closed once no thread reads it any more."""

    __slots__ = ("_descriptor", "_lock")

    def __init__(self, path: Path):
        self._descriptor = -1  # where opening fails
        self._descriptor = open_for_reading(path)
        self._lock = threading.Lock()  # of the position, where reading moves it

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def read(self, length: int, offset: int) -> bytes:
        """Return bytes at a position; fewer at the end of the file."""
        if hasattr(os, "pread"):
            return os.pread(self._descriptor, length, offset)
        with self._lock:
            os.lseek(self._descriptor, offset, os.SEEK_SET)
            return os.read(self._descriptor, length)

    def read_into(self, array: Any, offset: int) -> int:
        """Fill contiguous memory, such as an array's; return the number of bytes read."""
        memory = memoryview(array).cast("B")
        if hasattr(os, "preadv"):
            return os.preadv(self._descriptor, [memory], offset)
        content = self.read(len(memory), offset)
        memory[: len(content)] = content
        return len(content)

    def stamp(self) -> tuple[int, int]:
        """Return size and modification time."""
        status = os.fstat(self._descriptor)
        return status.st_size, status.st_mtime_ns
