"""Detects missing pixels that Pillow leaves black without an error."""

import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

from alexnet_cli.data.images.strip_metadata import png_chunks
from alexnet_cli.errors import ImageError

# Left, top, step across, step down of each pass over an interlaced PNG.
ADAM7 = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # per pixel, by the color type of a PNG
PLANES = 284  # TIFF tag: 2 if each color has its own plane
PIECE = 1 << 16  # compressed bytes, decompressed at once


def check_opened(image: Any) -> None:
    """Raise an ImageError for an image without its palette, or pieces that do not cover it."""
    if image.format == "PNG" and image.mode == "P" and image.palette is None:
        raise ImageError("corrupt", "no palette")
    if image.format == "TIFF":
        boxes = [tile.extents for tile in image.tile]
        covered = sum((right - left) * (bottom - top) for left, top, right, bottom in boxes)
        is_planar = image.tag_v2.get(PLANES) == 2 and image.tile[0].codec_name == "raw"
        if covered < image.width * image.height * (len(image.getbands()) if is_planar else 1):
            raise ImageError("truncated", "pieces of the TIFF are missing")


def check_loaded(image: Image.Image, content: bytes) -> None:
    """Raise an ImageError for a PNG whose compressed rows end too early.

    Pillow notices this except at the end of a row. Only files whose last rows are black are
    decompressed again.
    """
    if image.format != "PNG":
        return
    last = np.asarray(image.crop((0, max(0, image.height - 2), *image.size)))
    if all(row.any() for row in last):  # two: an interlaced PNG may end with a whole one
        return
    header = b""
    packed = []
    for kind, start, end in png_chunks(content):
        if kind == b"IHDR":
            header = content[start + 8 : end]
        elif kind == b"IDAT":
            packed.append(memoryview(content)[start + 8 : end - 4])
    if _num_unpacked(packed, needed := _num_bytes(header)) < needed:
        raise ImageError("truncated", "the packed rows of the PNG end too early")


def _num_bytes(header: bytes) -> int:
    """Return how many bytes the rows of a PNG have, each with its filter."""
    width, height, depth, colors, _, _, interlaced = struct.unpack(">IIBBBBB", header[:13])
    total = 0
    for left, top, across, down in ADAM7 if interlaced else ((0, 0, 1, 1),):
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0 and rows > 0:
            total += rows * (1 + (columns * depth * SAMPLES[colors] + 7) // 8)
    return total


def _num_unpacked(packed: list[memoryview], enough: int) -> int:
    """Return the decompressed size of the rows, counted up to `enough`."""
    unpacker, total = zlib.decompressobj(), 0
    for piece in _pieces(packed):
        rest: memoryview | bytes = piece
        while rest and not unpacker.eof and total < enough:
            total += len(unpacker.decompress(rest, 16 * PIECE))
            rest = unpacker.unconsumed_tail
    return total


def _pieces(packed: list[memoryview]) -> Iterator[memoryview]:
    """Yield compressed bytes in small pieces, because the rest of a piece is copied every time."""
    for body in packed:
        for start in range(0, len(body), PIECE):
            yield body[start : start + PIECE]
