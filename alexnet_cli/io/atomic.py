"""Files appear whole or not at all: temporary name, fsync, rename, fsync of the folder."""

import hashlib
import json
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from alexnet_cli.errors import InputError, MachineError, UsageError, hint

PARTIAL_SUFFIX = ".partial"
STDOUT = "standard output"  # as errors name it


@contextmanager
def write_atomically(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing that gets its name `path` only when the block ends without error.

    An existing file at `path` is replaced at that moment, or kept if the block raises. A device or
    pipe, such as /dev/stdout, is written to and never replaced.
    """
    if is_device(path):
        with path.open("wb") as file:
            yield file
        return
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


@contextmanager
def writing_to_stdout() -> Iterator[None]:
    """Name the standard output in errors of the disk behind it, which do not name a file."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or STDOUT
        raise


def is_device(path: Path) -> bool:
    """Return whether a path is a device, a pipe or a socket, or leads to an open file."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    # /dev/stdout is a link to /proc/self/fd/1, which may be a regular file.
    opened = path.is_symlink() and path.readlink().parts[:2] == ("/", "proc")
    return opened or not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def check_new(path: Path, *, force: bool) -> None:
    """Raise an InputError if a file exists and must not be replaced."""
    if path.exists() and not force:
        raise InputError(f"{path} exists.", kept="It is left as it is.", hint=hint("replace_file"))


def check_output(path: Path) -> None:
    """Check that a file can be written, before anything is computed for it; create nothing.

    Raises:
        UsageError: if the path is a folder.
        MachineError: if its folder cannot be created or written to.
    """
    if path.is_dir():
        raise UsageError(f"{path}: a folder.", hint="Name a file in it.")
    folders = path.absolute().parents
    nearest = next(folder for folder in folders if os.path.lexists(folder))
    if not nearest.is_dir():
        raise MachineError(
            f"{path}: its folder cannot be created ({nearest} is a file).",
            hint="Name a file in a folder that can be written to.",
        )
    if not is_device(path) and not os.access(nearest, os.W_OK | os.X_OK):
        raise MachineError(
            f"{path}: no permission to write to its folder.",
            hint="Name a file in a folder that can be written to.",
        )


@contextmanager
def write_output(path: Path) -> Iterator[BinaryIO]:
    """Open a file that a user named as `write_atomically` does; create its folder if missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(path) as file:
        yield file


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
