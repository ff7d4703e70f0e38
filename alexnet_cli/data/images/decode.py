"""An image file of any format -> its pixels as uint8 RGB, or the reason why it is rejected.

No file is trusted: memory and time are known from its header, or bounded while it is read. The
format is recognized by the content, never by a name, and no program is started. Neither signals nor
limits of the process are used, so any thread may decode.

Images are used as stored: an EXIF rotation is ignored, as in every published ImageNet figure,
unless the rules apply it. Of several images in a file the first is used.
"""

import io
import logging
import os
import stat
import warnings
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
from PIL import Image

from alexnet_cli.data.images.jpeg_header import ARITHMETIC, SCAN, JpegHeader, read_jpeg_header
from alexnet_cli.data.images.orientation import find_orientation, turned
from alexnet_cli.data.images.strip_metadata import (
    PNG_SIGNATURE,
    bare_jpeg,
    bare_png,
    check_tiff,
    ends_within_box,
    ends_within_tags,
    png_significant_bits,
)
from alexnet_cli.data.images.to_rgb import rgb_pixels
from alexnet_cli.data.images.truncation import check_loaded, check_opened
from alexnet_cli.errors import ImageError, brief
from alexnet_cli.io.disk import LFS_POINTER, is_ours
from alexnet_cli.io.random_access import NEVER_BLOCKS, open_for_reading
from alexnet_cli.types import USUAL_RULES, DecodeRules

logging.getLogger("PIL").addHandler(logging.NullHandler())  # what it logs is also raised
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
JP2, CODESTREAM = b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"  # of JPEG 2000
OUR_FORMATS = {
    b"\xff\xd8\xff": "JPEG",
    PNG_SIGNATURE: "PNG",
    b"GIF8": "GIF",
    JP2: "JPEG 2000",
    CODESTREAM: "JPEG 2000",
}
HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
CUT = "the file ends before its parts do"
OTHER_FORMATS = {
    b"%!PS": "EPS",
    b"\xc5\xd0\xd3\xc6": "EPS",
    b"%PDF": "PDF",
    b"<svg": "SVG",
    b"<?xml": "XML or SVG",
    b"8BPS": "PSD",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL": "JPEG XL",
    b"II\xbc\x01": "JPEG XR",
    b"\0\0\1\0": "ICO",
    b"DDS ": "DDS",
}
REASONS = (
    "empty",
    "not-an-image",
    "format-not-accepted",
    "truncated",
    "corrupt",
    "too-many-pixels",
    "unsupported-variant",
    "unreadable",
)
STRIPS, TILES = 273, 324  # TIFF tags: offsets of the pieces
KINDS = (0xC0, 0xC1, 0xC2, 0xC3, 0xC9, 0xCA)  # of JPEG frames that libjpeg-turbo can decode
SLOW_CODECS = ("bmp_rle", "ppm", "ppm_plain", "jpeg2k")  # as Pillow calls them
MAX_FILE_BYTES = 1 << 28  # a hundred million pixels without compression
MAX_PIXELS = 1 << 27  # 134 million: 400 MB as RGB
# The peak for a file and its pixels: a prep worker stays below 1 GiB.
MAX_MEMORY = 880 << 20
# Peak bytes for decoding a pixel, our RGB included; measured as resident size.
BYTES_PER_PIXEL = {
    "PNG": 8,
    "GIF": 8,
    "BMP": 10,
    "TIFF": 16,
    "WEBP": 17,
    "AVIF": 17,
    "HEIF": 17,
    "PPM": 24,
    "JPEG2000": 32,
}
# Pixels times scans. A scan costs up to 0.7 ns per pixel, arithmetic coding up to eight times that,
# so no JPEG takes more than some seconds; a usual one has at most ten scans.
MAX_SCANNED_PIXELS = 1 << 32
ARITHMETIC_COST = 8
# Of BMPs in run-length code and of PPMs, which Pillow decodes in Python in about 0.5 us per pixel;
# of JPEG 2000, which takes up to 1 us.
MAX_SLOW_PIXELS = 1 << 24
# Pillow reads what is before and between the pixels in Python, some us per step, and keeps a list.
MAX_READS = 1 << 20
MAX_REREADS = 4  # of the whole file; an index can point at the same bytes without end


def read_file(path: Path) -> bytes:
    """Return the content of one image file.

    Raises:
        ImageError: if it cannot be read, is not a plain file, or is larger than any image.
    """
    try:
        descriptor = open_for_reading(path, NEVER_BLOCKS)
        try:
            return _read_whole(descriptor)
        finally:
            os.close(descriptor)
    except FileNotFoundError as error:
        raise ImageError("unreadable", "no such file") from error
    except ValueError as error:  # a zero byte in the name
        raise ImageError("unreadable", str(error)) from error
    except OSError as error:
        if is_ours(error):
            raise
        raise ImageError("unreadable", error.strerror or str(error)) from error


def _read_whole(descriptor: int) -> bytes:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise ImageError("unreadable", "not a file")
    if status.st_size > MAX_FILE_BYTES:
        raise ImageError("too-many-pixels", f"over {MAX_FILE_BYTES >> 20} MB")
    content = os.read(descriptor, status.st_size)
    while 0 < len(content) < status.st_size:
        more = os.read(descriptor, status.st_size - len(content))
        if not more:
            break
        content += more
    return content


def decode(
    content: bytes, rules: DecodeRules = USUAL_RULES, noted: dict[str, int] | None = None
) -> np.ndarray:
    """Decode an image file to uint8 RGB (H, W, 3).

    simplejpeg decodes the plain JPEGs; what it refuses (damage, other kinds) goes to Pillow, which
    decides.

    Args:
        noted: images that other rules would change are counted in it: `rotated`, `dim-gray-BITS`.

    Raises:
        ImageError: with one of `REASONS`.
    """
    if not content:
        raise ImageError("empty", "0 bytes")
    pixels = _decode_as_stored(content, rules, noted)
    orientation = find_orientation(content) if rules.apply_orientation or noted is not None else 1
    if orientation != 1 and noted is not None:
        noted["rotated"] = noted.get("rotated", 0) + 1
    return turned(pixels, orientation) if rules.apply_orientation else pixels


def _decode_as_stored(
    content: bytes, rules: DecodeRules, noted: dict[str, int] | None
) -> np.ndarray:
    header = read_jpeg_header(content) if content[:2] == b"\xff\xd8" else None
    try:
        if header is not None:
            _check_jpeg(header, len(content))
            try:
                return simplejpeg.decode_jpeg(content, colorspace="RGB")
            except ValueError:
                pass  # Pillow decides
        return _decode_with_pillow(content, header, rules, noted)
    except MemoryError as error:
        raise ImageError("too-many-pixels", "out of memory") from error


def _check_jpeg(header: JpegHeader, file_bytes: int) -> None:
    """Refuse a JPEG of an unsupported kind, or one that would take too much memory or time."""
    if header.precision != 8 or header.kind not in KINDS or not header.height:
        detail = f"JPEG of kind {header.kind:x}, {header.precision} bits, {header.height} rows"
        raise ImageError("unsupported-variant", detail)
    width, height, scans = header.width, header.height, header.num_scans
    cmyk = 4 if header.num_components == 4 else 0
    _check_size(width, height, 3 + cmyk + _coefficient_bytes(header), file_bytes)
    if not header.is_whole:
        raise ImageError("truncated", "a color of the JPEG has no scan")
    cost = ARITHMETIC_COST if header.kind in ARITHMETIC and not header.in_one_scan else 1
    if width * height * scans * cost > MAX_SCANNED_PIXELS:
        raise ImageError("too-many-pixels", f"{scans} scans of {width} x {height}")


def _coefficient_bytes(header: JpegHeader) -> int:
    """Return the bytes per pixel of coefficients kept until the last scan, two each."""
    return 0 if header.in_one_scan else 2 * header.num_components


def _check_size(width: int, height: int, bytes_per_pixel: int, file_bytes: int = 0) -> None:
    memory = file_bytes + width * height * bytes_per_pixel
    if width * height > MAX_PIXELS or memory > MAX_MEMORY:
        raise ImageError("too-many-pixels", f"{width} x {height}")


class _MeteredFile(io.BytesIO):
    """A file in memory that raises an ImageError if it is read too often or too much."""

    def __init__(self, content: bytes):
        super().__init__(content)
        self._reads = MAX_READS
        self._bytes = MAX_REREADS * len(content) + (1 << 20)

    def read(self, size: int | None = -1) -> bytes:
        content = super().read(size)
        self._reads -= 1
        self._bytes -= len(content)
        if self._reads < 0 or self._bytes < 0:
            raise ImageError("corrupt", "too much beside the pixels")
        return content


def _decode_with_pillow(
    content: bytes, header: JpegHeader | None, rules: DecodeRules, noted: dict[str, int] | None
) -> np.ndarray:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # corrupt EXIF and size hints; sizes are checked here
            bare = _bare(content)
            with Image.open(_MeteredFile(bare), formats=_formats_of(content)) as image:
                held = len(content) + (len(bare) if bare is not content else 0)
                _check_opened(image, content, header, held)
                check_opened(image)
                bits = png_significant_bits(content) if image.format == "PNG" else None
                pixels = rgb_pixels(image, rules.gray_bits, bits, noted)
                check_loaded(image, bare)
                return pixels
    except (ImageError, MemoryError):
        raise
    except Image.UnidentifiedImageError as error:
        raise _explain_unidentified(content) from error
    except Image.DecompressionBombError as error:
        raise ImageError("too-many-pixels", brief(error)) from error
    except Exception as error:  # Pillow's plugins raise OSError, ValueError, SyntaxError...
        if _is_cut(content):
            raise ImageError("truncated", CUT) from error
        raise ImageError(_reason(error), brief(error)) from error


def _reason(error: Exception) -> str:
    said = str(error).lower()
    if isinstance(error, NotImplementedError) or "unsupported" in said:
        return "unsupported-variant"
    return "truncated" if "truncated" in said else "corrupt"


def _formats_of(content: bytes) -> tuple[str, ...]:
    """Return the formats to try: HEIC too, if that is what it is and pillow-heif is installed."""
    if content[4:8] != b"ftyp":
        return FORMATS
    avif: Any = import_module("PIL.AvifImagePlugin")
    avif.DEFAULT_MAX_THREADS = 1  # there is a worker for each core
    if content[8:12] in HEIC_BRANDS and "HEIF" not in Image.OPEN:
        with suppress(ImportError):
            import_module("pillow_heif").register_heif_opener()
    return (*FORMATS, "HEIF") if "HEIF" in Image.OPEN else FORMATS


def _bare(content: bytes) -> bytes:
    """Return a file without parts that could cost more than its pixels."""
    if content.startswith(b"\xff\xd8"):
        return bare_jpeg(content)
    if content.startswith(PNG_SIGNATURE):
        return bare_png(content)
    if content[:2] in (b"II", b"MM"):
        check_tiff(content)
    return content


def _check_opened(image: Any, content: bytes, header: JpegHeader | None, held: int) -> None:
    """Refuse an image by its header; no pixel has been decoded yet.

    Args:
        held: bytes of the file, and of copies of it, that are in memory.
    """
    width, height = image.size
    per_pixel = BYTES_PER_PIXEL.get(image.format)
    if per_pixel is None:  # a JPEG, or several in one file
        if header is None:
            raise ImageError("corrupt", "a JPEG whose header cannot be followed")
        per_pixel = 7 + _coefficient_bytes(header)
    _check_size(width, height, per_pixel, held)
    codec = image.tile[0].codec_name if image.tile else ""
    if codec in SLOW_CODECS and width * height > MAX_SLOW_PIXELS:
        raise ImageError("too-many-pixels", f"{width} x {height} in a code that is slow to decode")
    if image.format == "TIFF" and "jpeg" in str(image.info.get("compression")):
        _check_jpeg_pieces(image, content)


def _check_jpeg_pieces(image: Any, content: bytes) -> None:
    """Refuse a TIFF of JPEG pieces that have too many scans or repeat."""
    width, height = image.size
    starts = image.tag_v2.get(STRIPS) or image.tag_v2.get(TILES) or ()
    pixels = width * height // max(1, len(starts))
    if len(set(starts)) < len(starts) or pixels * content.count(SCAN) > MAX_SCANNED_PIXELS:
        raise ImageError("too-many-pixels", f"scans of {width} x {height} in a TIFF")


def _explain_unidentified(content: bytes) -> ImageError:
    for magic, kind in OUR_FORMATS.items():
        if content.startswith(magic):
            return ImageError("corrupt", f"a {kind} header that cannot be read")
    if _is_cut(content):
        return ImageError("truncated", CUT)
    if content[:4] in TIFF_SIGNATURES:
        return ImageError("unsupported-variant", "a TIFF that cannot be read")
    if content.startswith(LFS_POINTER):
        return ImageError("not-an-image", "a Git LFS pointer: fetch the image with git lfs pull")
    name = next((name for magic, name in OTHER_FORMATS.items() if content.startswith(magic)), None)
    if content[4:8] == b"ftyp":
        name = content[8:12].decode("ascii", "replace").upper()
        if content[8:12] in HEIC_BRANDS:
            name = "HEIC, which is read after pip install pillow-heif"
    if name:
        return ImageError("format-not-accepted", name)
    return ImageError("not-an-image", f"starts with {content[:8]!r}")


def _is_cut(content: bytes) -> bool:
    """Return whether the end of a TIFF, JPEG 2000, AVIF or HEIC file is missing."""
    if content[:4] in TIFF_SIGNATURES:
        return ends_within_tags(content)
    if content.startswith(CODESTREAM):
        return not content.endswith(b"\xff\xd9")
    return (content.startswith(JP2) or content[4:8] == b"ftyp") and ends_within_box(content)
