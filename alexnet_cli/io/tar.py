"""Reads the headers of a tar, and the few files of a small packed tar.

Python's tarfile takes a damaged header for the end of an archive and raises nothing. Here only two
blocks of zeros end a tar, and sizes that a header claims are limited before anything is read.
"""

import bz2
import gzip
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Self

from alexnet_cli.io.disk import LFS_ADVICE, LFS_POINTER

BLOCK = tarfile.BLOCKSIZE
MAX_HEADER_BYTES = 1 << 20  # of one member, its long name and pax records included
MAX_UNPACKED_BYTES = 1 << 30
PIECE = 1 << 20
OPENERS: dict[bytes, Callable[[Path], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ": lzma.open,
}
# What tarfile and the decompressors raise on damage; from ValueError on, unintended by tarfile.
FAULTS = (
    tarfile.TarError,
    OSError,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    RecursionError,
    ValueError,
    LookupError,
    ArithmeticError,
)


class DamagedTarError(Exception):
    """The tar is cut, damaged or no tar at all."""


class Header(tarfile.TarInfo):
    """A header that counts as the end of the tar only if it is all zeros."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if buf == bytes(BLOCK):
                raise
            why = LFS_ADVICE if buf.startswith(LFS_POINTER) else str(error)
            raise tarfile.ReadError(why) from error


class _MeteredFile:
    """The file as tarfile reads it, with a limit on the bytes of one member's headers."""

    def __init__(self, file: BinaryIO):
        self._file = file
        self.left = MAX_HEADER_BYTES
        self.seek = file.seek
        self.tell = file.tell

    def read(self, size: int) -> bytes:
        self.left -= size
        if self.left < 0:
            raise tarfile.ReadError(f"a header of over {MAX_HEADER_BYTES >> 20} MB")
        return self._file.read(size)


def read_members(
    file: BinaryIO, start: int = 0, end: int = MAX_UNPACKED_BYTES
) -> Iterator[tarfile.TarInfo]:
    """Yield the members of the tar at `start`..`end` of a seekable file, of every kind.

    The file may be moved between two members.

    Raises:
        DamagedTarError: if the tar is cut, damaged or larger than that.
    """
    position = start
    try:
        file.seek(start)
        metered = _MeteredFile(file)
        tar = tarfile.TarFile(fileobj=metered, tarinfo=Header)  # type: ignore[arg-type]
        while (member := tar.next()) is not None:
            metered.left = MAX_HEADER_BYTES
            tar.members.clear()  # type: ignore[attr-defined] # 1.3 million of ImageNet
            if not position < tar.offset <= end:  # a negative size would lead back
                raise tarfile.ReadError(f"{member.name[:80]!r} of {member.size} bytes")
            position = tar.offset
            yield member
        file.seek(position + BLOCK)
        if file.read(BLOCK) != bytes(BLOCK) or position + 2 * BLOCK > end:
            raise tarfile.ReadError("no end")
    except FAULTS as error:
        why = "one header after another" if isinstance(error, RecursionError) else error
        raise DamagedTarError(f"cut or damaged at byte {position} ({why})") from error


def is_plain_file(member: tarfile.TarInfo) -> bool:
    """Return whether a member is a regular file that is stored as its bytes."""
    return member.isreg() and not member.issparse()


def read_small_tar(
    path: Path, key_of: Callable[[str], str | None], max_bytes: int
) -> dict[str, bytes]:
    """Return the content of some files of a tar, packed or not, by key.

    The archive is read to its last byte, where gzip has its checksum.

    Args:
        key_of: returns the key of a member's name; None for a member to leave out.
        max_bytes: of a file; larger ones are left out.

    Raises:
        DamagedTarError: if the tar is cut, damaged or unpacks to more than allowed.
    """
    found: dict[str, bytes] = {}
    try:
        with path.open("rb") as packed:
            magic = packed.read(8)
            opener = next((o for start, o in OPENERS.items() if magic.startswith(start)), None)
            with opener(path) if opener else packed as file:
                for member in read_members(file, end=MAX_UNPACKED_BYTES):
                    key = key_of(member.name) if is_plain_file(member) else None
                    if key is not None and member.size <= max_bytes:
                        file.seek(member.offset_data)
                        found[key] = file.read(member.size)
                for _ in range(MAX_UNPACKED_BYTES // PIECE):
                    if not file.read(PIECE):
                        return found
    except FAULTS as error:
        raise DamagedTarError(str(error)) from error
    raise DamagedTarError(f"over {MAX_UNPACKED_BYTES >> 30} GB")
