"""The header of a JPEG, read without decoding it.

A decoder passes over the whole image once for each scan of a progressive JPEG, and an empty scan
takes ten bytes: so the scans are counted beforehand.
"""

import re
from dataclasses import dataclass

MARKER = re.compile(rb"\xff+([^\x00\xff])")  # any number of fill bytes may precede a code
SCAN = b"\xff\xda"  # never part of a scan's own data, where ff is followed by 00 or a restart
SOI, EOI, SOS, TEM = 0xD8, 0xD9, 0xDA, 0x01
RESTARTS = range(0xD0, 0xD8)
FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}  # F7 is JPEG-LS; those are tables
PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
ARITHMETIC = range(0xC9, 0xD0)
MAX_COMPONENTS = 4  # that a decoder takes
MAX_SEGMENTS = 10_000  # the longest real headers, an image's color profile, have some hundred


@dataclass(frozen=True, slots=True)
class JpegHeader:
    """The frame of a JPEG.

    Attributes:
        kind: the code of its frame marker, 0xC0 for the plain kind.
        precision: bits per sample.
        num_scans: number of scans; 1 if one has all the pixels.
        is_whole: every component, brightness or color, has a first scan.
    """

    kind: int
    precision: int
    height: int
    width: int
    num_components: int
    num_scans: int
    is_whole: bool

    @property
    def in_one_scan(self) -> bool:
        """Whether rows can be decoded one by one, without the whole image in memory."""
        return self.num_scans == 1 and self.kind not in PROGRESSIVE


def read_jpeg_header(content: bytes) -> JpegHeader | None:
    """Return the header of a JPEG; None if no scan follows a frame, as in one that is damaged."""
    frame = None
    position = 2
    for _ in range(MAX_SEGMENTS):
        found = MARKER.search(content, position)
        if found is None or found[1][0] == EOI:
            return None
        code, position = found[1][0], found.end()
        if code == SOS:
            return _with_scans(content, frame, position) if frame else None
        if code in RESTARTS or code in (SOI, TEM):
            continue
        if code in FRAMES:
            frame = code, content[position + 2 : position + 8 + 3 * MAX_COMPONENTS]
        position += max(2, int.from_bytes(content[position : position + 2], "big"))
    return None


def _with_scans(content: bytes, frame: tuple[int, bytes], position: int) -> JpegHeader | None:
    kind, fields = frame
    if len(fields) < 6 or len(content) <= position + 2:
        return None
    components = fields[5]
    several = kind in PROGRESSIVE or content[position + 2] < components
    names = set(fields[6 : 6 + 3 * components : 3])
    return JpegHeader(
        kind=kind,
        precision=fields[0],
        height=int.from_bytes(fields[1:3], "big"),
        width=int.from_bytes(fields[3:5], "big"),
        num_components=components,
        num_scans=content.count(SCAN, position - 2) if several else 1,
        is_whole=not several or _is_whole(content, kind, names, position),
    )


def _is_whole(content: bytes, kind: int, components: set[int], position: int) -> bool:
    """Return whether every component has a first scan; decoders leave it gray otherwise.

    Args:
        components: their names in the frame.
        position: after the marker of the first scan.
    """
    for _ in range(MAX_SEGMENTS):
        names_end = position + 3 + 2 * content[position + 2] if position + 2 < len(content) else 0
        first, _, bits = content[names_end : names_end + 3].ljust(3, b"\xff")
        if kind not in PROGRESSIVE or (first == 0 and bits < 0x10):  # the other scans refine
            components = components - set(content[position + 3 : names_end : 2])
        position = content.find(SCAN, position) + len(SCAN)
        if not components or position < len(SCAN):
            break
    return not components
