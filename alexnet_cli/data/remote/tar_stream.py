"""The images and notes of a tar that others made, read once from its first byte to its last.

webdataset reads a member before it looks at its size, and takes a damaged header for the end of a
tar. Here sizes come first, and only blocks of zeros up to the last byte are an end. Nothing is
extracted, and members of other kinds (.pkl, .pyd, links, ...) are passed over unread.
"""

import hashlib
import tarfile
from collections.abc import Iterator
from typing import Protocol

from alexnet_cli.errors import DatasetError

IMAGES = ("jpg", "jpeg", "png", "webp")
NOTES = ("cls", "json", "txt")
MAX_PICTURE_BYTES = 1 << 24
MAX_NOTE_BYTES = 1 << 20
HEADER_BYTES = 1 << 20  # that a member's headers may have
BUFFER_BYTES = 1 << 16
_EXTENDED = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


class Source(Protocol):
    """Bytes in their order; none mean the end."""

    def read(self, count: int) -> bytes:
        """Return at most `count` bytes."""


def key_and_extension(name: str) -> tuple[str, str]:
    """Split a member's name at its first dot, as webdataset does."""
    folder, slash, base = name.rpartition("/")
    stem, _, extension = base.partition(".")
    return folder + slash + stem, extension.lower()


class TarStream:
    """One tar from a source.

    Attributes:
        digest: SHA-256 of the bytes read so far; of the whole tar after the last member.
        num_bytes: how many they are.
    """

    def __init__(self, source: Source, name: str):
        self.name, self.digest, self.num_bytes = name, hashlib.sha256(), 0
        self._source, self._may_read, self._in_members = source, 0, True

    def members(self) -> Iterator[tuple[str, bytes]]:
        """Yield name and content of the images and notes.

        Raises:
            DatasetError: the tar is cut or damaged, or a member is sparse or too large.
        """
        try:
            self._may_read = HEADER_BYTES
            tar = tarfile.open(  # noqa: SIM115 - the source is not ours to close
                fileobj=self, mode="r|", bufsize=BUFFER_BYTES, tarinfo=_Header
            )
            while (member := tar.next()) is not None:
                self._may_read = self.num_bytes + member.size + HEADER_BYTES
                if member.isreg() and self._is_wanted(member):
                    yield member.name, tar.extractfile(member).read()
                tar.members.clear()
            self._check_end(tar)
        except tarfile.TarError as error:
            raise self._damaged(str(error)) from error

    def read(self, count: int) -> bytes:
        """Return bytes for tarfile; it must not go on for ever where a tar lies about itself."""
        content = self._source.read(count)
        self.num_bytes += len(content)
        self.digest.update(content)
        if self._in_members and not content:
            raise self._damaged("it ends early")
        if self._in_members and self.num_bytes > self._may_read + BUFFER_BYTES:
            raise self._damaged("a header without end")
        return content

    def _is_wanted(self, member: tarfile.TarInfo) -> bool:
        _, extension = key_and_extension(member.name)
        limit = MAX_PICTURE_BYTES if extension in IMAGES else MAX_NOTE_BYTES
        if extension not in IMAGES + NOTES:
            return False
        if member.issparse() or member.size > limit:
            what = "sparse" if member.issparse() else f"{member.size} bytes, at most {limit} are"
            raise DatasetError(f"{self.name}: {member.name[:80]!a} is {what} read.")
        return True

    def _check_end(self, tar: tarfile.TarFile) -> None:
        """Read on to the last byte: there must be nothing but zeros."""
        self._in_members = False
        while content := tar.fileobj.read(BUFFER_BYTES):
            if content.strip(b"\0"):
                raise self._damaged("zeros in place of a header")

    def _damaged(self, why: str) -> DatasetError:
        return DatasetError(f"{self.name}: cut, damaged or compressed at {self.num_bytes}: {why}.")


class _Header(tarfile.TarInfo):
    """A header that is no end of a tar unless it is all zeros."""

    @classmethod
    def frombuf(cls, buf: bytes, encoding: str, errors: str) -> "_Header":
        try:
            header = super().frombuf(buf, encoding, errors)
        except tarfile.EOFHeaderError:
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from error
        if header.type == tarfile.GNUTYPE_SPARSE:
            raise tarfile.ReadError(f"{header.name[:80]!a} is sparse")
        if header.type in _EXTENDED and header.size > HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {header.size} bytes")
        return header
