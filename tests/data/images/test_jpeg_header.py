"""What is read of a JPEG before it is decoded, against Pillow and the scans that were put in."""

import numpy as np
import pytest
from helpers import encoded
from PIL import Image

from alexnet_cli.data.images.jpeg_header import MAX_SEGMENTS, SCAN, read_jpeg_header

PIXELS = (np.mgrid[:40, :60].sum(axis=0) * 2).astype(np.uint8)
COLOR = np.stack([PIXELS, PIXELS[::-1], PIXELS], axis=-1)


def jpeg(mode: str = "RGB", **options) -> bytes:
    return encoded(Image.fromarray(COLOR).convert(mode), "JPEG", **options)


@pytest.mark.parametrize(("mode", "components"), [("L", 1), ("RGB", 3), ("CMYK", 4)])
def test_size_and_components_are_those_of_the_image(mode, components):
    header = read_jpeg_header(jpeg(mode))
    assert (header.height, header.width, header.precision) == (40, 60, 8)
    assert (header.kind, header.num_components) == (0xC0, components)


def test_plain_jpeg_comes_in_one_scan():
    header = read_jpeg_header(jpeg())
    assert header.num_scans == 1
    assert header.in_one_scan


@pytest.mark.parametrize(("mode", "scans"), [("L", 6), ("RGB", 10)])
def test_scans_of_a_progressive_jpeg_are_counted(mode, scans):
    header = read_jpeg_header(jpeg(mode, progressive=True))
    assert header.num_scans == scans
    assert not header.in_one_scan


def test_scans_that_were_put_in_are_counted():
    content = jpeg(progressive=True)
    assert read_jpeg_header(content[:-2] + SCAN * 1000 + content[-2:]).num_scans == 1010


def test_first_scan_of_some_components_means_that_others_follow():
    content = jpeg()
    place = content.index(SCAN) + 4
    one = content[:place] + b"\1" + content[place + 1 :]
    header = read_jpeg_header(one)
    assert header.kind == 0xC0
    assert not header.in_one_scan or header.num_scans > 1 or one.count(SCAN) == 1
    assert read_jpeg_header(one[:-2] + SCAN * 9 + one[-2:]).num_scans == 10


def scans(content: bytes) -> list[bytes]:
    """What comes before the first scan, and each scan with the tables behind it."""
    before, *rest = content[:-2].split(SCAN)
    return [before, *(SCAN + scan for scan in rest)]


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_with_all_its_scans_is_whole(mode, progressive):
    assert read_jpeg_header(jpeg(mode, progressive=progressive)).is_whole


def test_progressive_jpeg_may_lack_what_refines_it():
    before, first, *refining = scans(jpeg(progressive=True))
    assert read_jpeg_header(before + first).is_whole
    assert not read_jpeg_header(before + b"".join(refining)).is_whole


def plain_in_scans(*names: bytes) -> bytes:
    """A plain JPEG in which each group of components has its own scan."""
    before, _ = scans(jpeg())
    tables = (bytes([len(group)]) + b"".join(bytes([n, 0]) for n in group) for group in names)
    return before + b"".join(
        SCAN + (len(table) + 5).to_bytes(2, "big") + table + b"\0\x3f\0data" for table in tables
    )


@pytest.mark.parametrize(
    ("names", "is_whole"),
    [
        ([b"\1", b"\2", b"\3"], True),
        ([b"\3", b"\1\2"], True),
        ([b"\1", b"\2"], False),
        ([b"\1\3"], False),
        ([b"\1", b"\1", b"\1"], False),
    ],
)
def test_component_without_a_scan_is_missed(names, is_whole):
    assert read_jpeg_header(plain_in_scans(*names)).is_whole == is_whole


@pytest.mark.parametrize(
    "before",
    [b"\xff" * 99, b"\xff\xe1\0\x10" + b"\xff\xda" * 7, b"\xff\x01", b"\xff\xd3", b"rubbish"],
    ids=["fill", "scan in a note", "marker without length", "restart", "rubbish"],
)
def test_what_comes_before_the_frame_is_left_out(before):
    content = jpeg(progressive=True)
    header = read_jpeg_header(content[:2] + before + content[2:])
    assert (header.height, header.width, header.num_scans) == (40, 60, 10)


@pytest.mark.parametrize("length", [0, 2, 3, 20, 100, 300])
def test_jpeg_that_ends_before_its_scan_has_no_header(length):
    assert read_jpeg_header(jpeg()[:length]) is None


def test_more_segments_than_any_image_has_are_not_followed():
    content = jpeg()
    note = b"\xff\xe5\0\2"
    few, many = (content[:2] + note * n + content[2:] for n in (100, MAX_SEGMENTS))
    assert read_jpeg_header(few) == read_jpeg_header(content)
    assert read_jpeg_header(many) is None


def test_rubbish_has_no_header_whatever_it_is():
    rng = np.random.default_rng(5)
    for _ in range(300):
        content = (
            b"\xff\xd8" + rng.choice([0, 2, 255, 192, 218, 217], 60).astype(np.uint8).tobytes()
        )
        header = read_jpeg_header(content)
        assert header is None or header.num_scans >= 1
