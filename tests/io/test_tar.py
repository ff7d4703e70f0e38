"""Small tars are read whole, and never larger than they may be."""

import bz2
import gzip
import lzma
import tarfile
from pathlib import Path

import pytest
from helpers import tar_header, tar_of

from alexnet_cli.io import tar as small_tar
from alexnet_cli.io.tar import DamagedTarError, read_small_tar

FILES = {"kit/a.txt": b"alpha" * 300, "kit/b.txt": b"beta", "kit/c.txt": b"c"}


def wanted(name: str) -> str | None:
    return None if name.endswith("c.txt") else name[4:]


def read(path: Path, content: bytes, max_bytes: int = 1 << 20) -> dict[str, bytes]:
    path.write_bytes(content)
    return read_small_tar(path, wanted, max_bytes)


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_requested_files_are_read_with_every_compression(tmp_path, pack):
    found = read(tmp_path / "a.tar", pack(tar_of(FILES)))
    assert found == {"a.txt": FILES["kit/a.txt"], "b.txt": b"beta"}


def test_longer_file_than_allowed_is_left_out(tmp_path):
    assert read(tmp_path / "a.tar", tar_of(FILES), max_bytes=4) == {"b.txt": b"beta"}


def test_link_is_left_out(tmp_path):
    member = tarfile.TarInfo("kit/link")
    member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
    assert "link" not in read(tmp_path / "a.tar", member.tobuf() + tar_of(FILES))


@pytest.mark.parametrize("kind", [b"L", b"x"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_header_that_claims_gigabytes_is_not_read(tmp_path, pack, kind):
    with pytest.raises(DamagedTarError, match="header of over 1 MB"):
        read(tmp_path / "a.tar", pack(tar_header("././@LongLink", 3 << 30, kind) + tar_of(FILES)))


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_tar_that_unpacks_to_more_than_allowed_is_refused(tmp_path, monkeypatch, pack):
    monkeypatch.setattr(small_tar, "MAX_UNPACKED_BYTES", 20 << 20)
    with pytest.raises(DamagedTarError, match="over 0 GB"):
        read(tmp_path / "a.tar", pack(tar_of(FILES) + bytes(40 << 20)))
    with pytest.raises(DamagedTarError, match="large"):
        read(tmp_path / "a.tar", pack(tar_header("kit/large", 1 << 40, tarfile.REGTYPE)))


def test_cut_anywhere_is_noticed_where_gzip_has_its_checksum(tmp_path):
    content = gzip.compress(tar_of(FILES))
    for length in range(1, len(content)):
        with pytest.raises(DamagedTarError):
            read(tmp_path / "a.tar", content[:length])
