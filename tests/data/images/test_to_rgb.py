"""Images of every mode become RGB, whole or in bands."""

import io

import numpy as np
import pytest
from helpers import draw_image, encoded, levels_apart
from PIL import Image

from alexnet_cli.data.images import to_rgb as rgb
from alexnet_cli.data.images.to_rgb import (
    MAX_SAMPLE_VALUE,
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


def ramp(high: int, kind: type = np.uint16) -> np.ndarray:
    return np.linspace(0, high, 64 * 64).astype(kind).reshape(64, 64)


@pytest.mark.parametrize(("kind", "file"), [(np.uint16, "PNG"), (np.int32, "TIFF")])
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_wide_gray_is_scaled_by_the_bits_that_are_chosen(kind, file, bits):
    image = Image.open(io.BytesIO(encoded(ramp((1 << bits) - 1, kind), file)))
    expected = ramp(255, np.float64)[..., None].repeat(3, axis=-1)
    assert levels_apart(rgb_pixels(image, gray_bits=bits), expected) <= 1


@pytest.mark.parametrize("high", [255, 300, 4095, 65_535])
def test_wide_gray_is_scaled_alike_whatever_levels_it_holds(high):
    for file, kind in (("PNG", np.uint16), ("TIFF", np.uint16), ("TIFF", np.int32)):
        levels = ramp(high, kind)
        np.testing.assert_array_equal(opened(encoded(levels, file))[..., 0], levels >> 8)


def test_wide_gray_is_scaled_by_what_its_tiff_says():
    content = encoded(ramp(4095), "TIFF", tiffinfo={MAX_SAMPLE_VALUE: 4095})
    assert opened(content).max() == 255
    image = Image.open(io.BytesIO(content))
    assert rgb_pixels(image, gray_bits=16).max() == 255


def test_significant_bits_of_a_png_count_where_the_low_bits_are_filled():
    low, high = (Image.open(io.BytesIO(encoded(ramp(4095) * scale))) for scale in (1, 16))
    assert rgb_pixels(low, png_bits=12).max() == 255
    assert rgb_pixels(high, png_bits=12).max() == 255


def test_levels_beyond_the_chosen_bits_are_an_unsupported_variant():
    image = Image.open(io.BytesIO(encoded(ramp(5000))))
    with pytest.raises(ImageError, match="over 12 bits"):
        rgb_pixels(image, gray_bits=12)


def test_wide_gray_that_becomes_dark_is_counted_by_the_bits_it_uses():
    noted = {}
    for high in (1023, 4095, 4095, 65_535):
        rgb_pixels(Image.open(io.BytesIO(encoded(ramp(high)))), noted=noted)
    rgb_pixels(Image.open(io.BytesIO(encoded(ramp(4095)))), gray_bits=12, noted=noted)
    assert noted == {"dim-gray-10": 1, "dim-gray-12": 2}


def test_wide_pgm_uses_all_its_levels():
    content = b"P5 64 64 1023\n" + ramp(1023, np.dtype(">u2")).tobytes()
    assert opened(content).max() == 255


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


def test_gray_that_was_multiplied_by_its_alpha_is_laid_on_white():
    image = Image.new("LA", (64, 64), (100, 51)).convert("La")
    assert (rgb_pixels(image) == 255 - 51 + 20).all()
