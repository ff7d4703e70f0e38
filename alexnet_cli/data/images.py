"""One picture of any kind -> the paper's 256x256 RGB (section 2), and its JPEG.

The shorter side is resized to 256, then the central 256x256 is kept. The filter is bicubic with
antialiasing (the paper names none). Two resizers give the same pixels within one grey level:
torch's uint8 one (prep) and Pillow's (predict, which must not wait two seconds for torch).

Pictures are used right side up as stored: an EXIF rotation is ignored, as in every published
ImageNet figure. Transparent pictures are laid on white, 16-bit ones scaled to 8.
"""

import io
import os
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import simplejpeg
from PIL import Image

from alexnet_cli.errors import ImageError

IMAGE_SIZE = 256
JPEG_QUALITY = 90
FULL_COLOUR_QUALITY = 95
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
MAX_PIXELS = 1 << 27  # 134 million: 400 MB as RGB
MAX_FILE_BYTES = 1 << 28
MAX_ASPECT = 8  # beyond it the ends of the longer side are cut before resizing
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

Resizer = Callable[[np.ndarray, int, int], np.ndarray]


def to_square(
    content: bytes, size: int = IMAGE_SIZE, *, resize: Resizer | None = None
) -> np.ndarray:
    """Decode a picture, resize its shorter side to `size` and keep the central square.

    Returns:
        uint8 RGB, (size, size, 3), 0..255, C-contiguous.

    Raises:
        ImageError: with one of `REASONS`.
    """
    pixels = cut_ends(decode(content))
    height, width = fit_shorter_side(*pixels.shape[:2], size)
    if (height, width) != pixels.shape[:2]:
        pixels = (resize or resize_with_pillow)(pixels, height, width)
    top, left = round((height - size) / 2), round((width - size) / 2)
    return np.ascontiguousarray(pixels[top : top + size, left : left + size])


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


def cut_ends(pixels: np.ndarray) -> np.ndarray:
    """Cut the longer side down to `MAX_ASPECT` times the shorter, around the centre.

    Only the central square is kept anyway; a 1x65500 picture must not be resized as a whole.
    """
    height, width = pixels.shape[:2]
    longest = MAX_ASPECT * min(height, width)
    top, left = max(0, height - longest) // 2, max(0, width - longest) // 2
    return pixels[top : height - top, left : width - left]


def resize_with_pillow(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize uint8 HWC with Pillow's antialiased bicubic filter."""
    resized = Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(resized)


def resize_with_torch(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize uint8 HWC with torch's antialiased bicubic filter: Pillow's pixels, 4x as fast."""
    import torch

    image_NCHW = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1).unsqueeze(0)
    resized = torch.nn.functional.interpolate(
        image_NCHW, size=(height, width), mode="bicubic", antialias=True
    )
    return resized[0].permute(1, 2, 0).numpy()


def decode(content: bytes) -> np.ndarray:
    """Decode a picture file to uint8 RGB (H, W, 3).

    The format is read from the content, never from a name. simplejpeg takes the plain JPEGs;
    whatever it refuses (CMYK, PNG, broken headers) goes to Pillow, whose word is final.

    Raises:
        ImageError: with one of `REASONS`.
    """
    if not content:
        raise ImageError("empty", "0 bytes")
    if content[:2] == b"\xff\xd8":
        try:
            height, width, _, _ = simplejpeg.decode_jpeg_header(content)
            _check_pixels(width, height)
            return simplejpeg.decode_jpeg(content, colorspace="RGB")
        except ValueError:
            pass  # Pillow decides
    return _decode_with_pillow(content)


def read_file(path: Path) -> bytes:
    """Read one picture file whole.

    Raises:
        ImageError: it cannot be read, is not a plain file, or is larger than any picture.
    """
    try:
        if not path.is_file():
            raise ImageError("unreadable", "no such file" if not path.exists() else "not a file")
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size > MAX_FILE_BYTES:
                raise ImageError("too-many-pixels", f"over {MAX_FILE_BYTES >> 20} MB")
            return file.read()
    except OSError as error:
        raise ImageError("unreadable", error.strerror or str(error)) from error


def _check_pixels(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ImageError("too-many-pixels", f"{width} x {height}")


def _decode_with_pillow(content: bytes) -> np.ndarray:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # corrupt EXIF and size hints; sizes are checked here
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                _check_pixels(*image.size)
                return np.array(_to_rgb(image))  # a copy: torch takes no read-only pixels
    except ImageError:
        raise
    except Image.UnidentifiedImageError as error:
        raise _explain_unidentified(content) from error
    except (OSError, EOFError) as error:
        reason = "truncated" if "truncated" in str(error).lower() else "corrupt"
        raise ImageError(reason, _one_line(error)) from error
    except Image.DecompressionBombError as error:
        raise ImageError("too-many-pixels", _one_line(error)) from error
    except NotImplementedError as error:
        raise ImageError("unsupported-variant", _one_line(error)) from error
    except (
        Exception
    ) as error:  # Pillow's plugins raise ValueError, SyntaxError, TypeError, struct.error...
        raise ImageError("corrupt", _one_line(error)) from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        return _scale_16_bit(image).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")


def _scale_16_bit(image: Image.Image) -> Image.Image:
    """Map 16-bit grey to 8 bits by its high byte; `convert` would clip at 255."""
    grey = np.asarray(image)
    if image.mode == "F" or grey.min() < 0 or grey.max() > 65535:
        raise ImageError("unsupported-variant", f"pixels of mode {image.mode} outside 0..65535")
    return Image.fromarray((grey >> 8).astype(np.uint8))


def _explain_unidentified(content: bytes) -> ImageError:
    if content[:3] == b"\xff\xd8\xff":
        return ImageError("corrupt", "a JPEG header that cannot be read")
    other = {b"%!PS": "EPS", b"%PDF": "PDF", b"<svg": "SVG", b"8BPS": "PSD"}
    if (name := other.get(content[:4])) is not None:
        return ImageError("format-not-accepted", name)
    return ImageError("not-an-image", f"starts with {content[:8]!r}")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:120]
