"""The blocks that a shard of ours must have: every header, label and filling byte is known.

Members are KEY.jpg, KEY.cls, KEY.json in this order; a member is a header block and its content,
filled with zeros to whole blocks; at least two blocks of zeros end the file. So a tar is walked
without trusting a single size in it, and whole arrays of headers are compared at once.

N headers; a block has 512 bytes.
"""

import re
import tarfile
import zlib
from dataclasses import dataclass
from functools import cache
from typing import BinaryIO

import numpy as np

BLOCK = tarfile.BLOCKSIZE
END_BYTES = 2 * BLOCK
MAX_CONTENT = 1 << 28  # no JPEG of a 4096-pixel picture comes near it
SUFFIXES = ("jpg", "cls", "json")
NAME = re.compile(r"(?P<key>(?P<split>[a-z]+)-(?P<number>\d{8}))\.(jpg|cls|json)")
SIZE = slice(124, 135)  # eleven octal digits
CHECKSUM = slice(148, 156)
FIELDS = {
    "name": slice(0, 100),
    "mode": slice(100, 108),
    "owner": slice(108, 124),
    "size": slice(124, 136),
    "time": slice(136, 148),
    "type": slice(156, 157),
    "magic": slice(257, 265),
    "link": slice(157, 257),
    "owner's name": slice(265, 345),
    "prefix": slice(345, 512),
    "header checksum": CHECKSUM,
}


def filled(length: np.ndarray | int) -> np.ndarray | int:
    """Return a content's bytes with those that fill its last block."""
    return (length + BLOCK - 1) // BLOCK * BLOCK


def headers(names: list[str], sizes: np.ndarray) -> np.ndarray:
    """Return the header blocks that `make_shard` writes: uint8 (N, 512)."""
    template = _template()
    blocks = np.tile(template, (len(names), 1))
    width = max(map(len, names), default=1)
    blocks[:, :width] = np.array(names, f"S{width}").view(np.uint8).reshape(-1, width)
    blocks[:, SIZE] = _octal(sizes, 11)
    sums = (blocks[:, part].sum(axis=1, dtype=np.int64) for part in (slice(0, width), SIZE))
    blocks[:, 148:154] = _octal(sum(sums) + template.sum(dtype=np.int64), 6)
    blocks[:, 154] = 0
    return blocks


def sample_members(key: str, contents: tuple[bytes, bytes, bytes]) -> bytes:
    """Return the members KEY.jpg, KEY.cls and KEY.json as they lie in a shard."""
    names = [f"{key}.{suffix}" for suffix in SUFFIXES]
    blocks = headers(names, np.array([len(content) for content in contents]))
    parts = []
    for header, content in zip(blocks, contents, strict=True):
        parts += [header.tobytes(), content, bytes(-len(content) % BLOCK)]
    return b"".join(parts)


def end_of_tar(num_bytes: int) -> bytes:
    """Return the zeros that end a tar of so many bytes, up to a whole record of 20 blocks."""
    return bytes(END_BYTES + -(num_bytes + END_BYTES) % tarfile.RECORDSIZE)


@cache
def _template() -> np.ndarray:
    """Return a header without name and size; in the place of its checksum are spaces."""
    member = tarfile.TarInfo()
    member.mode = 0o644
    block = np.frombuffer(member.tobuf(tarfile.USTAR_FORMAT), np.uint8).copy()
    block[SIZE], block[CHECKSUM] = 0, ord(" ")
    return block


def differing(expected: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Return which of N blocks differ."""
    return np.flatnonzero((expected.view(np.uint64) != found.view(np.uint64)).any(axis=1))


def not_filled(last: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return which contents' last blocks hold more than zeros behind them."""
    filling = last & _filling_masks()[(sizes - 1) % BLOCK]
    return np.flatnonzero(filling.view(np.uint64).any(axis=1))


@cache
def _filling_masks() -> np.ndarray:
    """Return for 1..512 used bytes of a block those that are not."""
    used = np.arange(1, BLOCK + 1)
    return np.where(np.arange(BLOCK) < used[:, None], 0, 255).astype(np.uint8)


def _octal(numbers: np.ndarray, digits: int) -> np.ndarray:
    shifts = np.arange(3 * (digits - 1), -1, -3)
    return ((numbers[:, None] >> shifts & 7) + ord("0")).astype(np.uint8)


def sizes_in(blocks: np.ndarray) -> np.ndarray:
    """Return the sizes that header blocks tell, int64 (N,); -1 where there is no number."""
    digits = blocks[:, SIZE].astype(np.int64) - ord("0")
    powers = 1 << np.arange(30, -1, -3)
    return np.where(((digits >= 0) & (digits < 8)).all(axis=1), digits @ powers, -1)


def text_blocks(texts: list[str]) -> np.ndarray:
    """Return short contents, each filled to one block: uint8 (N, 512)."""
    return np.array(texts, f"S{BLOCK}").view(np.uint8).reshape(-1, BLOCK)


def compare_headers(expected: bytes, found: bytes) -> tuple[str, str]:
    """Say in words what two header blocks differ in: what is expected, what is found."""
    if not found.strip(b"\0"):
        return f"the header of {_text(expected[FIELDS['name']])}", "a block of zeros"
    for field, place in FIELDS.items():
        if expected[place] != found[place]:
            shown = _text(expected[place]), _text(found[place])
            if shown[0] == shown[1]:
                shown = expected[place].hex(), found[place].hex()
            return f"{field} {shown[0]}", f"{field} {shown[1]}"
    return "a header", "the same"


def _text(content: bytes) -> str:
    return ascii(content.rstrip(b"\0 ").decode("latin-1"))[:60]


@dataclass
class TarFault(Exception):  # noqa: N818 - a finding, not a failure of ours
    """The first thing in a tar that does not belong there.

    Attributes:
        key: of the sample it is in; empty before the first.
    """

    key: str
    what: str
    expected: str
    found: str


def scan_samples(file: BinaryIO) -> list[tuple[int, int, int, int, int]]:
    """Walk a shard from its first block to its last, without any index.

    Returns:
        (offset, length, label, number, crc32) of each sample, as in a `ShardRecord`.

    Raises:
        TarFault: anything but whole samples, one after the other, and zeros.
    """
    samples, key = [], ""
    file.seek(0)
    while (header := file.read(BLOCK)).strip(b"\0"):
        match = NAME.fullmatch(header[:100].rstrip(b"\0").decode("latin-1"))
        if match is None:
            raise TarFault(key, "a member's name", "the next sample", _text(header[:100]))
        key = match["key"]
        offset, jpeg = file.tell(), _read_member(file, header, key, "jpg")
        label = _read_member(file, file.read(BLOCK), key, "cls")
        _read_member(file, file.read(BLOCK), key, "json")
        if not label.isdigit():
            raise TarFault(key, "the label in KEY.cls", "digits", _text(label))
        number = int(match["number"])
        samples.append((offset, len(jpeg), int(label), number, zlib.crc32(jpeg)))
    _check_end(file, header, key)
    return samples


def _read_member(file: BinaryIO, header: bytes, key: str, suffix: str) -> bytes:
    name = f"{key}.{suffix}"
    if len(header) < BLOCK:
        raise TarFault(key, f"the header of {name}", f"{BLOCK} bytes", f"{len(header)}")
    size = max(0, int(sizes_in(np.frombuffer(header, np.uint8)[None])[0]))
    expected = headers([name], np.array([size])).tobytes()
    if header != expected:
        raise TarFault(key, f"the header of {name}", *compare_headers(expected, header))
    content = file.read(min(filled(size), MAX_CONTENT))
    if len(content) < filled(size):
        raise TarFault(key, f"the content of {name}", f"{size} bytes", f"{len(content)}")
    if content[size:].strip(b"\0"):
        raise TarFault(key, f"after the content of {name}", "zeros", "other bytes")
    return content[:size]


def _check_end(file: BinaryIO, block: bytes, key: str) -> None:
    num_zeros = len(block)
    while content := file.read(1 << 20):
        if content.strip(b"\0"):
            position = file.tell() - len(content.lstrip(b"\0"))
            raise TarFault(key, "after the last sample", "zeros", f"other bytes at {position}")
        num_zeros += len(content)
    if num_zeros < END_BYTES:
        raise TarFault(key, "the end of the tar", "two blocks of zeros", f"{num_zeros} bytes")
