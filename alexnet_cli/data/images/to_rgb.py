"""An image of any mode that Pillow has opened -> uint8 RGB.

Transparent images get a white background; gray ones of 16 bits are scaled to 8.

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


def rgb_pixels(image: Image.Image) -> np.ndarray:
    """Return the pixels of an image that Pillow has opened: uint8 RGB (H, W, 3).

    They are made a band at a time: a large image is never in memory twice.

    Raises:
        ImageError: `unsupported-variant`. Pillow raises its own errors on damage.
    """
    with _silence() if image.format == "TIFF" else nullcontext():
        image.load()  # a TIFF may be rotated, and then has another size
    width, height = image.size
    shift, is_negative = _bits_to_drop(image), _is_wide_negative(image)
    pixels_HWC = np.empty((height, width, 3), np.uint8)
    rows = max(1, BAND_PIXELS // width)
    for top in range(0, height, rows):
        bottom = min(height, top + rows)
        band = image.crop((0, top, width, bottom))
        pixels_HWC[top:bottom] = np.asarray(_to_rgb(band, shift, is_negative))
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


def _bits_to_drop(image: Any) -> int | None:
    """Return the low bits that a wide gray image has beyond 8; None if it is not wide.

    `convert` would clip it at 255, so that a 16-bit image became white.
    """
    if image.mode.startswith("I;16"):
        return 8
    if image.mode == "L" and SIGNED in _tiff_tag(image, SAMPLE_FORMAT, ()):
        raise ImageError("unsupported-variant", "pixels of 8 bits with a sign")
    if image.mode not in ("I", "F"):
        return None
    low, high = image.getextrema()
    if image.mode == "F" or low < 0 or high > 65535:
        raise ImageError("unsupported-variant", f"pixels of mode {image.mode}: {low} to {high}")
    return 8 if high > 255 else 0


def _is_wide_negative(image: Image.Image) -> bool:
    """Return whether 0 is white in a wide gray TIFF; Pillow inverts narrow ones itself."""
    return image.mode.startswith("I;16") and _tiff_tag(image, PHOTOMETRIC) == WHITE_IS_ZERO


def _tiff_tag(image: Any, number: int, default: Any = None) -> Any:
    return image.tag_v2.get(number, default) if image.format == "TIFF" else default


def _to_rgb(image: Image.Image, shift: int | None, is_negative: bool) -> Image.Image:
    if shift is not None:
        wide = np.asarray(image)
        gray = ((~wide if is_negative else wide) >> shift).astype(np.uint8)
        # Some versions of numpy 2.0 to 2.2 crash where a big-endian array is compared with -1.
        if (clear := image.info.get("transparency")) is not None:
            gray[wide == clear] = 255
        return Image.fromarray(gray).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")
