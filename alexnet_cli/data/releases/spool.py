"""Pictures copied out of files that cannot be read in place, so that a shuffle of all of them can.

A spool file is made whole or not at all; a prep that was interrupted keeps those it has.
"""

import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from alexnet_cli.atomic import write_atomically
from alexnet_cli.errors import ImageError, MachineError
from alexnet_cli.progress import Progress

ENTRY = np.dtype("<u8")  # where a row's bytes end; those of the next begin there


@dataclass(frozen=True, slots=True)
class SpoolFile:
    """One file to make.

    Attributes:
        num_bytes: about how large it becomes.
        write: writes its content.
    """

    path: Path
    num_bytes: int
    write: Callable[[BinaryIO], None]


def fill_spool(
    files: Sequence[SpoolFile], progress: Progress, check_stopped: Callable[[], None] = lambda: None
) -> None:
    """Make every file that is not there yet.

    Args:
        check_stopped: called between files; whatever it raises ends the work.

    Raises:
        MachineError: the disk has not the room.
    """
    missing = [file for file in files if not file.path.exists()]
    if not missing:
        return
    folder = files[0].path.parent
    folder.mkdir(parents=True, exist_ok=True)
    needed = sum(file.num_bytes for file in missing)
    _check_room(folder, needed)
    progress.say(
        f"copying pictures to {folder}: {_gigabytes(needed)} more of disk, until prep is done"
    )
    with progress.track("copying", len(missing)) as bar:
        for file in missing:
            check_stopped()
            with write_atomically(file.path) as output:
                file.write(output)
            bar.advance(note=file.path.name)


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise MachineError(
            f"{folder}: {_gigabytes(needed)} are needed while prep is at work, "
            f"{_gigabytes(free)} are free.\nMake room, or name a folder on another disk."
        )


def _gigabytes(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:,.1f} GB" if num_bytes >= 1e8 else f"{num_bytes / 1e6:,.1f} MB"


def write_rows(file: BinaryIO, rows: Iterable[bytes], num_rows: int) -> None:
    """Write a table of where each row lies, and the rows."""
    bounds = np.zeros(num_rows + 1, ENTRY)
    bounds[0] = bounds.nbytes
    file.seek(bounds.nbytes)
    for number, content in enumerate(rows):
        file.write(content)
        bounds[number + 1] = bounds[number] + len(content)
    file.seek(0)
    file.write(bounds.tobytes())


def read_row(file: BinaryIO, row: int) -> bytes:
    """Return one row of what `write_rows` wrote.

    Raises:
        ImageError: `truncated`.
    """
    file.seek(row * ENTRY.itemsize)
    bounds = np.frombuffer(file.read(2 * ENTRY.itemsize), ENTRY)
    if len(bounds) == 2:
        start, end = bounds.tolist()
        file.seek(start)
        content = file.read(end - start)
        if len(content) == end - start:
            return content
    raise ImageError("truncated", f"the spool ends before row {row}")
