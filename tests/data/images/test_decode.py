"""Image files of every kind and damage: their pixels against Pillow's, or the reason why not."""

import io
import os
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
import simplejpeg
from helpers import draw_image, encoded, levels_apart
from PIL import Image

from alexnet_cli.data.images import decode as decoding
from alexnet_cli.data.images import strip_metadata as bare_files
from alexnet_cli.data.images.decode import (
    BYTES_PER_PIXEL,
    MAX_MEMORY,
    MAX_PIXELS,
    REASONS,
    decode,
    read_file,
)
from alexnet_cli.data.images.jpeg_header import MAX_SEGMENTS
from alexnet_cli.errors import ImageError


def refusal(content: bytes) -> ImageError:
    with pytest.raises(ImageError) as error:
        decode(content)
    return error.value


def outcome(content: bytes) -> str:
    """Return "an image", or the reason why it is none."""
    try:
        pixels = decode(content)
    except ImageError as error:
        return error.reason
    return "an image" if pixels.ndim == 3 and pixels.shape[2] == 3 else "an image of another shape"


def png_header(width: int, height: int) -> bytes:
    """A PNG of any stated size with no pixels in it."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT"


def test_gray_jpeg_becomes_three_equal_channels():
    square = decode(encoded(draw_image(64, 64)[..., 0], "JPEG"))
    assert (square == square[..., :1]).all()


def test_cmyk_jpeg_keeps_its_colors():
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:, :32], pixels[:, 32:] = (200, 40, 90), (20, 220, 250)
    content = encoded(Image.fromarray(pixels).convert("CMYK"), "JPEG", quality=98)
    assert Image.open(io.BytesIO(content)).mode == "CMYK"
    assert levels_apart(decode(content)[:, [8, 56]], pixels[:, [8, 56]]) <= 3


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_content_decides_the_format(kind):
    pixels = draw_image(64, 64)
    np.testing.assert_array_equal(decode(encoded(pixels, kind)), pixels)


def test_png_named_jpeg_is_read_as_the_png_it_is(tmp_path):
    pixels = draw_image(64, 64)
    path = tmp_path / "n02105855_2933.JPEG"
    path.write_bytes(encoded(pixels, "PNG"))
    np.testing.assert_array_equal(decode(read_file(path)), pixels)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_jpeg_decodes_as_pillow_decodes_it(options):
    content = encoded(draw_image(80, 96), "JPEG", **options)
    assert levels_apart(decode(content), np.asarray(Image.open(io.BytesIO(content)))) <= 2


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_exif_rotation_is_not_applied(kind):
    pixels = draw_image(64, 96)
    exif = Image.Exif()
    exif[0x0112] = 6  # Orientation: turn by 90 degrees to see it upright
    plain, rotated = encoded(pixels, kind), encoded(pixels, kind, exif=exif)
    assert plain != rotated
    np.testing.assert_array_equal(decode(rotated), decode(plain))


def test_first_image_of_an_animation_is_taken():
    frames = [Image.new("RGB", (64, 64), color) for color in ("red", "blue")]
    content = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert (decode(content) == (255, 0, 0)).all()


@pytest.mark.parametrize("share", [0.02, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP"])
def test_image_cut_short_is_truncated(kind, share):
    content = encoded(draw_image(80, 96), kind)
    assert refusal(content[: int(share * len(content))]).reason == "truncated"


def test_text_is_not_an_image():
    assert refusal(b"<html>404 Not Found</html>").reason == "not-an-image"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF"])
def test_header_before_rubbish_is_corrupt(kind):
    content = encoded(draw_image(64, 64), kind)
    assert refusal(content[:8] + b"\7" * 60).reason == "corrupt"


def test_tiff_of_a_kind_that_pillow_does_not_know_is_an_unsupported_variant():
    content = encoded(draw_image(64, 64), "TIFF", tiffinfo={339: 77})  # sample format
    assert refusal(content).reason == "unsupported-variant"


def test_bmp_of_a_kind_that_pillow_does_not_know_is_an_unsupported_variant():
    content = bytearray(encoded(draw_image(64, 64), "BMP"))
    content[28] = 3  # bits a pixel
    assert refusal(bytes(content)).reason == "unsupported-variant"


def test_jpeg_whose_colors_have_no_scan_is_truncated():
    content = encoded(draw_image(64, 64), "JPEG", progressive=True)
    before, first, *refining = content.split(b"\xff\xda")
    assert outcome(b"\xff\xda".join([before, first]) + content[-2:]) == "an image"
    assert outcome(b"\xff\xda".join([before, *refining])) == "truncated"


def test_nothing_is_empty():
    assert refusal(b"").reason == "empty"


def test_jpeg_header_before_rubbish_is_corrupt():
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
def test_png_with_too_many_pixels_is_refused_from_its_header(side):
    assert side**2 > MAX_PIXELS
    assert refusal(png_header(side, side)).reason == "too-many-pixels"


def test_jpeg_with_too_many_pixels_is_refused_from_its_header(monkeypatch):
    def decode_jpeg(*_, **__):
        raise AssertionError("its pixels were decoded")

    monkeypatch.setattr(simplejpeg, "decode_jpeg", decode_jpeg)
    content = encoded(draw_image(64, 64), "JPEG")
    size = struct.pack(">HH", 64, 64)
    assert content.count(size) == 1
    huge = content.replace(size, struct.pack(">HH", 60_000, 60_000))
    assert refusal(huge).reason == "too-many-pixels"


def test_as_many_pixels_as_memory_is_allowed_for_are_not_too_many():
    rows = (MAX_MEMORY - 200) // BYTES_PER_PIXEL["PNG"] // 10_000
    assert refusal(png_header(10_000, rows)).reason == "truncated"
    assert refusal(png_header(10_000, rows + 1)).reason == "too-many-pixels"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "WEBP"])
def test_damage_anywhere_gives_an_image_or_a_known_reason(kind):
    whole = encoded(draw_image(48, 56), kind)
    rng = np.random.default_rng(11)
    for _ in range(60):
        damaged = np.frombuffer(whole, np.uint8).copy()
        near = 60 if rng.random() < 0.5 else len(damaged)
        damaged[rng.integers(0, near, rng.integers(1, 8))] = rng.integers(0, 256)
        content = damaged.tobytes()[: rng.integers(1, len(whole) + 1)]
        assert outcome(content) in ("an image", *REASONS)


def test_missing_file_is_unreadable(tmp_path):
    with pytest.raises(ImageError, match="unreadable: no such file"):
        read_file(tmp_path / "gone.jpg")


def test_folder_is_unreadable(tmp_path):
    with pytest.raises(ImageError, match="unreadable: not a file"):
        read_file(tmp_path)


def test_file_the_system_will_not_open_is_unreadable_with_its_reason(tmp_path):
    with pytest.raises(ImageError, match="unreadable: File name too long"):
        read_file(tmp_path / ("x" * 300))


SCAN = b"\xff\xda\x00\x08\x01\x01\x00\x01\x3f\x00"  # of nothing at all


def with_scans(count: int, **options) -> bytes:
    content = encoded(draw_image(40, 50), "JPEG", **options)
    return content[:-2] + SCAN * count + content[-2:]


def test_jpeg_of_too_many_scans_is_refused_before_it_is_decoded(monkeypatch):
    content = with_scans(20, progressive=True)
    assert outcome(content) == "an image"
    monkeypatch.setattr(decoding, "MAX_SCANNED_PIXELS", 40 * 50 * 30 - 1)
    monkeypatch.setattr(simplejpeg, "decode_jpeg", None)
    assert str(refusal(content)) == "too-many-pixels: 30 scans of 50 x 40"


def test_scans_behind_a_whole_plain_jpeg_are_never_decoded():
    assert str(refusal(with_scans(1_000_000))).startswith("corrupt")


def test_coefficients_of_a_progressive_jpeg_count_as_memory(monkeypatch):
    plain, progressive = (encoded(draw_image(40, 50), "JPEG", progressive=p) for p in (False, True))
    monkeypatch.setattr(decoding, "MAX_MEMORY", len(plain) + 40 * 50 * 5)
    assert outcome(plain) == "an image"
    assert refusal(progressive).reason == "too-many-pixels"


def tiff_of_jpegs(jpeg: bytes, *starts: int) -> bytes:
    """Return a TIFF of 40 x 50 whose strips are JPEGs at these places after its tags."""
    many, after = len(starts), 10 + 12 * 9 + 4
    lists = after + 8 * many
    entries = [
        (256, 4, 1, 50),
        (257, 4, 1, 40 * many),
        (258, 3, 1, 8),
        (259, 3, 1, 7),
        (262, 3, 1, 1),
        (273, 4, many, after if many > 1 else lists + starts[0]),
        (277, 3, 1, 1),
        (278, 4, 1, 40),
        (279, 4, many, after + 4 * many if many > 1 else len(jpeg)),
    ]
    tags = b"".join(struct.pack("<HHLL", *entry) for entry in entries)
    offsets = struct.pack(f"<{many}L", *(lists + start for start in starts))
    lengths = struct.pack(f"<{many}L", *[len(jpeg)] * many)
    head = b"II*\0" + struct.pack("<LH", 8, len(entries)) + tags + bytes(4)
    return head + offsets + lengths + jpeg * many


def test_scans_of_jpegs_in_a_tiff_are_counted(monkeypatch):
    gray = Image.fromarray(draw_image(40, 50)[..., 0])
    content = tiff_of_jpegs(encoded(gray, "JPEG"), 0)
    np.testing.assert_array_equal(decode(content), decode(encoded(gray, "JPEG")))
    monkeypatch.setattr(decoding, "MAX_SCANNED_PIXELS", 40 * 50 - 1)
    assert str(refusal(content)) == "too-many-pixels: scans of 50 x 40 in a TIFF"


def test_tiff_that_shows_one_jpeg_again_and_again_is_refused():
    jpeg = encoded(Image.fromarray(draw_image(40, 50)[..., 0]), "JPEG")
    assert outcome(tiff_of_jpegs(jpeg, 0, len(jpeg))) == "an image"
    assert refusal(tiff_of_jpegs(jpeg, 0, 0)).reason == "too-many-pixels"


def test_tiff_is_looked_through_before_pillow_sees_it(monkeypatch):
    content = encoded(draw_image(40, 50), "TIFF")
    monkeypatch.setattr(bare_files, "MAX_TAG_VALUES", 2)
    assert refusal(content).detail == "TIFF tag 258 of 3 values"


def test_pillow_never_sees_the_notes_of_a_jpeg(monkeypatch):
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encoded(Image.fromarray(draw_image(40, 50)).convert("CMYK"), "JPEG", exif=exif)
    open_image, seen = Image.open, []

    def opened(file, **options):
        seen.append(file.getvalue())
        return open_image(file, **options)

    monkeypatch.setattr(simplejpeg, "decode_jpeg", refuse)
    monkeypatch.setattr(Image, "open", opened)
    assert outcome(content) == "an image"
    assert b"Exif" in content
    assert b"Exif" not in seen[0]


def refuse(*_, **__):
    raise ValueError("not mine")


def run_length_bmp(side: int) -> bytes:
    colors = bytes(1024)
    data = (bytes((255, 7)) * (side // 255) + bytes((side % 255, 7, 0, 0))) * side + b"\0\1"
    fields = (40, side, side, 1, 8, 1, len(data), 0, 0, 256, 0)
    head = struct.pack("<2sIHHI", b"BM", 0, 0, 0, 54 + len(colors))
    return head + struct.pack("<IiiHHIIiiII", *fields) + colors + data


def test_run_length_bmp_may_have_fewer_pixels(monkeypatch):
    assert outcome(run_length_bmp(60)) == "an image"
    monkeypatch.setattr(decoding, "MAX_RUN_LENGTH_PIXELS", 60 * 60 - 1)
    assert refusal(run_length_bmp(60)).detail == "60 x 60 in run-length code"
    assert outcome(encoded(draw_image(60, 60), "BMP")) == "an image"


@pytest.mark.parametrize(("limit", "value"), [("MAX_READS", 20), ("MAX_REREADS", -1000)])
def test_reader_that_asks_too_often_or_too_much_is_ended(monkeypatch, limit, value):
    content = run_length_bmp(300)
    assert outcome(content) == "an image"
    monkeypatch.setattr(decoding, limit, value)
    assert str(refusal(content)) == "corrupt: too much beside the pixels"


@pytest.mark.parametrize("where", ["simplejpeg", "pillow"])
def test_image_there_is_no_memory_for_is_refused(monkeypatch, where):
    def no_memory(*_, **__):
        raise MemoryError

    monkeypatch.setattr(simplejpeg, "decode_jpeg", no_memory if where == "simplejpeg" else refuse)
    monkeypatch.setattr(Image.Image, "crop", no_memory)
    assert str(refusal(encoded(draw_image(40, 50), "JPEG"))) == "too-many-pixels: out of memory"


def test_jpeg_whose_header_cannot_be_followed_is_decoded_by_nobody(monkeypatch):
    content = encoded(draw_image(40, 50), "JPEG")
    note = b"\xff\xe5\0\2" * (MAX_SEGMENTS + 1)
    monkeypatch.setattr(simplejpeg, "decode_jpeg", None)
    assert refusal(content[:2] + note + content[2:]).reason == "corrupt"


def test_file_is_read_whole_even_in_pieces(tmp_path, monkeypatch):
    path = tmp_path / "a.jpg"
    path.write_bytes(bytes(range(256)))
    read = os.read
    monkeypatch.setattr(os, "read", lambda file, size: read(file, min(size, 100)))
    assert read_file(path) == bytes(range(256))


def test_what_pillow_logs_of_a_file_stays_off_the_terminal():
    three, many = (b"\x15\x01\3\0\1\0\0\0" + count for count in (b"\3", b"\x80"))
    content = encoded(draw_image(9, 9), "TIFF")
    assert content.count(three) == 1  # the tag of samples per pixel
    script = (
        "import sys; from alexnet_cli.data.images.decode import decode; "
        "decode(sys.stdin.buffer.read())"
    )
    found = subprocess.run(
        [sys.executable, "-c", script], input=content.replace(three, many), capture_output=True
    )
    assert b"ImageError: " in found.stderr
    assert found.stderr.startswith(b"Traceback")
