"""The square that is cut out of an image, against Pillow and torchvision, and its JPEG."""

import io
import math

import numpy as np
import pytest
import simplejpeg
from helpers import draw_image, encoded, levels_apart
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

from alexnet_cli.data.images import resize as images
from alexnet_cli.data.images.decode import decode
from alexnet_cli.data.images.resize import fit_shorter_side, square, to_jpeg, to_square

# (height, width): both orientations, odd rests, larger and smaller than the squares asked for
SHAPES = [
    (40, 40),
    (64, 64),
    (65, 64),
    (64, 65),
    (75, 133),
    (133, 75),
    (200, 301),
    (301, 200),
    (1000, 730),
    (30, 47),
    (47, 30),
    (7, 9),
]
NOISE = [
    (200, 301),
    (301, 200),
    (150, 290),
    (290, 150),
    (310, 150),
    (640, 100),
    (70, 400),
    (90, 30),
]
RESIZERS = {"simd": images.resize_with_simd, "pillow": images.resize_with_pillow}


@pytest.fixture(params=RESIZERS)
def levels(request, monkeypatch) -> int:
    """Use each resizer in turn; the gray levels that it may differ from Pillow."""
    if request.param == "simd" and images.simd is None:
        pytest.skip("cykooz-resizer is not installed")
    monkeypatch.setattr(images, "_resize", RESIZERS[request.param])
    return 2 if request.param == "simd" else 1


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    error = np.mean((a.astype(float) - b) ** 2)
    return 10 * math.log10(255**2 / error) if error else math.inf


def pillows_square(pixels: np.ndarray, size: int) -> np.ndarray:
    """Resize the whole image with Pillow, then crop."""
    shorter = min(pixels.shape[:2])
    full = Image.fromarray(pixels).resize(
        (size * pixels.shape[1] // shorter, size * pixels.shape[0] // shorter),
        Image.Resampling.BICUBIC,
    )
    top, left = round((full.height - size) / 2), round((full.width - size) / 2)
    return np.asarray(full.crop((left, top, left + size, top + size)))


@pytest.mark.parametrize(("height", "width"), SHAPES)
def test_square_is_pillows_bicubic_image_cut_at_its_center(height, width, levels):
    pixels = draw_image(height, width)
    found, expected = square(pixels, 64), pillows_square(pixels, 64)
    assert levels_apart(found, expected) <= levels
    assert psnr(found, expected) > 60


@pytest.mark.parametrize(("height", "width"), SHAPES)
def test_square_is_what_torchvisions_transforms_make(height, width, levels):
    pixels = draw_image(height, width)
    reference = Compose([Resize(64, InterpolationMode.BICUBIC), CenterCrop(64)])
    assert (
        levels_apart(square(pixels, 64), np.asarray(reference(Image.fromarray(pixels)))) <= levels
    )


@pytest.mark.parametrize(("height", "width"), NOISE)
def test_noise_shows_that_nothing_the_filter_needs_is_cut_off(height, width, levels):
    pixels = np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)
    assert levels_apart(square(pixels, 64), pillows_square(pixels, 64)) <= levels


def test_large_image_is_resized_in_bands_that_meet(levels, monkeypatch):
    pixels = draw_image(301, 200)
    whole = square(pixels, 64)
    monkeypatch.setattr(images, "BAND_PIXELS", 1000)
    np.testing.assert_array_equal(square(pixels, 64), whole)


@pytest.mark.parametrize("shape", [(75, 133), (64, 80)])
def test_square_is_contiguous_uint8_rgb(shape, levels):
    found = square(draw_image(*shape), 64)
    assert (found.shape, found.dtype) == ((64, 64, 3), np.uint8)
    assert found.flags.c_contiguous


def test_square_of_the_size_asked_for_is_not_touched():
    pixels = draw_image(256, 256)
    np.testing.assert_array_equal(to_square(encoded(pixels)), pixels)


def test_image_whose_shorter_side_fits_is_only_cropped():
    pixels = draw_image(64, 91)
    np.testing.assert_array_equal(to_square(encoded(pixels), 64), pixels[:, 14:78])


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 3), (3, 2)])
def test_tiny_images_are_enlarged(height, width, levels):
    pixels = np.full((height, width, 3), (10, 200, 90), np.uint8)
    assert (square(pixels, 64) == (10, 200, 90)).all()


@pytest.mark.parametrize("shape", [(1, 65500), (65500, 1), (65500, 2), (9, 5000)])
def test_of_an_extreme_strip_only_the_middle_is_resized(shape, levels, monkeypatch):
    resize, asked = images._resize, []

    def recorded(pixels, *arguments):
        asked.append(pixels.size)
        return resize(pixels, *arguments)

    monkeypatch.setattr(images, "_resize", recorded)
    assert square(np.zeros((*shape, 3), np.uint8), 256).shape == (256, 256, 3)
    assert asked[0] <= 1000


@pytest.mark.parametrize("turned", [False, True])
def test_middle_of_a_strip_is_what_remains_of_it(turned, levels):
    strip = np.zeros((10, 1000, 3), np.uint8)
    strip[:, 480:520] = 255
    assert (square(strip.transpose(1, 0, 2) if turned else strip, 10) == 255).all()


def test_shorter_side_fits_and_the_longer_never_falls_below_it():
    rng = np.random.default_rng(3)
    for height, width in rng.integers(1, 3000, (300, 2)).tolist():
        fitted = fit_shorter_side(height, width, 256)
        assert min(fitted) == 256
        exact = 256 * max(height, width) / min(height, width)
        assert exact - 1 < max(fitted) <= exact


def test_our_jpeg_has_halved_chroma_and_stays_close():
    smooth = np.asarray(Image.linear_gradient("L").convert("RGB"))
    jpeg = to_jpeg(smooth, 90)
    image = Image.open(io.BytesIO(jpeg))
    assert [layer[1:3] for layer in image.layer] == [(2, 2), (1, 1), (1, 1)]
    assert levels_apart(np.asarray(image), smooth) <= 3


def test_higher_quality_takes_more_bytes_and_errs_less():
    pixels = draw_image(96, 96)
    low, high = to_jpeg(pixels, 60), to_jpeg(pixels, 95)
    errors = [np.abs(decode(jpeg).astype(int) - pixels).mean() for jpeg in (low, high)]
    assert len(low) < len(high)
    assert errors[0] > errors[1]


@pytest.mark.parametrize(
    ("quality", "chroma"),
    [(60, "420"), (90, "420"), (94, "420"), (95, "444"), (98, "444"), (100, "444")],
)
def test_colors_keep_all_their_pixels_from_quality_95_on(quality, chroma):
    header = simplejpeg.decode_jpeg_header(to_jpeg(draw_image(48, 64), quality))
    assert header == (48, 64, "YCbCr", chroma)


def test_default_quality_is_90_with_halved_chroma():
    pixels = draw_image(48, 64)
    assert to_jpeg(pixels) == to_jpeg(pixels, 90)
    assert simplejpeg.decode_jpeg_header(to_jpeg(pixels))[3] == "420"


def test_edges_between_colors_stay_sharp_at_quality_95_only():
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:, 1::2] = (255, 0, 0)
    pixels[:, ::2] = (0, 130, 0)  # nearly as bright: only their color differs
    apart = {
        quality: levels_apart(decode(to_jpeg(pixels, quality)), pixels) for quality in (94, 95)
    }
    assert apart[95] < 20
    assert apart[94] > 80
