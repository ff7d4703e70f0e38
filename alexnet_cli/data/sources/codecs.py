"""Readers of an image's bytes from the file that holds them, one for each way of packing.

No length is trusted: a member that unpacks to more than any image is not unpacked.
"""

import io
import struct
import zlib
from collections.abc import Callable
from typing import BinaryIO

import numpy as np
from PIL import Image

from alexnet_cli.data.images.decode import MAX_FILE_BYTES
from alexnet_cli.data.sources.staging import read_row
from alexnet_cli.errors import ImageError

CIFAR_SIDE = 32
CIFAR_BYTES = 3 * CIFAR_SIDE * CIFAR_SIDE
ZIP_HEADER = struct.Struct("<4s5H3I2H")  # a member's local file header, without its name
ZIP_STORED, ZIP_DEFLATED = 0, 8
CRC_FOLLOWS = 1 << 3  # flag: the checksum is behind the data, not in the header


def read_slice(file: BinaryIO, offset: int, length: int) -> bytes:
    """Return `length` bytes at `offset`."""
    file.seek(offset)
    content = file.read(length)
    if len(content) < length:
        raise ImageError("truncated", f"the archive ends {length - len(content)} bytes early")
    return content


def read_zip_member(file: BinaryIO, offset: int, length: int) -> bytes:
    """Return a zip member with its header at `offset` and `length` bytes of packed data."""
    header = ZIP_HEADER.unpack(read_slice(file, offset, ZIP_HEADER.size))
    magic, _, flags, method, _, _, crc, _, _, name_length, extra_length = header
    if magic != b"PK\x03\x04":
        raise ImageError("unreadable", "the zip has no member here")
    packed = read_slice(file, offset + ZIP_HEADER.size + name_length + extra_length, length)
    if flags & CRC_FOLLOWS:
        trailer = file.read(8)
        crc = int.from_bytes(trailer[4:] if trailer[:4] == b"PK\x07\x08" else trailer[:4], "little")
    content = _unpack(packed, method)
    if zlib.crc32(content) != crc:
        raise ImageError("corrupt", "the zip's checksum does not match")
    return content


def _unpack(packed: bytes, method: int) -> bytes:
    if method == ZIP_STORED:
        return packed
    if method != ZIP_DEFLATED:
        raise ImageError("unreadable", f"zip method {method}")
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        content = inflater.decompress(packed, MAX_FILE_BYTES)
    except zlib.error as error:
        raise ImageError("corrupt", f"the zip member cannot be unpacked ({error})") from error
    if not inflater.eof:
        whole = len(content) < MAX_FILE_BYTES
        raise ImageError("truncated", "in the zip") if whole else ImageError("too-many-pixels", "")
    return content


def read_cifar(file: BinaryIO, offset: int, length: int) -> bytes:
    """Return the PNG of 32x32 pixels stored as a red, a green and a blue plane."""
    planes = np.frombuffer(read_slice(file, offset, CIFAR_BYTES), np.uint8)
    pixels_HWC = planes.reshape(3, CIFAR_SIDE, CIFAR_SIDE).transpose(1, 2, 0)
    png = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels_HWC)).save(png, "PNG", compress_level=1)
    return png.getvalue()


# by SourceImage.codec
READERS: dict[str, Callable[[BinaryIO, int, int], bytes]] = {
    "": read_slice,
    "zip": read_zip_member,
    "row": read_row,
    "cifar": read_cifar,
}
