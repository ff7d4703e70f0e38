"""A file that holds fewer pixels than it promises is refused, not filled with black."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from alexnet_cli.data.images import truncation as missing_pixels
from alexnet_cli.data.images.decode import decode
from alexnet_cli.errors import ImageError

SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(rows: bytes, height: int, colors: int = 2, interlaced: int = 0, width: int = 20) -> bytes:
    """A PNG of 8 bits with these rows, each after its filter; a sound one, were there enough."""
    header = struct.pack(">IIBBBBB", width, height, 8, colors, 0, 0, interlaced)
    palette = chunk(b"PLTE", bytes(range(30))) if colors == 3 else b""
    data = chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + palette + data + chunk(b"IEND", b"")


def rows_of(value: int, count: int, colors: int = 2, width: int = 20) -> bytes:
    return (b"\0" + bytes([value]) * (width * SAMPLES[colors])) * count


def refusal(content: bytes) -> str:
    with pytest.raises(ImageError) as failure:
        decode(content)
    return failure.value.reason


@pytest.mark.parametrize("colors", SAMPLES)
@pytest.mark.parametrize("missing", [1, 2, 15])
def test_png_whose_rows_end_early_is_truncated(colors, missing):
    whole = rows_of(9, 16, colors)
    length = len(whole) * (16 - missing) // 16
    assert refusal(png(whole[:length], 16, colors)) == "truncated"


@pytest.mark.parametrize("height", [15, 16])
def test_interlaced_png_without_its_last_pass_is_truncated(height):
    image = Image.new("RGB", (20, height), (9, 9, 9))
    passes = b"".join(
        rows_of(9, -(-(height - top) // down), width=-(-(image.width - left) // across))
        for left, top, across, down in missing_pixels.ADAM7
    )
    np.testing.assert_array_equal(decode(png(passes, height, interlaced=1)), np.asarray(image))
    last = len(rows_of(9, height // 2))
    assert refusal(png(passes[:-last], height, interlaced=1)) == "truncated"


@pytest.mark.parametrize("colors", SAMPLES)
def test_png_that_is_black_below_is_whole(colors):
    content = png(rows_of(9, 8, colors) + rows_of(0, 8, colors), 16, colors)
    np.testing.assert_array_equal(
        decode(content)[:8], decode(png(rows_of(9, 8, colors), 8, colors))
    )


def test_more_rows_than_a_png_needs_are_not_unpacked(monkeypatch):
    content = png(rows_of(0, 16) + bytes(40_000_000), 16)
    most = []
    unpack = missing_pixels._num_unpacked
    monkeypatch.setattr(
        missing_pixels, "_num_unpacked", lambda *a: most.append(unpack(*a)) or most[-1]
    )
    assert not decode(content).any()
    assert most[0] <= 16 * missing_pixels.PIECE


def test_bright_rows_at_the_end_spare_the_second_look(monkeypatch):
    monkeypatch.setattr(missing_pixels, "_num_unpacked", lambda *_: pytest.fail("looked twice"))
    assert (decode(png(rows_of(9, 16), 16)) == 9).all()


def test_png_of_many_small_pieces_is_counted_whole():
    data = zlib.compress(rows_of(0, 16), 0)
    pieces = b"".join(chunk(b"IDAT", data[i : i + 1]) for i in range(len(data)))
    whole = png(rows_of(0, 16), 16)
    start = whole.index(b"IDAT") - 4
    assert not decode(whole[:start] + pieces + chunk(b"IEND", b"")).any()


def test_palette_png_without_its_palette_is_corrupt():
    whole = png(rows_of(9, 16, 3), 16, 3)
    start = whole.index(b"PLTE") - 4
    assert refusal(whole[:start] + whole[start + 12 + 30 :]) == "corrupt"


def tiff(pixels: np.ndarray, *, height: int, planes: int = 1) -> bytes:
    """An unpacked TIFF of strips of four rows; `height` is that of the header."""
    rows, width, bands = pixels.shape
    layers = np.moveaxis(pixels, -1, 0) if planes > 1 else pixels[None]
    strips = [layer[top : top + 4].tobytes() for layer in layers for top in range(0, rows, 4)]
    data, num = b"".join(strips), len(strips)
    places = 8 + len(data)
    lengths, depths = places + 4 * num, places + 8 * num
    directory = depths + 2 * bands
    starts = [8 + sum(map(len, strips[:i])) for i in range(num)]
    tags = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, bands, depths),
        (259, 4, 1, 1),
        (262, 4, 1, 2),
        (273, 4, num, places),
        (277, 4, 1, bands),
        (278, 4, 1, 4),
        (279, 4, num, lengths),
        (284, 4, 1, 2 if planes > 1 else 1),
    ]
    content = struct.pack("<4sI", b"II*\0", directory) + data
    content += struct.pack(f"<{2 * num}I", *starts, *map(len, strips))
    content += struct.pack(f"<{bands}H", *[8] * bands) + struct.pack("<H", len(tags))
    return content + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)


@pytest.mark.parametrize("planes", [1, 3])
def test_tiff_whose_strips_do_not_reach_the_bottom_is_truncated(planes):
    pixels = np.arange(16 * 20 * 3, dtype=np.uint8).reshape(16, 20, 3)
    np.testing.assert_array_equal(decode(tiff(pixels, height=16, planes=planes)), pixels)
    assert refusal(tiff(pixels, height=17, planes=planes)) == "truncated"


def test_packed_tiff_is_left_to_libtiff():
    pixels = np.arange(16 * 20 * 3, dtype=np.uint8).reshape(16, 20, 3)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "TIFF", compression="tiff_lzw")
    np.testing.assert_array_equal(decode(file.getvalue()), pixels)
