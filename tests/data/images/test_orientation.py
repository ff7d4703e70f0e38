"""The EXIF orientation of image files, and images turned by it."""

import io
import zlib

import numpy as np
import pytest
from helpers import draw_image, encoded
from PIL import Image, ImageOps

from alexnet_cli.data.images.decode import decode
from alexnet_cli.data.images.orientation import find_orientation
from alexnet_cli.data.images.resize import to_square
from alexnet_cli.types import DecodeRules

UPRIGHT = DecodeRules(apply_orientation=True)


def rotated(kind: str, orientation: int, **options) -> bytes:
    exif = Image.Exif()
    exif[0x010F] = "a maker before it"
    exif[0x0112] = orientation
    return encoded(draw_image(64, 96), kind, exif=exif, **options)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("kind", "options"), [("PNG", {}), ("WEBP", {"lossless": True}), ("AVIF", {})]
)
def test_image_is_turned_as_pillow_turns_it(kind, options, orientation):
    content = rotated(kind, orientation, **options)
    assert find_orientation(content) == orientation
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(content)).convert("RGB"))
    np.testing.assert_array_equal(decode(content, UPRIGHT), np.asarray(expected))


@pytest.mark.parametrize(("turns", "axis"), [(t, axis) for t in range(4) for axis in (0, 1)])
def test_boxes_of_an_avif_turn_it_only_if_the_rules_say_so(turns, axis):
    """Turns are quarters counterclockwise; then axis 1 exchanges left and right, 0 up and down."""
    first = rotated("AVIF", 5)  # has both boxes
    assert first.count(b"irot") == first.count(b"imir") == 1
    content = bytearray(first)
    content[first.index(b"irot") + 4], content[first.index(b"imir") + 4] = turns, axis
    stored = decode(bytes(content))
    np.testing.assert_array_equal(stored, decode(first))
    expected = np.rot90(stored, turns)
    expected = expected[:, ::-1] if axis else expected[::-1]
    np.testing.assert_array_equal(decode(bytes(content), UPRIGHT), expected)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_jpeg_is_turned_before_it_is_cut(orientation):
    content = rotated("JPEG", orientation)
    turns = {1: 0, 3: 2, 6: 3, 8: 1}[orientation]
    upright = encoded(np.ascontiguousarray(np.rot90(decode(content), turns)))
    np.testing.assert_array_equal(to_square(content, 32, UPRIGHT), to_square(upright, 32))


def test_rotated_images_are_counted_whether_they_are_turned_or_not():
    noted = {}
    for rules in (DecodeRules(), UPRIGHT):
        decode(rotated("JPEG", 6), rules, noted)
        decode(rotated("JPEG", 1), rules, noted)
    assert noted == {"rotated": 2}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_damaged_exif_is_no_orientation_or_a_valid_one(kind):
    content = rotated(kind, 6)
    start = content.find(b"MM\0*" if b"MM\0*" in content else b"II*\0")
    rng = np.random.default_rng(3)
    for _ in range(200):
        damaged = bytearray(content)
        damaged[start + rng.integers(0, 40)] = rng.integers(0, 256)
        assert 1 <= find_orientation(bytes(damaged)) <= 8
        assert 1 <= find_orientation(content[: rng.integers(1, len(content))]) <= 8


def test_significant_bits_of_a_png_are_read_from_its_file():
    levels = np.linspace(0, 4095, 64 * 64).astype(np.uint16).reshape(64, 64)
    content = encoded(levels)
    kind = b"sBIT\x0c"
    chunk = b"\0\0\0\1" + kind + zlib.crc32(kind).to_bytes(4, "big")
    assert decode(content).max() == 15
    assert decode(content[:33] + chunk + content[33:]).max() == 255
