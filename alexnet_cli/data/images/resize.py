"""One image -> the paper's 256x256 RGB (section 2), and its JPEG.

The shorter side is resized to 256, then the central 256x256 is kept. The filter is bicubic with
antialiasing (the paper names none), across and down in Pillow's order: the pixels are Pillow's
within two gray levels. Only pixels that the crop keeps are computed.

H rows, W columns.
"""

import math
from typing import Any

import numpy as np
import simplejpeg
from PIL import Image

from alexnet_cli.data.images.decode import decode
from alexnet_cli.data.images.to_rgb import BAND_PIXELS

try:
    import cykooz_resizer as simd
except ImportError:  # it has no wheel for every machine
    simd = None

IMAGE_SIZE = 256
JPEG_QUALITY = 90
FULL_COLOR_QUALITY = 95
RESIZER = "cykooz-resizer" if simd else "pillow"  # the package
REACH = 2  # of the bicubic filter, in pixels of the coarser image

Span = tuple[float, float]  # start and length in pixels, as fractions


def to_square(content: bytes, size: int = IMAGE_SIZE) -> np.ndarray:
    """Decode an image, resize its shorter side to `size` and keep the central square.

    Returns:
        uint8 RGB, (size, size, 3), 0..255, C-contiguous.

    Raises:
        ImageError: with one of `REASONS`.
    """
    return square(decode(content), size)


def to_jpeg(pixels: np.ndarray, quality: int = JPEG_QUALITY) -> bytes:
    """Encode uint8 RGB (H, W, 3) as JPEG; from quality 95 on without chroma subsampling."""
    chroma = "444" if quality >= FULL_COLOR_QUALITY else "420"
    return simplejpeg.encode_jpeg(
        pixels, quality=quality, colorspace="RGB", colorsubsampling=chroma
    )


def fit_shorter_side(height: int, width: int, size: int) -> tuple[int, int]:
    """Return (height, width) with the shorter one `size` and the ratio kept (floor)."""
    if height <= width:
        return size, max(size, size * width // height)
    return max(size, size * height // width), size


def square(pixels: np.ndarray, size: int) -> np.ndarray:
    """Resize the shorter side of uint8 RGB (H, W, 3) to `size` and keep the central square."""
    height, width = pixels.shape[:2]
    fitted_height, fitted_width = fit_shorter_side(height, width, size)
    top, rows = _central(height, fitted_height, size)
    left, columns = _central(width, fitted_width, size)
    if (fitted_height, fitted_width) == (height, width):
        first_row, first = int(top), int(left)
        return np.ascontiguousarray(pixels[first_row : first_row + size, first : first + size])
    first_row, last_row = _reached(top, rows, height, size)
    first, last = _reached(left, columns, width, size)
    needed = pixels[first_row:last_row, first:last]
    across, down = (left - first, columns), (top - first_row, rows)
    if height - fitted_height > max(
        0, 2 * (width - fitted_width)
    ):  # then Pillow resizes down first
        turned = _resize(needed.transpose(1, 0, 2), size, down, across)
        return np.ascontiguousarray(turned.transpose(1, 0, 2))
    return _resize(needed, size, across, down)


def _central(length: int, fitted: int, size: int) -> Span:
    """Return start and length, in pixels of the image, of the central `size` of `fitted`."""
    return round((fitted - size) / 2) * length / fitted, size * length / fitted


def _reached(start: float, extent: float, length: int, size: int) -> tuple[int, int]:
    """Return the first and last pixel that the filter reads, and one beyond for rounding."""
    reach = REACH * max(1.0, extent / size) + 1
    return max(0, math.floor(start - reach)), min(length, math.ceil(start + extent + reach))


def _bands(pixels: np.ndarray) -> list[np.ndarray]:
    """Return an image as bands of rows; most images have one."""
    height, width = pixels.shape[:2]
    rows = max(1, BAND_PIXELS // width)
    return [pixels[top : top + rows] for top in range(0, height, rows)]


def resize_with_simd(pixels: np.ndarray, size: int, across: Span, down: Span) -> np.ndarray:
    """Resize a box of uint8 RGB to a square as Pillow does, several times as fast."""
    narrow = []
    for band in _bands(pixels):
        rows, columns = band.shape[:2]
        source = simd.ImageData(columns, rows, simd.PixelType.U8x3, band.tobytes())
        narrow.append(_resize_box(source, size, rows, (across[0], 0, across[1], rows)))
    whole = narrow[0]
    if len(narrow) > 1:
        content = b"".join(band.get_buffer() for band in narrow)
        whole = simd.ImageData(size, len(pixels), simd.PixelType.U8x3, content)
    resized = _resize_box(whole, size, size, (0, down[0], size, down[1]))
    return np.frombuffer(resized.get_buffer(), np.uint8).reshape(size, size, 3)


def _resize_box(
    source: Any, width: int, height: int, box: tuple[float, float, float, float]
) -> Any:
    resized = simd.ImageData(width, height, simd.PixelType.U8x3)
    bicubic = simd.ResizeAlg.convolution(simd.FilterType.catmull_rom)
    options = simd.ResizeOptions(bicubic, use_alpha=False, crop_box=simd.CropBox(*box))
    simd.Resizer().resize(source, resized, options)
    return resized


def resize_with_pillow(pixels: np.ndarray, size: int, across: Span, down: Span) -> np.ndarray:
    """Resize a box of uint8 RGB to a square with Pillow."""
    whole, top = Image.new("RGB", (size, len(pixels))), 0
    for band in _bands(pixels):
        box = (across[0], 0, across[0] + across[1], len(band))
        narrow = Image.fromarray(band).resize((size, len(band)), Image.Resampling.BICUBIC, box)
        whole.paste(narrow, (0, top))
        top += len(band)
    rest = (0, down[0], size, down[0] + down[1])
    return np.asarray(whole.resize((size, size), Image.Resampling.BICUBIC, rest))


_resize = resize_with_simd if simd else resize_with_pillow
