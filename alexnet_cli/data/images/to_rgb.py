"""An image of any mode that Pillow has opened -> uint8 RGB.

Transparent images get a white background; gray ones of 16 bits are scaled to 8, by the bits that
the file says are in use, else by one rule for all images.

H rows, W columns.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
from PIL import Image

from alexnet_cli.errors import ImageError

BAND_PIXELS = 1 << 20  # processed at once
PHOTOMETRIC, WHITE_IS_ZERO = 262, 0  # a TIFF tag and its value
SAMPLE_FORMAT, SIGNED = 339, 2
BITS_PER_SAMPLE, MAX_SAMPLE_VALUE = 258, 281
DIM_BITS = 14  # a gray image of 16 bits that uses no more of them becomes dark
DIM_GRAY = "dim-gray-"


def rgb_pixels(
    image: Image.Image,
    gray_bits: int | None = None,
    png_bits: int | None = None,
    noted: dict[str, int] | None = None,
) -> np.ndarray:
    """Return the pixels of an image that Pillow has opened: uint8 RGB (H, W, 3).

    They are made a band at a time: a large image is never in memory twice.

    Args:
        gray_bits: bits in use of wide gray images that do not say it; by default 16.
        png_bits: what the sBIT chunk of a PNG says.
        noted: images that the default makes dark are counted in it, as `dim-gray-BITS`.

    Raises:
        ImageError: `unsupported-variant`. Pillow raises its own errors on damage.
    """
    with _silence() if image.format == "TIFF" else nullcontext():
        image.load()  # a TIFF may be rotated, and then has another size
    width, height = image.size
    bits, is_negative = _wide_bits(image, gray_bits, png_bits, noted), _is_wide_negative(image)
    pixels_HWC = np.empty((height, width, 3), np.uint8)
    rows = max(1, BAND_PIXELS // width)
    for top in range(0, height, rows):
        bottom = min(height, top + rows)
        band = image.crop((0, top, width, bottom))
        pixels_HWC[top:bottom] = np.asarray(_to_rgb(band, bits, is_negative))
    return pixels_HWC


@contextmanager
def _silence() -> Iterator[None]:
    """Keep libtiff's messages off the terminal."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _wide_bits(
    image: Any, chosen: int | None, png_bits: int | None, noted: dict[str, int] | None
) -> int | None:
    """Return the bits that a wide gray image uses; None if it is not wide.

    `convert` would clip it at 255, so that a 16-bit image became white.
    """
    if image.mode == "L" and SIGNED in _tiff_tag(image, SAMPLE_FORMAT, ()):
        raise ImageError("unsupported-variant", "pixels of 8 bits with a sign")
    if image.mode not in ("I", "F") and not image.mode.startswith("I;16"):
        return None
    pixels = np.asarray(image)
    low, high = pixels.min().item(), pixels.max().item()
    stated = None if image.mode == "F" else _stated_bits(image, png_bits, pixels, high)
    bits = stated or chosen or 16
    if image.mode == "F" or low < 0 or high >= 1 << bits:
        values = f"values {low} to {high}, over {bits} bits" if image.mode != "F" else "fractions"
        raise ImageError("unsupported-variant", f"gray pixels of mode {image.mode}: {values}")
    if noted is not None and not (stated or chosen) and high.bit_length() <= DIM_BITS:
        key = f"{DIM_GRAY}{high.bit_length()}"
        noted[key] = noted.get(key, 0) + 1
    return max(8, bits)


def _stated_bits(image: Any, png_bits: int | None, pixels: np.ndarray, high: int) -> int | None:
    """Return the bits that a wide gray image uses, as far as its file says it."""
    if image.format in ("PPM", "JPEG2000"):
        return 16  # Pillow has scaled it
    if image.format == "PNG" and png_bits and png_bits < 16:
        # The high bits are meant, but many writers fill the low ones.
        is_low = high < 1 << png_bits and (pixels & ((1 << 16 - png_bits) - 1)).any()
        return png_bits if is_low else 16
    for tag in (MAX_SAMPLE_VALUE, BITS_PER_SAMPLE):
        value = _tiff_tag(image, tag)
        value = value[0] if isinstance(value, tuple) else value
        bits = value.bit_length() if tag == MAX_SAMPLE_VALUE and value else value
        if bits and 8 <= bits < 16 and high < 1 << bits:
            return bits
    return None


def _is_wide_negative(image: Image.Image) -> bool:
    """Return whether 0 is white in a wide gray TIFF; Pillow inverts narrow ones itself."""
    return image.mode.startswith("I;16") and _tiff_tag(image, PHOTOMETRIC) == WHITE_IS_ZERO


def _tiff_tag(image: Any, number: int, default: Any = None) -> Any:
    return image.tag_v2.get(number, default) if image.format == "TIFF" else default


def _to_rgb(image: Image.Image, bits: int | None, is_negative: bool) -> Image.Image:
    if bits is not None:
        wide = np.asarray(image)
        upright = ((1 << bits) - 1) ^ wide if is_negative else wide
        gray = (upright >> bits - 8).astype(np.uint8)
        # Some versions of numpy 2.0 to 2.2 crash where a big-endian array is compared with -1.
        if (clear := image.info.get("transparency")) is not None:
            gray[wide == clear] = 255
        return Image.fromarray(gray).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        straight = image.convert("LA") if image.mode == "La" else image  # Pillow has no La -> RGBA
        layer = straight.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")
