"""The samples of a tar that others made, read once from its first byte to its last.

webdataset reads a member before it looks at its size, and takes a damaged header for the end of a
tar. Here sizes come first, and only blocks of zeros up to the last byte are an end. Nothing is
extracted, and members of other kinds (.pkl, .pyd, links, ...) are skipped unread.
"""

import hashlib
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from alexnet_cli.data.sources.labels import MAX_CLASSES
from alexnet_cli.data.sources.samples import (
    IMAGES,
    MAX_IMAGE_BYTES,
    MAX_NOTE_BYTES,
    NOTES,
    key_and_extension,
    read_notes,
)
from alexnet_cli.errors import DatasetError
from alexnet_cli.io.tar import MAX_HEADER_BYTES, Header

BUFFER_BYTES = 1 << 16
_EXTENDED = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


class ByteSource(Protocol):
    """Bytes in their order."""

    def read(self, count: int) -> bytes:
        """Return at most `count` bytes; none at the end."""


@dataclass(frozen=True, slots=True)
class RawSample:
    """An encoded image with its label.

    Attributes:
        tar, key: where it is.
        wnid: the WordNet ID in its name or notes, if there is one.
    """

    tar: str
    key: str
    content: bytes
    label: int
    wnid: str | None


def read_samples(tar: "TarStream") -> Iterator[RawSample]:
    """Yield the samples of a tar; those without an image are skipped.

    Raises:
        InputError: if the tar is damaged, or a sample has no label that a class can have.
        MachineError: if the disk or the network fails.
    """
    from webdataset.tariterators import group_by_keys  # loads torch, two seconds

    members = ({"fname": name, "data": data, "__url__": ""} for name, data in tar.members())
    try:
        for group in group_by_keys(members):
            image = next((extension for extension in group if extension in IMAGES), None)
            if image is not None:
                yield _sample(tar.name, group, image)
    except ValueError as error:
        why = str(error).partition(" {")[0].partition(" dict_keys")[0][:120]
        raise DatasetError(f"{tar.name}: {why!a}.") from error


def _sample(tar: str, group: dict, image: str) -> RawSample:
    key = group["__key__"]
    where = f"{tar}: {key[:80]!a}"
    notes = read_notes(group, f"{key}.{image}", where)
    if notes.label is None:
        raise DatasetError(f"{where}: no label in .cls, .json or .txt.")
    if not 0 <= notes.label < MAX_CLASSES:
        raise DatasetError(f"{where}: label {notes.label}; labels are 0..{MAX_CLASSES - 1}.")
    return RawSample(tar, key, group[image], notes.label, notes.wnid)


class TarStream:
    """One tar from a source.

    Attributes:
        digest: SHA-256 of the bytes read; of the whole tar after the last member.
        num_bytes: number of bytes read.
    """

    def __init__(self, source: ByteSource, name: str):
        self.name, self.digest, self.num_bytes = name, hashlib.sha256(), 0
        self._source, self._may_read, self._in_members = source, 0, True

    def members(self) -> Iterator[tuple[str, bytes]]:
        """Yield name and content of the images and notes.

        Raises:
            DatasetError: if the tar is cut or damaged, or a member is sparse or too large.
        """
        try:
            self._may_read = MAX_HEADER_BYTES
            source: Any = self
            tar: Any = tarfile.open(  # noqa: SIM115 - the caller closes the source
                fileobj=source, mode="r|", bufsize=BUFFER_BYTES, tarinfo=_Header
            )
            while (member := tar.next()) is not None:
                self._may_read = self.num_bytes + member.size + MAX_HEADER_BYTES
                if member.isreg() and self._is_wanted(member):
                    yield member.name, tar.extractfile(member).read()
                tar.members.clear()
            self._check_end(tar)
        except tarfile.TarError as error:
            raise self._damaged(str(error)) from error

    def read(self, count: int) -> bytes:
        """Return bytes for tarfile, which would read without end where a header is wrong."""
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
        limit = MAX_IMAGE_BYTES if extension in IMAGES else MAX_NOTE_BYTES
        if extension not in IMAGES + NOTES:
            return False
        if member.issparse() or member.size > limit:
            what = "sparse" if member.issparse() else f"{member.size} bytes, at most {limit} are"
            raise DatasetError(f"{self.name}: {member.name[:80]!a} is {what} read.")
        return True

    def _check_end(self, tar: Any) -> None:
        """Read to the last byte: there must be nothing but zeros."""
        self._in_members = False
        while content := tar.fileobj.read(BUFFER_BYTES):
            if content.strip(b"\0"):
                raise self._damaged("zeros in place of a header")

    def _damaged(self, why: str) -> DatasetError:
        return DatasetError(f"{self.name}: cut, damaged or compressed at {self.num_bytes}: {why}.")


class _Header(Header):
    """A header that is neither sparse nor longer than any real one."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_Header":
        header = super().frombuf(buf, encoding, errors)
        if header.type == tarfile.GNUTYPE_SPARSE:
            raise tarfile.ReadError(f"{header.name[:80]!a} is sparse")
        if header.type in _EXTENDED and header.size > MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {header.size} bytes")
        return header
