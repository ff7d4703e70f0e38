"""Files appear whole or not at all: temporary name, fsync, rename, fsync of the folder."""

import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

PARTIAL_SUFFIX = ".partial"


@contextmanager
def write_atomically(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing that gets its name `path` only when the block ends without error.

    An existing file at `path` is replaced at that moment, or kept if the block raises.
    """
    # Threads, and processes of other machines, may write the same file at the same time.
    writer = f"{secrets.token_hex(8)}.{os.getpid()}"
    partial = path.with_name(f"{path.name}.{writer}{PARTIAL_SUFFIX}")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        _sync_folder(path.parent)
    except BaseException as error:
        with suppress(OSError):  # the first error is the one to report
            partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename in (None, str(partial)):
            error.filename = str(path)  # a full disk does not name the file
        raise


def write_bytes(path: Path, content: bytes) -> None:
    """Write one file atomically."""
    with write_atomically(path) as file:
        file.write(content)


def write_checksummed(path: Path, content: dict) -> None:
    """Write a dict as JSON below its SHA-256, atomically."""
    text = json.dumps(content).encode("ascii")
    write_bytes(path, hashlib.sha256(text).hexdigest().encode() + b"\n" + text)


def read_checksummed(path: Path) -> dict | None:
    """Return what `write_checksummed` wrote; None if missing or different from its SHA-256."""
    try:
        seal, _, text = path.read_bytes().partition(b"\n")
    except OSError:
        return None
    if hashlib.sha256(text).hexdigest().encode() != seal:
        return None
    return json.loads(text)


def move_into_place(path: Path, target: Path) -> None:
    """Rename a complete file of the same disk to its final name, replacing any file there."""
    path.replace(target)
    _sync_folder(target.parent)


def remove_partial(folder: Path) -> None:
    """Remove incomplete files of processes that have ended; the folder must be locked."""
    for leftover in folder.rglob(f"*{PARTIAL_SUFFIX}"):
        with suppress(OSError):
            leftover.unlink()


def _sync_folder(folder: Path) -> None:
    if not hasattr(os, "O_DIRECTORY"):  # Windows opens no folders
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
