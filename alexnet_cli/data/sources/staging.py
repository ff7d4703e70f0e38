"""Copies of images from files that cannot be read in place, so that they can be shuffled.

A staged file is made whole or not at all; an interrupted prep keeps those it has.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from alexnet_cli.errors import ImageError
from alexnet_cli.io.atomic import write_atomically
from alexnet_cli.io.disk import check_room, size_in_words
from alexnet_cli.io.progress import Progress

ENTRY = np.dtype("<u8")  # the byte at which a row ends and the next begins


@dataclass(frozen=True, slots=True)
class StagedFile:
    """One file to make."""

    path: Path
    num_bytes: int  # about
    write: Callable[[BinaryIO], None]  # writes its content


def missing_bytes(files: Sequence[StagedFile]) -> int:
    """Return about how many bytes the files have that are not there yet."""
    return sum(file.num_bytes for file in files if not file.path.exists())


class _Stoppable:
    """A file whose writing a stop request ends."""

    def __init__(self, file: BinaryIO, check_stopped: Callable[[], None]):
        self._file, self._check_stopped = file, check_stopped
        self.seek = file.seek

    def write(self, content: bytes) -> int:
        self._check_stopped()
        return self._file.write(content)


def fill_staging(
    files: Sequence[StagedFile],
    progress: Progress,
    check_stopped: Callable[[], None] = lambda: None,
    *,
    force: bool = False,
) -> None:
    """Make every file that is not there yet.

    Args:
        check_stopped: called before every write; it may raise to end the work.
        force: begin even if the disk looks too small; otherwise a MachineError is raised.
    """
    missing = [file for file in files if not file.path.exists()]
    if not missing:
        return
    folder = missing[0].path.parent
    needed = missing_bytes(missing)
    folder.mkdir(parents=True, exist_ok=True)
    if not force:
        what = "copies of the images, removed when prep is done, need"
        check_room(folder, needed, what, "Make room, or name a folder on another disk.")
    progress.say(
        f"copying images to {folder}: {size_in_words(needed)} more of disk, until prep is done"
    )
    with progress.track("copying", len(missing)) as bar:
        for file in missing:
            with write_atomically(file.path) as output:
                file.write(cast(BinaryIO, _Stoppable(output, check_stopped)))
            bar.advance(note=file.path.name)


def write_rows(file: BinaryIO, rows: Iterable[bytes], num_rows: int) -> None:
    """Write a table of the bounds of each row, and the rows."""
    bounds = np.zeros(num_rows + 1, ENTRY)
    bounds[0] = bounds.nbytes
    file.seek(bounds.nbytes)
    for number, content in enumerate(rows):
        file.write(content)
        bounds[number + 1] = bounds[number] + len(content)
    file.seek(0)
    file.write(bounds.tobytes())


def read_row(file: BinaryIO, row: int, _length: int = 0) -> bytes:
    """Return one row of what `write_rows` wrote; b"" where the table had none."""
    file.seek(row * ENTRY.itemsize)
    bounds = np.frombuffer(file.read(2 * ENTRY.itemsize), ENTRY)
    if len(bounds) == 2:
        start, end = bounds.tolist()
        file.seek(start)
        content = file.read(end - start)
        if len(content) == end - start:
            return content
    raise ImageError("truncated", f"the staged file ends before row {row}")
