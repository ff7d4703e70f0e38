"""The bytes of a shard's tar.

Members are KEY.jpg, KEY.cls, KEY.json in this order; a member is a header block of 512 bytes and
its content, padded with zeros to whole blocks; at least two blocks of zeros end the file.
"""

import tarfile
import zlib
from functools import cache
from pathlib import Path
from typing import BinaryIO

Sample = tuple[int, int, int, int, int]  # offset and length of a JPEG, label, number, crc32

BLOCK = tarfile.BLOCKSIZE
END_BYTES = 2 * BLOCK
SUFFIXES = ("jpg", "cls", "json")
SIZE = slice(124, 135)  # eleven octal digits
CHECKSUM = slice(148, 156)  # six octal digits, a zero byte, a space


def header(name: str, num_bytes: int) -> bytes:
    """Return the header of a member, as tarfile writes it with mode 0644 and no owner or time."""
    block = bytearray(_template())
    block[: len(name)] = name.encode("ascii")
    block[SIZE] = b"%011o" % num_bytes
    block[CHECKSUM] = b"%06o\0 " % sum(block)
    return bytes(block)


@cache
def _template() -> bytes:
    """Return a header without name and size, and with spaces as its checksum."""
    member = tarfile.TarInfo()
    member.mode = 0o644
    block = bytearray(member.tobuf(tarfile.USTAR_FORMAT))
    block[SIZE] = bytes(11)
    block[CHECKSUM] = b" " * 8
    return bytes(block)


def sample_members(key: str, contents: tuple[bytes, bytes, bytes]) -> bytes:
    """Return the members KEY.jpg, KEY.cls and KEY.json as a shard stores them."""
    parts = []
    for suffix, content in zip(SUFFIXES, contents, strict=True):
        parts += [header(f"{key}.{suffix}", len(content)), content, bytes(-len(content) % BLOCK)]
    return b"".join(parts)


def end_of_tar(num_bytes: int) -> bytes:
    """Return the zeros that end a tar of this size, up to a whole record of 20 blocks."""
    return bytes(END_BYTES + -(num_bytes + END_BYTES) % tarfile.RECORDSIZE)


def scan_samples(path: Path) -> list[Sample]:
    """Return the samples of a shard whose SHA-256 was compared; nothing else is checked."""
    samples = []
    with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
        members = tar.getmembers()  # KEY.jpg, KEY.cls, KEY.json of each sample
        for image, label in zip(members[::3], members[1::3], strict=True):
            number = int(image.name.removesuffix(".jpg").rpartition("-")[2])
            jpeg, digits = (_content(file, member) for member in (image, label))
            place = image.offset_data, image.size
            samples.append((*place, int(digits), number, zlib.crc32(jpeg)))
    return samples


def _content(file: BinaryIO, member: tarfile.TarInfo) -> bytes:
    file.seek(member.offset_data)
    return file.read(member.size)
