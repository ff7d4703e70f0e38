"""The few files of a small tar, packed or not, read whole: a development kit's, CIFAR's.

What a header claims is not believed: names, files and the whole have limits.
"""

import bz2
import gzip
import lzma
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

MAX_HEADER_BYTES = 1 << 20  # of one member; a name that takes more is none
MAX_UNPACKED_BYTES = 1 << 30
PIECE = 1 << 20
OPENERS = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
# What tarfile and the modules that unpack raise on damage; ValueError and so on are tarfile's own.
TAR_FAULTS = (
    tarfile.TarError,
    OSError,
    EOFError,
    RecursionError,
    ValueError,
    LookupError,
    ArithmeticError,
    zlib.error,
    lzma.LZMAError,
)


class Headers:
    """What tarfile reads of a file; it would load any length that a header claims for a name."""

    def __init__(self, file: BinaryIO):
        self._file, self.left = file, MAX_HEADER_BYTES
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int) -> bytes:
        self.left -= size
        if self.left < 0:
            raise tarfile.ReadError(f"a header of over {MAX_HEADER_BYTES >> 20} MB")
        return self._file.read(size)


def read_small_tar(
    path: Path, key_of: Callable[[str], str | None], max_bytes: int
) -> dict[str, bytes]:
    """Return the files that are asked for, to the tar's last byte, where gzip has its checksum.

    Args:
        key_of: the key of a member's name in what is returned; None for one to pass over.
        max_bytes: of a file; longer ones are passed over.

    Raises:
        TAR_FAULTS: it is no tar, or damaged.
    """
    with path.open("rb") as packed:
        magic = packed.read(8)
        opener = next((o for start, o in OPENERS.items() if magic.startswith(start)), None)
        packed.seek(0)
        with opener(packed) if opener else packed as file:
            return _read(file, key_of, max_bytes)


def _read(file: BinaryIO, key_of: Callable[[str], str | None], max_bytes: int) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    headers = Headers(file)
    tar = tarfile.TarFile(fileobj=headers)
    while (member := tar.next()) is not None:
        headers.left = MAX_HEADER_BYTES
        tar.members.clear()
        if not member.offset < tar.offset <= MAX_UNPACKED_BYTES:
            raise tarfile.ReadError(f"{member.name[:80]!r} of {member.size} bytes")
        is_plain = member.isreg() and not member.issparse()
        key = key_of(member.name) if is_plain and member.size <= max_bytes else None
        if key is not None:
            file.seek(member.offset_data)
            found[key] = file.read(member.size)
    for _ in range(MAX_UNPACKED_BYTES // PIECE):
        if not file.read(PIECE):
            return found
    raise tarfile.ReadError(f"over {MAX_UNPACKED_BYTES >> 30} GB")
