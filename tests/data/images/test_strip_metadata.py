"""Files without what is no image: the pixels stay, the rest is gone or refused."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin, TiffImagePlugin

from alexnet_cli.data.images import strip_metadata as bare_files
from alexnet_cli.data.images.strip_metadata import MAX_TAG_VALUES, bare_jpeg, bare_png, check_tiff
from alexnet_cli.errors import ImageError

PIXELS = np.random.default_rng(1).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def saved(kind: str, mode: str = "RGB", **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(PIXELS).convert(mode).save(file, kind, **options)
    return file.getvalue()


def opened(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_keeps_its_pixels_and_loses_its_metadata(mode, progressive):
    exif = Image.Exif()
    exif[0x010E] = "a description"
    content = saved(
        "JPEG",
        mode,
        progressive=progressive,
        exif=exif,
        icc_profile=bytes(99),
        comment=b"a comment",
    )
    bare = bare_jpeg(content)
    np.testing.assert_array_equal(opened(bare), opened(content))
    image = Image.open(io.BytesIO(bare))
    assert image.info.keys().isdisjoint({"exif", "icc_profile", "comment"})
    assert len(bare) < len(content) - 150


def test_jpeg_that_is_damaged_is_unchanged():
    for content in (b"\xff\xd8", b"\xff\xd8rubbish", saved("JPEG")[:50]):
        assert bare_jpeg(content).startswith(content[:2])
        assert len(bare_jpeg(content)) <= len(content)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_png_keeps_its_pixels_and_loses_its_texts(mode):
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "word " * 99)
    content = saved("PNG", mode, pnginfo=info, icc_profile=bytes(99), dpi=(72, 72))
    bare = bare_png(content)
    np.testing.assert_array_equal(opened(bare), opened(content))
    assert Image.open(io.BytesIO(bare)).info == {}


def test_png_keeps_its_transparency():
    content = saved("PNG", "P", transparency=bytes(range(200)))
    assert Image.open(io.BytesIO(bare_png(content))).info["transparency"] == bytes(range(200))


def test_of_an_animated_png_the_first_image_stays():
    content = saved("PNG", save_all=True, append_images=[Image.new("RGB", (30, 20))])
    bare = bare_png(content)
    np.testing.assert_array_equal(opened(bare), PIXELS)
    assert b"fdAT" in content
    assert b"fdAT" not in bare


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_cut_png_stays_cut(share):
    content = saved("PNG")
    cut = content[: int(share * len(content))]
    assert bare_png(cut) == cut[: len(bare_png(cut))]
    assert len(bare_png(cut)) >= len(cut)


def test_png_of_endless_chunks_is_refused(monkeypatch):
    monkeypatch.setattr(bare_files, "MAX_CHUNKS", 100)
    content = saved("PNG")
    empty = struct.pack(">I", 0) + b"abCd" + struct.pack(">I", zlib.crc32(b"abCd"))
    assert opened(bare_png(content[:33] + empty * 90 + content[33:])).shape == (20, 30, 3)
    with pytest.raises(ImageError, match="corrupt: over 100 chunks"):
        bare_png(content[:33] + empty * 100 + content[33:])


def tiff(*entries: tuple[int, int, int, int], order: str = "<") -> bytes:
    head = struct.pack(f"{order}2sHLH", b"II" if order == "<" else b"MM", 42, 8, len(entries))
    return head + b"".join(struct.pack(f"{order}HHLL", *entry) for entry in entries) + bytes(4)


@pytest.mark.parametrize("big", [False, True])
def test_tiff_as_pillow_writes_it_passes(big):
    notes = TiffImagePlugin.ImageFileDirectory_v2()
    notes[270] = "a description " * 9999
    check_tiff(saved("TIFF", tiffinfo=notes, big_tiff=big))


@pytest.mark.parametrize("order", ["<", ">"])
def test_tag_of_too_many_values_is_refused(order):
    check_tiff(tiff((339, 3, MAX_TAG_VALUES, 8), order=order))
    with pytest.raises(ImageError, match="corrupt: TIFF tag 339 of 131073 values"):
        check_tiff(tiff((339, 3, MAX_TAG_VALUES + 1, 8), order=order))


def test_tag_of_too_many_values_inside_exif_is_refused():
    outer = tiff((34665, 4, 1, 26))
    inner = struct.pack("<HHHLL", 1, 37500, 3, 1 << 24, 8)
    with pytest.raises(ImageError, match="tag 37500"):
        check_tiff(outer + inner)


def test_tag_of_many_bytes_passes():
    check_tiff(tiff((34377, 1, 1 << 28, 8), (700, 7, 1 << 28, 8)))


def test_circular_directories_end():
    with pytest.raises(ImageError, match="directories in one"):
        check_tiff(tiff((34665, 4, 1, 8)))


@pytest.mark.parametrize("length", [0, 2, 4, 9, 15])
def test_cut_tiff_is_left_to_pillow(length):
    check_tiff(tiff((256, 4, 1, 9))[:length])
