"""Pictures of every kind and damage against Pillow and torchvision, and the JPEGs made."""

import io
import os
import struct
import subprocess
import zlib

import numpy as np
import pytest
import simplejpeg
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

from alexnet_cli.data.images import (
    MAX_PIXELS,
    REASONS,
    cut_ends,
    decode,
    fit_shorter_side,
    read_file,
    resize_with_pillow,
    resize_with_torch,
    to_jpeg,
    to_square,
)
from alexnet_cli.errors import ImageError

# (height, width): both orientations, odd rests, larger and smaller than the squares asked for
SHAPES = [
    (40, 40),
    (64, 64),
    (65, 64),
    (64, 65),
    (75, 133),
    (133, 75),
    (200, 301),
    (30, 47),
    (7, 9),
]


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
        to_square(content, 64)
    return error.value


def outcome(content: bytes) -> str:
    """Return "a picture", or the reason why it is none."""
    try:
        pixels = to_square(content, 32)
    except ImageError as error:
        return error.reason
    return "a picture" if pixels.shape == (32, 32, 3) else "a picture of another shape"


def levels_apart(a: np.ndarray, b: np.ndarray) -> int:
    return int(np.abs(a.astype(int) - b.astype(int)).max())


def png_header(width: int, height: int) -> bytes:
    """A PNG of any stated size with no pixels in it."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT"


@pytest.mark.parametrize(("height", "width"), SHAPES)
def test_the_square_is_pillows_bicubic_picture_cut_at_its_centre(height, width):
    pixels = picture(height, width)
    shorter = min(height, width)
    full = Image.fromarray(pixels).resize(
        (64 * width // shorter, 64 * height // shorter), Image.Resampling.BICUBIC
    )
    top, left = round((full.height - 64) / 2), round((full.width - 64) / 2)
    expected = np.asarray(full.crop((left, top, left + 64, top + 64)))
    np.testing.assert_array_equal(to_square(encoded(pixels), 64), expected)


@pytest.mark.parametrize(("height", "width"), SHAPES)
def test_the_square_is_what_torchvisions_transforms_make(height, width):
    pixels = picture(height, width)
    reference = Compose([Resize(64, InterpolationMode.BICUBIC), CenterCrop(64)])
    expected = np.asarray(reference(Image.fromarray(pixels)))
    np.testing.assert_array_equal(to_square(encoded(pixels), 64), expected)


@pytest.mark.parametrize(("height", "width"), SHAPES)
def test_the_two_resizers_agree_within_one_level(height, width):
    content = encoded(picture(height, width))
    by_torch = to_square(content, 64, resize=resize_with_torch)
    by_pillow = to_square(content, 64, resize=resize_with_pillow)
    assert levels_apart(by_torch, by_pillow) <= 1


@pytest.mark.parametrize("resize", [resize_with_torch, resize_with_pillow])
def test_the_square_is_contiguous_uint8_rgb(resize):
    square = to_square(encoded(picture(75, 133)), 64, resize=resize)
    assert (square.shape, square.dtype) == ((64, 64, 3), np.uint8)
    assert square.flags.c_contiguous


def test_a_square_of_the_size_asked_for_is_not_touched():
    pixels = picture(256, 256)
    np.testing.assert_array_equal(to_square(encoded(pixels)), pixels)


def test_a_picture_whose_shorter_side_fits_is_only_cropped():
    pixels = picture(64, 91)
    np.testing.assert_array_equal(to_square(encoded(pixels), 64), pixels[:, 14:78])


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 3), (3, 2)])
def test_tiny_pictures_are_enlarged(height, width):
    pixels = np.full((height, width, 3), (10, 200, 90), np.uint8)
    assert (to_square(encoded(pixels), 64) == (10, 200, 90)).all()


@pytest.mark.parametrize("size", [(1, 5000), (5000, 1)], ids=["wide", "tall"])
def test_an_extreme_strip_costs_no_more_than_its_middle(size):
    asked = []

    def resize(pixels, height, width):
        asked.append(height * width)
        return resize_with_pillow(pixels, height, width)

    assert to_square(encoded(np.zeros((*size, 3), np.uint8)), resize=resize).shape == (256, 256, 3)
    assert asked[0] <= 256 * 256 * 9


def test_the_middle_of_a_strip_is_what_remains_of_it():
    strip = np.zeros((10, 1000, 3), np.uint8)
    strip[:, 480:520] = 255
    assert (to_square(encoded(strip), 10) == 255).all()


@pytest.mark.parametrize("shape", [(1, 65500), (65500, 1), (9, 73), (73, 9), (5, 5)])
def test_cutting_the_ends_leaves_the_centre_where_it_was(shape):
    height, width = shape
    pixels = np.arange(height * width).reshape(height, width, 1)
    cut = cut_ends(pixels)
    assert max(cut.shape[:2]) <= min(shape) * 8 + 1
    assert cut.min() + cut.max() == pixels.min() + pixels.max()


def test_the_shorter_side_fits_and_the_longer_never_falls_below_it():
    rng = np.random.default_rng(3)
    for height, width in rng.integers(1, 3000, (300, 2)).tolist():
        fitted = fit_shorter_side(height, width, 256)
        assert min(fitted) == 256
        exact = 256 * max(height, width) / min(height, width)
        assert exact - 1 < max(fitted) <= exact


def test_grey_becomes_three_equal_channels():
    grey = picture(64, 64)[..., 0]
    np.testing.assert_array_equal(to_square(encoded(grey), 64), np.stack([grey] * 3, axis=-1))


def test_a_grey_jpeg_becomes_three_equal_channels():
    square = to_square(encoded(picture(64, 64)[..., 0], "JPEG"), 64)
    assert (square == square[..., :1]).all()


def test_black_and_white_becomes_0_and_255():
    mask = picture(64, 64)[..., 0] > 128
    square = to_square(encoded(Image.fromarray(mask)), 64)
    np.testing.assert_array_equal(square, np.where(mask, 255, 0)[..., None].repeat(3, axis=-1))


def test_a_palette_is_looked_up():
    image = Image.fromarray(picture(64, 64)).quantize(16)
    colors = np.array(image.getpalette()).reshape(-1, 3)
    np.testing.assert_array_equal(to_square(encoded(image), 64), colors[np.asarray(image)])


def test_transparent_pixels_are_laid_on_white():
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[..., 0], pixels[..., 3] = 200, np.arange(64)[:, None] * 4  # (255 - a + 200 a / 255, ...)
    alpha = pixels[..., 3:] / 255
    expected = (1 - alpha) * 255 + alpha * pixels[..., :3]
    assert levels_apart(to_square(encoded(pixels), 64), expected.round()) <= 1


def test_the_transparent_entry_of_a_palette_is_white():
    image = Image.new("P", (64, 64), 1)
    image.putpalette([0, 0, 0, 30, 60, 90])
    image.paste(0, (0, 0, 64, 32))
    square = to_square(encoded(image, transparency=0), 64)
    assert (square[:32] == 255).all()
    assert (square[32:] == (30, 60, 90)).all()


def test_sixteen_bit_grey_is_scaled_not_clipped_to_white():
    levels = (np.arange(64 * 64, dtype=np.uint32) * 16).astype(np.uint16).reshape(64, 64)
    square = to_square(encoded(levels), 64)
    assert levels_apart(square, (levels[..., None] / 257).repeat(3, axis=-1)) <= 1


def test_a_cmyk_jpeg_keeps_its_colours():
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:, :32], pixels[:, 32:] = (200, 40, 90), (20, 220, 250)
    content = encoded(Image.fromarray(pixels).convert("CMYK"), "JPEG", quality=98)
    assert Image.open(io.BytesIO(content)).mode == "CMYK"
    assert levels_apart(to_square(content, 64)[:, [8, 56]], pixels[:, [8, 56]]) <= 3


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_the_content_decides_the_format(kind):
    pixels = picture(64, 64)
    np.testing.assert_array_equal(decode(encoded(pixels, kind)), pixels)


def test_a_png_named_jpeg_is_read_as_the_png_it_is(tmp_path):
    pixels = picture(64, 64)
    path = tmp_path / "n02105855_2933.JPEG"
    path.write_bytes(encoded(pixels, "PNG"))
    np.testing.assert_array_equal(to_square(read_file(path), 64), pixels)


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
    assert (to_square(content, 64) == (255, 0, 0)).all()


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


def test_just_as_many_pixels_as_allowed_are_not_too_many():
    assert refusal(png_header(MAX_PIXELS >> 13, 1 << 13)).reason == "truncated"


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


def test_our_jpeg_has_halved_chroma_and_stays_close():
    smooth = np.asarray(Image.linear_gradient("L").convert("RGB"))
    jpeg = to_jpeg(smooth, 90)
    image = Image.open(io.BytesIO(jpeg))
    assert [layer[1:3] for layer in image.layer] == [(2, 2), (1, 1), (1, 1)]
    assert levels_apart(np.asarray(image), smooth) <= 3


def test_a_higher_quality_takes_more_bytes_and_errs_less():
    pixels = picture(96, 96)
    low, high = to_jpeg(pixels, 60), to_jpeg(pixels, 95)
    errors = [np.abs(decode(jpeg).astype(int) - pixels).mean() for jpeg in (low, high)]
    assert len(low) < len(high)
    assert errors[0] > errors[1]


@pytest.mark.parametrize(
    ("quality", "chroma"),
    [(60, "420"), (90, "420"), (94, "420"), (95, "444"), (98, "444"), (100, "444")],
)
def test_colours_keep_all_their_pixels_from_quality_95_on(quality, chroma):
    header = simplejpeg.decode_jpeg_header(to_jpeg(picture(48, 64), quality))
    assert header == (48, 64, "YCbCr", chroma)


def test_the_default_quality_is_90_with_halved_chroma():
    pixels = picture(48, 64)
    assert to_jpeg(pixels) == to_jpeg(pixels, 90)
    assert simplejpeg.decode_jpeg_header(to_jpeg(pixels))[3] == "420"


def test_edges_between_colours_stay_sharp_at_quality_95_only():
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:, 1::2] = (255, 0, 0)
    pixels[:, ::2] = (0, 130, 0)  # nearly as bright: what tells them apart is their colour
    apart = {
        quality: levels_apart(decode(to_jpeg(pixels, quality)), pixels) for quality in (94, 95)
    }
    assert apart[95] < 20
    assert apart[94] > 80
