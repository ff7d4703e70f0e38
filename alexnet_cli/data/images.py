"""One picture -> the paper's 256x256 RGB (section 2), and its JPEG.

The shorter side is resized to 256, then the central 256x256 is kept. The filter is bicubic with
antialiasing (the paper names none), first across and then down, as Pillow does it: the pixels are
Pillow's within two grey levels. Only what the crop keeps is computed.

H rows, W columns.
"""

import math

import numpy as np
import simplejpeg
from PIL import Image

from alexnet_cli.data.decoding import BAND_PIXELS, decode

try:
    import cykooz_resizer as simd
except ImportError:  # it has no wheel for every machine
    simd = None

IMAGE_SIZE = 256
JPEG_QUALITY = 90
FULL_COLOUR_QUALITY = 95
RESIZER = "cykooz-resizer" if simd else "pillow"  # the package
REACH = 2  # of the bicubic filter, in pixels of the coarser picture

Box = tuple[float, float, float, float]  # left, top, width, height


def to_square(content: bytes, size: int = IMAGE_SIZE) -> np.ndarray:
    """Decode a picture, resize its shorter side to `size` and keep the central square.

    Returns:
        uint8 RGB, (size, size, 3), 0..255, C-contiguous.

    Raises:
        ImageError: with one of `REASONS`.
    """
    return square(decode(content), size)


def to_jpeg(pixels: np.ndarray, quality: int = JPEG_QUALITY) -> bytes:
    """Encode uint8 RGB (H, W, 3) as JPEG; from quality 95 on its colours keep all their pixels."""
    chroma = "444" if quality >= FULL_COLOUR_QUALITY else "420"
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
        return np.ascontiguousarray(
            pixels[int(top) : int(top) + size, int(left) : int(left) + size]
        )
    first_row, last_row = _reached(top, rows, height, size)
    first, last = _reached(left, columns, width, size)
    needed = pixels[first_row:last_row, first:last]
    narrow = _resize_across(needed, left - first, columns, size)
    return _resize(narrow, size, size, (0, top - first_row, size, rows))


def _central(length: int, fitted: int, size: int) -> tuple[float, float]:
    """Return start and length, in pixels of the picture, of the central `size` of `fitted`."""
    return round((fitted - size) / 2) * length / fitted, size * length / fitted


def _reached(start: float, extent: float, length: int, size: int) -> tuple[int, int]:
    """Return the first and last pixel that the filter looks at, and one beyond for rounding."""
    reach = REACH * max(1.0, extent / size) + 1
    return max(0, math.floor(start - reach)), min(length, math.ceil(start + extent + reach))


def _resize_across(pixels: np.ndarray, left: float, columns: float, size: int) -> np.ndarray:
    """Resize the columns alone, a band of rows at a time: uint8 (H, size, 3)."""
    height, width = pixels.shape[:2]
    rows = max(1, BAND_PIXELS // width)
    bands = [pixels[top : top + rows] for top in range(0, height, rows)]
    done = [_resize(band, len(band), size, (left, 0, columns, len(band))) for band in bands]
    return done[0] if len(done) == 1 else np.concatenate(done)


def resize_with_simd(pixels: np.ndarray, height: int, width: int, box: Box) -> np.ndarray:
    """Resize a box of uint8 RGB as Pillow would, in an eighth of its time."""
    source = simd.ImageData(pixels.shape[1], pixels.shape[0], simd.PixelType.U8x3, pixels.tobytes())
    resized = simd.ImageData(width, height, simd.PixelType.U8x3)
    bicubic = simd.ResizeAlg.convolution(simd.FilterType.catmull_rom)
    options = simd.ResizeOptions(bicubic, use_alpha=False, crop_box=simd.CropBox(*box))
    simd.Resizer().resize(source, resized, options)
    return np.frombuffer(resized.get_buffer(), np.uint8).reshape(height, width, 3)


def resize_with_pillow(pixels: np.ndarray, height: int, width: int, box: Box) -> np.ndarray:
    """Resize a box of uint8 RGB with Pillow."""
    left, top, columns, rows = box
    edges = (left, top, left + columns, top + rows)
    image = Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC, edges)
    return np.asarray(image)


_resize = resize_with_simd if simd else resize_with_pillow
