"""Bytes from zips, staged files and CIFAR's planes; a damaged image is rejected."""

import io
import random
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alexnet_cli.data.sources import codecs
from alexnet_cli.data.sources.codecs import READERS
from alexnet_cli.data.sources.staging import write_rows
from alexnet_cli.errors import ImageError

CONTENT = b"0123456789" * 50


def a_zip(path: Path, method: int, *, streamed: bool = False) -> tuple[int, int]:
    """Write a zip of one member; returns the offset of its header and its packed length."""
    buffer = io.BytesIO()
    target = _Unseekable(buffer) if streamed else buffer
    with zipfile.ZipFile(target, "w", method) as archive:
        archive.writestr("before", "something before it")
        archive.writestr("deep/a.JPEG", CONTENT)
        member = archive.getinfo("deep/a.JPEG")
    path.write_bytes(buffer.getvalue())
    return member.header_offset, member.compress_size


class _Unseekable(io.RawIOBase):
    """Makes zipfile put checksums behind the data, as into a pipe."""

    def __init__(self, file: io.BytesIO):
        self._file = file

    def writable(self) -> bool:
        return True

    def write(self, content) -> int:
        return self._file.write(content)


def read(path: Path, codec: str, offset: int, length: int) -> bytes:
    with path.open("rb") as file:
        return READERS[codec](file, offset, length)


def reason(path: Path, codec: str, offset: int, length: int) -> str:
    with pytest.raises(ImageError) as error:
        read(path, codec, offset, length)
    return error.value.reason


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("streamed", [False, True])
def test_zip_member_reads_as_its_bytes(tmp_path, method, streamed):
    at = a_zip(tmp_path / "a.zip", method, streamed=streamed)
    assert read(tmp_path / "a.zip", "zip", *at) == CONTENT


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_flipped_bit_in_a_zip_member_never_changes_an_image_unnoticed(tmp_path, method):
    path = tmp_path / "a.zip"
    offset, length = a_zip(path, method)
    whole, rng = path.read_bytes(), random.Random(3)
    begin = offset + 30 + len("deep/a.JPEG")
    for _ in range(50):
        damaged = bytearray(whole)
        damaged[rng.randrange(begin, begin + length)] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        with suppress(ImageError):
            assert read(path, "zip", offset, length) == CONTENT  # a bit that deflate does not use


def test_zip_that_became_shorter_makes_a_truncated_image(tmp_path):
    path = tmp_path / "a.zip"
    offset, length = a_zip(path, zipfile.ZIP_STORED)
    path.write_bytes(path.read_bytes()[: offset + 100])
    assert reason(path, "zip", offset, length) == "truncated"


def test_place_without_a_zip_member_is_unreadable(tmp_path):
    (tmp_path / "a.zip").write_bytes(bytes(100))
    assert reason(tmp_path / "a.zip", "zip", 0, 10) == "unreadable"


def test_zip_method_we_do_not_read_is_named(tmp_path):
    at = a_zip(tmp_path / "a.zip", zipfile.ZIP_BZIP2)
    assert reason(tmp_path / "a.zip", "zip", *at) == "unreadable"


def test_zip_bomb_is_not_unpacked(tmp_path, monkeypatch):
    at = a_zip(tmp_path / "a.zip", zipfile.ZIP_DEFLATED)
    monkeypatch.setattr(codecs, "MAX_FILE_BYTES", 100)
    assert reason(tmp_path / "a.zip", "zip", *at) == "too-many-pixels"


def test_staged_row_is_found_by_its_number(tmp_path):
    rows = [b"first", b"", b"third"]
    with (tmp_path / "a.rows").open("wb") as file:
        write_rows(file, rows, 3)
    assert [read(tmp_path / "a.rows", "row", number, 0) for number in range(3)] == rows


def test_cifar_planes_become_a_lossless_image(tmp_path):
    pixels_HWC = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    (tmp_path / "a.bin").write_bytes(b"\7" + pixels_HWC.transpose(2, 0, 1).tobytes())
    content = read(tmp_path / "a.bin", "cifar", 1, 3072)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(content))), pixels_HWC)


def test_cifar_planes_that_are_cut_are_truncated(tmp_path):
    (tmp_path / "a.bin").write_bytes(bytes(3000))
    assert reason(tmp_path / "a.bin", "cifar", 1, 3072) == "truncated"
