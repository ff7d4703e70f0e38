"""The bytes of a shard's tar, headers of many members at once.

Members are KEY.jpg, KEY.cls, KEY.json in this order; a member is a header block and its content,
filled with zeros to whole blocks; at least two blocks of zeros end the file.

N headers; a block has 512 bytes.
"""

import tarfile
import zlib
from functools import cache
from pathlib import Path

import numpy as np

BLOCK = tarfile.BLOCKSIZE
END_BYTES = 2 * BLOCK
SUFFIXES = ("jpg", "cls", "json")
SIZE = slice(124, 135)  # eleven octal digits
CHECKSUM = slice(148, 156)


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


def _octal(numbers: np.ndarray, digits: int) -> np.ndarray:
    shifts = np.arange(3 * (digits - 1), -1, -3)
    return ((numbers[:, None] >> shifts & 7) + ord("0")).astype(np.uint8)


def scan_samples(path: Path) -> list[tuple[int, int, int, int, int]]:
    """Return (offset, length, label, number, crc32) of each sample of a whole shard.

    Its bytes are known by their hash, so nothing is checked here.
    """
    samples: dict[str, list[int]] = {}
    with tarfile.open(path, "r:") as tar:
        for member in tar:
            key, _, suffix = member.name.partition(".")
            content = tar.extractfile(member).read()
            if suffix == "jpg":
                number = int(key.rpartition("-")[2])
                samples[key] = [member.offset_data, member.size, 0, number, zlib.crc32(content)]
            elif suffix == "cls":
                samples[key][2] = int(content)
    return [tuple(sample) for sample in samples.values()]
