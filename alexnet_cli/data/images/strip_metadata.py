"""Removes metadata from image files: texts, color profiles, previews, camera notes.

Metadata does not change the pixels, but it can be endless, compressed a thousandfold, or point at
itself; so Pillow never reads it. From a TIFF it cannot be removed, so its tags are checked.
"""

import struct
from collections.abc import Iterator
from contextlib import suppress

from alexnet_cli.data.images.jpeg_header import EOI, MARKER, MAX_SEGMENTS, RESTARTS, SOI, SOS, TEM
from alexnet_cli.errors import ImageError

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_METADATA = {*range(0xE1, 0xEE), 0xEF, 0xFE}  # APP0 and APP14 define the color space
MAX_CHUNKS = 1 << 18  # of a PNG; 256 MB in the usual 8 kB have 2^15
MAX_TAG_VALUES = 1 << 17  # of one TIFF tag; 65,536 strips of one row have half as many
BYTE_TYPES = (1, 2, 6, 7)  # values that Pillow keeps as one piece
INNER_TAGS = (34665, 34853, 40965)  # Exif, GPS, interoperability: more tags elsewhere
MAX_DIRECTORIES = 8
MAX_TAGS = 1 << 16  # of a directory
CLASSIC, BIG = ("L", "H", "HHL4s"), ("Q", "Q", "HHQ8s")  # an offset, a count, a tag


def bare_jpeg(content: bytes) -> bytes:
    """Return a JPEG without comments and application data, unchanged where it is damaged."""
    kept = [content[:2]]
    position = 2
    for _ in range(MAX_SEGMENTS):
        found = MARKER.search(content, position)
        if found is None or found[1][0] in (SOS, EOI):
            break
        code, position = found[1][0], found.end()
        if code in RESTARTS or code in (SOI, TEM):
            kept.append(b"\xff" + found[1])
            continue
        end = position + max(2, int.from_bytes(content[position : position + 2], "big"))
        if code not in JPEG_METADATA:
            kept += [b"\xff" + found[1], content[position:end]]
        position = end
    return b"".join([*kept, content[position:]])


def bare_png(content: bytes) -> bytes:
    """Return a PNG with only the chunks of its pixels, an animation's first image."""
    kept = [content[:8]]
    rest = 8
    for kind, start, end in png_chunks(content):
        if kind[:1].isupper() or kind == b"tRNS" or end > len(content):
            kept.append(content[start:end])
        rest = end
    return b"".join([*kept, content[rest:]])


def png_chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, start and end of each chunk before IEND; the last may end beyond the file.

    Raises:
        ImageError: `corrupt`, if there are more chunks than any image has.
    """
    start = len(PNG_SIGNATURE)
    for _ in range(MAX_CHUNKS):
        header = content[start : start + 8]
        if len(header) < 8 or header[4:] == b"IEND":
            return
        end = start + 12 + int.from_bytes(header[:4], "big")
        yield header[4:], start, end
        start = end
    raise ImageError("corrupt", f"over {MAX_CHUNKS} chunks")


def check_tiff(content: bytes) -> None:
    """Raise an ImageError for a TIFF with a tag of more values than an image can need."""
    order = "<" if content[:2] == b"II" else ">"
    layouts = [BIG] if content[2:4] == b"+\0" else [CLASSIC] + [BIG] * (content[2:4] == b"\0+")
    for layout in layouts:
        with suppress(struct.error):  # it ends too early; Pillow reports that
            _check_directories(content, *(struct.Struct(order + part) for part in layout))


def _check_directories(
    content: bytes, offset: struct.Struct, count: struct.Struct, entry: struct.Struct
) -> None:
    waiting = [offset.unpack_from(content, offset.size)[0]]
    for _ in range(MAX_DIRECTORIES):
        if not waiting:
            return
        start = waiting.pop()
        num_tags = min(MAX_TAGS, *count.unpack_from(content, start))
        for number in range(num_tags):
            place = start + count.size + number * entry.size
            tag, kind, num_values, value = entry.unpack_from(content, place)
            if num_values > MAX_TAG_VALUES and kind not in BYTE_TYPES:
                raise ImageError("corrupt", f"TIFF tag {tag} of {num_values} values")
            if tag in INNER_TAGS:
                waiting += offset.unpack_from(value)
    raise ImageError("corrupt", f"over {MAX_DIRECTORIES} TIFF directories in one")
