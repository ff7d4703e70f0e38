"""Images of every mode become RGB, whole or in bands."""

import io

import numpy as np
import pytest
from helpers import draw_image, encoded, levels_apart
from PIL import Image

from alexnet_cli.data.images import to_rgb as rgb
from alexnet_cli.data.images.to_rgb import (
    PHOTOMETRIC,
    SAMPLE_FORMAT,
    SIGNED,
    WHITE_IS_ZERO,
    rgb_pixels,
)
from alexnet_cli.errors import ImageError


def opened(content: bytes) -> np.ndarray:
    return rgb_pixels(Image.open(io.BytesIO(content)))


def test_gray_becomes_three_equal_channels():
    gray = draw_image(64, 64)[..., 0]
    np.testing.assert_array_equal(opened(encoded(gray)), np.stack([gray] * 3, axis=-1))


def test_black_and_white_becomes_0_and_255():
    mask = draw_image(64, 64)[..., 0] > 128
    square = opened(encoded(Image.fromarray(mask)))
    np.testing.assert_array_equal(square, np.where(mask, 255, 0)[..., None].repeat(3, axis=-1))


def test_palette_is_looked_up():
    image = Image.fromarray(draw_image(64, 64)).quantize(16)
    colors = np.array(image.getpalette()).reshape(-1, 3)
    np.testing.assert_array_equal(opened(encoded(image)), colors[np.asarray(image)])


def test_transparent_pixels_are_laid_on_white():
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[..., 0], pixels[..., 3] = 200, np.arange(64)[:, None] * 4  # (255 - a + 200 a / 255, ...)
    alpha = pixels[..., 3:] / 255
    expected = (1 - alpha) * 255 + alpha * pixels[..., :3]
    assert levels_apart(opened(encoded(pixels)), expected.round()) <= 1


def test_transparent_entry_of_a_palette_is_white():
    image = Image.new("P", (64, 64), 1)
    image.putpalette([0, 0, 0, 30, 60, 90])
    image.paste(0, (0, 0, 64, 32))
    square = opened(encoded(image, transparency=0))
    assert (square[:32] == 255).all()
    assert (square[32:] == (30, 60, 90)).all()


def test_sixteen_bit_gray_is_scaled_not_clipped_to_white():
    levels = (np.arange(64 * 64, dtype=np.uint32) * 16).astype(np.uint16).reshape(64, 64)
    square = opened(encoded(levels))
    assert levels_apart(square, (levels[..., None] / 257).repeat(3, axis=-1)) <= 1


def test_sixteen_bit_gray_whose_zero_is_white_is_turned_round():
    levels = (np.arange(64 * 64, dtype=np.uint32) * 16).astype(np.uint16).reshape(64, 64)
    content = encoded(levels, "TIFF", tiffinfo={PHOTOMETRIC: WHITE_IS_ZERO})
    assert levels_apart(opened(content), 255 - (levels[..., None] / 257).repeat(3, axis=-1)) <= 1


def test_transparent_level_of_sixteen_bit_gray_is_white():
    levels = np.full((64, 64), 40 * 257, np.uint16)
    levels[:32] += 1
    square = opened(encoded(levels, transparency=40 * 257))
    assert (square[:32] == 40).all()
    assert (square[32:] == 255).all()


def test_levels_below_zero_are_an_unsupported_variant():
    content = encoded(draw_image(64, 64)[..., 0], "TIFF", tiffinfo={SAMPLE_FORMAT: SIGNED})
    with pytest.raises(ImageError, match="unsupported-variant"):
        opened(content)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_pixels_beyond_sixteen_bits_are_an_unsupported_variant(mode):
    image = Image.fromarray(np.full((64, 64), 70_000, np.int32 if mode == "I" else np.float32))
    with pytest.raises(ImageError, match="unsupported-variant"):
        opened(encoded(image, "TIFF"))


@pytest.mark.parametrize("high", [255, 65_535])
def test_wide_integers_are_scaled_by_what_they_hold(high):
    levels = np.linspace(0, high, 64 * 64).astype(np.int32).reshape(64, 64)
    expected = (levels[..., None] * 255.0 / high).repeat(3, axis=-1)
    assert levels_apart(opened(encoded(levels, "TIFF")), expected) <= 1


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16"])
def test_bands_meet_without_a_seam(monkeypatch, mode):
    content = encoded(
        Image.fromarray(draw_image(64, 48)).convert("L" if ";" in mode else mode), "TIFF"
    )
    if ";" in mode:
        content = encoded(draw_image(64, 48)[..., 0].astype(np.uint16) * 257, "TIFF")
    whole = opened(content)
    monkeypatch.setattr(rgb, "BAND_PIXELS", 48 * 10)
    np.testing.assert_array_equal(opened(content), whole)


def test_tiff_may_turn_and_keeps_all_its_rows():
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = draw_image(64, 48)
    content = encoded(pixels, "TIFF", exif=exif)
    np.testing.assert_array_equal(opened(content), np.rot90(pixels, -1))


def test_what_libtiff_says_of_a_damaged_file_stays_off_the_terminal(capfd):
    content = bytearray(encoded(draw_image(64, 48), "TIFF", compression="tiff_lzw"))
    content[100:200] = bytes(100)
    with pytest.raises(OSError, match="decoder error"):
        opened(bytes(content))
    assert capfd.readouterr() == ("", "")
