"""The EXIF orientation of an image file: how it is turned to be seen upright.

Read without Pillow, which would read all metadata, but for AVIF: its own rotation and mirroring
(irot, imir) are what counts there, and Pillow gives them as an EXIF orientation without turning the
image. Pillow itself turns TIFFs, and pillow-heif HEIC.
"""

import io
import struct
from collections.abc import Iterator

import numpy as np
from PIL import Image

from alexnet_cli.data.images.strip_metadata import PNG_SIGNATURE, png_chunks

ORIENTATION = 0x0112  # the tag
JPEG_EXIF, EXIF_BYTES = b"Exif\0\0", 1 << 16  # of the file's begin, where a JPEG has its EXIF
AVIF = (b"ftypavif", b"ftypavis")
MAX_TAGS, MAX_CHUNKS = 1 << 10, 1 << 10


def find_orientation(content: bytes) -> int:
    """Return the EXIF orientation of a JPEG, PNG, WebP or AVIF, 1 to 8; 1 if there is none."""
    if content[4:12] in AVIF:
        return _avif_orientation(content)
    start = -1
    if content.startswith(b"\xff\xd8"):
        start = content.find(JPEG_EXIF, 0, EXIF_BYTES)
        start += len(JPEG_EXIF) if start >= 0 else 0
    elif content.startswith(PNG_SIGNATURE):
        start = next((at + 8 for kind, at, _ in png_chunks(content) if kind == b"eXIf"), -1)
    elif content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        start = next((at for kind, at in _riff_chunks(content) if kind == b"EXIF"), -1)
        start += len(JPEG_EXIF) if content[start : start + 6] == JPEG_EXIF else 0
    return _read_orientation(content, start) if start >= 0 else 1


def _avif_orientation(content: bytes) -> int:
    """Return the orientation that the boxes of an AVIF file say; its EXIF has no say."""
    try:
        with Image.open(io.BytesIO(content), formats=("AVIF",)) as image:
            value = image.getexif().get(ORIENTATION, 1)
    except Exception:  # Pillow's plugins raise many kinds; decoding will report the fault
        return 1
    return value if value in range(1, 9) else 1


def _riff_chunks(content: bytes) -> Iterator[tuple[bytes, int]]:
    start = 12
    for _ in range(MAX_CHUNKS):
        header = content[start : start + 8]
        if len(header) < 8:
            return
        yield header[:4], start + 8
        num_bytes = int.from_bytes(header[4:], "little")
        start += 8 + num_bytes + num_bytes % 2


def _read_orientation(content: bytes, start: int) -> int:
    """Return the orientation in the first directory of the TIFF block at `start`."""
    order = {b"II": "<", b"MM": ">"}.get(content[start : start + 2])
    if order is None:
        return 1
    try:
        (offset,) = struct.unpack_from(order + "L", content, start + 4)
        (num_tags,) = struct.unpack_from(order + "H", content, start + offset)
        for number in range(min(num_tags, MAX_TAGS)):
            place = start + offset + 2 + 12 * number
            tag, _, _, value = struct.unpack_from(order + "HHLH", content, place)
            if tag == ORIENTATION:
                return value if 1 <= value <= 8 else 1
    except struct.error:  # it ends too early
        pass
    return 1


def turned(pixels_HWC: np.ndarray, orientation: int) -> np.ndarray:
    """Return a view of an image as it is seen upright."""
    if orientation >= 5:  # rows and columns are exchanged
        pixels_HWC = pixels_HWC.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels_HWC = pixels_HWC[::-1]
    if orientation in (2, 3, 6, 7):
        pixels_HWC = pixels_HWC[:, ::-1]
    return pixels_HWC
