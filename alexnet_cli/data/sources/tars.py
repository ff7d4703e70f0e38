"""The plain files of a tar, read in place.

Python's tarfile takes a damaged header for the end of an archive and says nothing, so after each
archive we look at what it stopped on: only the two zero blocks of a real end are accepted.
"""

import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from alexnet_cli.data.images.decode import MAX_FILE_BYTES
from alexnet_cli.data.shards.tar_layout import BLOCK
from alexnet_cli.data.sources.source import SourceImage, count_ignored
from alexnet_cli.errors import SourceError
from alexnet_cli.io.tar import MAX_HEADER_BYTES, TAR_FAULTS, Headers

PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"PK\3\4": "zip"}


def list_members(
    path: Path, file: BinaryIO, start: int, end: int, ignored: dict[str, int]
) -> Iterator[tarfile.TarInfo]:
    """Yield the regular files of the tar that lies at `start`..`end` of `file`.

    Raises:
        SourceError: it ends early or is damaged.
    """
    _refuse_packed(path, file, start)
    position = start
    try:
        # Not closed: closing the TarFile must not close the file it shares.
        headers = Headers(file)
        tar = tarfile.TarFile(fileobj=headers)
        while (member := tar.next()) is not None:
            headers.left = MAX_HEADER_BYTES
            tar.members.clear()  # a class has 1,300 members, the release 1.3 million
            previous, position = position, tar.offset
            if not previous < position <= end:  # a negative size would lead back for ever
                raise SourceError(_ends_early(path, member.name, end))
            is_plain = member.isreg() and not member.issparse()
            if is_plain and (member.size <= MAX_FILE_BYTES or member.name.endswith(".tar")):
                yield member
            elif not member.isdir():
                count_ignored(ignored, "tar member that is no plain file")
    except TAR_FAULTS as error:
        why = "one header after another" if isinstance(error, RecursionError) else error
        raise SourceError(f"{path}: damaged at byte {position} ({why}).") from error
    _check_end(path, file, position, end)


def _refuse_packed(path: Path, file: BinaryIO, start: int) -> None:
    file.seek(start)
    magic = file.read(BLOCK)
    file.seek(start)
    for packed, name in PACKED.items():
        if magic.startswith(packed):
            raise SourceError(
                f"{path}: a {name} file, not a tar.\nNothing was written. Unpack it and run again."
            )


def list_whole_tar(path: Path, ignored: dict[str, int]) -> list[tarfile.TarInfo]:
    """Return the regular files of a tar.

    Raises:
        SourceError: it ends early or is damaged.
    """
    with path.open("rb") as file:
        return list(list_members(path, file, 0, path.stat().st_size, ignored))


def check_whole_tar(path: Path) -> None:
    """Read all headers of a tar, and see that nothing but zeros follows them.

    A hole of zeros, as a broken download leaves it, reads like the end of a tar.

    Raises:
        SourceError: if it is cut, damaged, compressed or empty.
    """
    with path.open("rb") as file:
        num_members = sum(1 for _ in list_members(path, file, 0, path.stat().st_size, {}))
        end = file.tell()  # after the two blocks of zeros that end a tar
        while content := file.read(1 << 20):
            if content.strip(b"\0"):
                raise SourceError(f"{path}: zeros in place of a header before byte {end}.")
    if not num_members:
        raise SourceError(f"{path}: an empty archive.")


def image_of(path: Path, prefix: str, member: tarfile.TarInfo, label: int) -> SourceImage:
    """Return the image that is a member of the tar `path`; `prefix` comes before its name."""
    folder, slash, name = member.name.rpartition("/")
    parent = sys.intern(prefix + folder + slash)  # one string for all its images
    return SourceImage(name, path, member.offset_data, member.size, label, parent)


def _check_end(path: Path, file: BinaryIO, position: int, end: int) -> None:
    """A tar ends with two blocks of zeros; anything else is a cut or a damaged header."""
    file.seek(position)
    tail = file.read(min(2 * BLOCK, max(0, end - position)))
    if len(tail) < 2 * BLOCK or tail.strip(b"\0"):
        raise SourceError(_ends_early(path, f"byte {position}", end))


def _ends_early(path: Path, where: str, end: int) -> str:
    return (
        f"{path}: the archive is cut or damaged at {where} (of {end} bytes).\n"
        "Nothing was written. Download it again, or compare its MD5 with the download page."
    )
