"""Picture files of every kind and damage: their pixels against Pillow's, or the reason why not."""

import io
import os
import struct
import subprocess
import zlib

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from alexnet_cli.data.decoding import (
    BYTES_PER_PIXEL,
    MAX_MEMORY,
    MAX_PIXELS,
    REASONS,
    decode,
    read_file,
)
from alexnet_cli.errors import ImageError


def picture(height: int, width: int, *, seed: int = 0) -> np.ndarray:
    """Smooth colours with edges and some noise, uint8 RGB (height, width, 3)."""
    rng = np.random.default_rng([seed, height, width])
    small = rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)
    pixels = np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))
    pixels = pixels.astype(int) + rng.integers(-12, 13, (height, width, 1))
    pixels[height // 3 : height // 2, width // 4 :] = (250, 10, 120)
    return pixels.clip(0, 255).astype(np.uint8)


def encoded(pixels: np.ndarray | Image.Image, kind: str = "PNG", **options) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def refusal(content: bytes) -> ImageError:
    with pytest.raises(ImageError) as error:
        decode(content)
    return error.value


def outcome(content: bytes) -> str:
    """Return "a picture", or the reason why it is none."""
    try:
        pixels = decode(content)
    except ImageError as error:
        return error.reason
    return (
        "a picture" if pixels.ndim == 3 and pixels.shape[2] == 3 else "a picture of another shape"
    )


def levels_apart(a: np.ndarray, b: np.ndarray) -> int:
    return int(np.abs(a.astype(int) - b.astype(int)).max())


def png_header(width: int, height: int) -> bytes:
    """A PNG of any stated size with no pixels in it."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT"


def test_grey_becomes_three_equal_channels():
    grey = picture(64, 64)[..., 0]
    np.testing.assert_array_equal(decode(encoded(grey)), np.stack([grey] * 3, axis=-1))


def test_a_grey_jpeg_becomes_three_equal_channels():
    square = decode(encoded(picture(64, 64)[..., 0], "JPEG"))
    assert (square == square[..., :1]).all()


def test_black_and_white_becomes_0_and_255():
    mask = picture(64, 64)[..., 0] > 128
    square = decode(encoded(Image.fromarray(mask)))
    np.testing.assert_array_equal(square, np.where(mask, 255, 0)[..., None].repeat(3, axis=-1))


def test_a_palette_is_looked_up():
    image = Image.fromarray(picture(64, 64)).quantize(16)
    colors = np.array(image.getpalette()).reshape(-1, 3)
    np.testing.assert_array_equal(decode(encoded(image)), colors[np.asarray(image)])


def test_transparent_pixels_are_laid_on_white():
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[..., 0], pixels[..., 3] = 200, np.arange(64)[:, None] * 4  # (255 - a + 200 a / 255, ...)
    alpha = pixels[..., 3:] / 255
    expected = (1 - alpha) * 255 + alpha * pixels[..., :3]
    assert levels_apart(decode(encoded(pixels)), expected.round()) <= 1


def test_the_transparent_entry_of_a_palette_is_white():
    image = Image.new("P", (64, 64), 1)
    image.putpalette([0, 0, 0, 30, 60, 90])
    image.paste(0, (0, 0, 64, 32))
    square = decode(encoded(image, transparency=0))
    assert (square[:32] == 255).all()
    assert (square[32:] == (30, 60, 90)).all()


def test_sixteen_bit_grey_is_scaled_not_clipped_to_white():
    levels = (np.arange(64 * 64, dtype=np.uint32) * 16).astype(np.uint16).reshape(64, 64)
    square = decode(encoded(levels))
    assert levels_apart(square, (levels[..., None] / 257).repeat(3, axis=-1)) <= 1


def test_a_cmyk_jpeg_keeps_its_colours():
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:, :32], pixels[:, 32:] = (200, 40, 90), (20, 220, 250)
    content = encoded(Image.fromarray(pixels).convert("CMYK"), "JPEG", quality=98)
    assert Image.open(io.BytesIO(content)).mode == "CMYK"
    assert levels_apart(decode(content)[:, [8, 56]], pixels[:, [8, 56]]) <= 3


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_the_content_decides_the_format(kind):
    pixels = picture(64, 64)
    np.testing.assert_array_equal(decode(encoded(pixels, kind)), pixels)


def test_a_png_named_jpeg_is_read_as_the_png_it_is(tmp_path):
    pixels = picture(64, 64)
    path = tmp_path / "n02105855_2933.JPEG"
    path.write_bytes(encoded(pixels, "PNG"))
    np.testing.assert_array_equal(decode(read_file(path)), pixels)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_a_jpeg_decodes_as_pillow_decodes_it(options):
    content = encoded(picture(80, 96), "JPEG", **options)
    assert levels_apart(decode(content), np.asarray(Image.open(io.BytesIO(content)))) <= 2


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_an_exif_rotation_is_not_applied(kind):
    pixels = picture(64, 96)
    exif = Image.Exif()
    exif[0x0112] = 6  # Orientation: turn by 90 degrees to see it upright
    plain, rotated = encoded(pixels, kind), encoded(pixels, kind, exif=exif)
    assert plain != rotated
    np.testing.assert_array_equal(decode(rotated), decode(plain))


def test_the_first_picture_of_an_animation_is_taken():
    frames = [Image.new("RGB", (64, 64), color) for color in ("red", "blue")]
    content = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert (decode(content) == (255, 0, 0)).all()


@pytest.mark.parametrize("share", [0.02, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP"])
def test_a_picture_cut_short_is_truncated(kind, share):
    content = encoded(picture(80, 96), kind)
    assert refusal(content[: int(share * len(content))]).reason == "truncated"


def test_text_is_not_an_image():
    assert refusal(b"<html>404 Not Found</html>").reason == "not-an-image"


def test_nothing_is_empty():
    assert refusal(b"").reason == "empty"


def test_a_jpeg_header_before_rubbish_is_corrupt():
    assert refusal(b"\xff\xd8\xff\xe0\x00\x04ab" + b"rubbish " * 20).reason == "corrupt"


def test_eps_is_not_accepted_and_starts_no_interpreter(monkeypatch):
    def start(*_, **__):
        raise AssertionError("a program was started")

    monkeypatch.setattr(subprocess, "Popen", start)
    monkeypatch.setattr(os, "system", start)
    content = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\n"
    error = refusal(content + b"showpage\n")
    assert (error.reason, error.detail) == ("format-not-accepted", "EPS")


@pytest.mark.parametrize("start", [b"%PDF-1.7", b"8BPS\0\1", b"<svg xmlns="])
def test_other_known_formats_are_named_as_not_accepted(start):
    assert refusal(start + bytes(100)).reason == "format-not-accepted"


@pytest.mark.parametrize("side", [12_000, 60_000])
def test_a_png_with_too_many_pixels_is_refused_from_its_header(side):
    assert side**2 > MAX_PIXELS
    assert refusal(png_header(side, side)).reason == "too-many-pixels"


def test_a_jpeg_with_too_many_pixels_is_refused_from_its_header(monkeypatch):
    def decode_jpeg(*_, **__):
        raise AssertionError("its pixels were decoded")

    monkeypatch.setattr(simplejpeg, "decode_jpeg", decode_jpeg)
    content = encoded(picture(64, 64), "JPEG")
    size = struct.pack(">HH", 64, 64)
    assert content.count(size) == 1
    huge = content.replace(size, struct.pack(">HH", 60_000, 60_000))
    assert refusal(huge).reason == "too-many-pixels"


def test_as_many_pixels_as_memory_is_allowed_for_are_not_too_many():
    rows = (MAX_MEMORY - 100) // BYTES_PER_PIXEL["PNG"] // 10_000
    assert refusal(png_header(10_000, rows)).reason == "truncated"
    assert refusal(png_header(10_000, rows + 1)).reason == "too-many-pixels"


@pytest.mark.parametrize("mode", ["I", "F"])
def test_pixels_beyond_sixteen_bits_are_an_unsupported_variant(mode):
    image = Image.fromarray(np.full((64, 64), 70_000, np.int32 if mode == "I" else np.float32))
    assert refusal(encoded(image, "TIFF")).reason == "unsupported-variant"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "WEBP"])
def test_damage_anywhere_gives_a_picture_or_a_known_reason(kind):
    whole = encoded(picture(48, 56), kind)
    rng = np.random.default_rng(11)
    for _ in range(60):
        damaged = np.frombuffer(whole, np.uint8).copy()
        near = 60 if rng.random() < 0.5 else len(damaged)
        damaged[rng.integers(0, near, rng.integers(1, 8))] = rng.integers(0, 256)
        content = damaged.tobytes()[: rng.integers(1, len(whole) + 1)]
        assert outcome(content) in ("a picture", *REASONS)


def test_a_missing_file_is_unreadable(tmp_path):
    with pytest.raises(ImageError, match="unreadable: no such file"):
        read_file(tmp_path / "gone.jpg")


def test_a_folder_is_unreadable(tmp_path):
    with pytest.raises(ImageError, match="unreadable: not a file"):
        read_file(tmp_path)


def test_a_file_the_system_will_not_open_is_unreadable_with_its_reason(tmp_path):
    with pytest.raises(ImageError, match="unreadable: File name too long"):
        read_file(tmp_path / ("x" * 300))
