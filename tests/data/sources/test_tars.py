"""Members of a tar; damage of every kind is in test_archives.py."""

import bz2
import gzip
import lzma
import tarfile
from pathlib import Path

import pytest
from helpers import refused, tar_header, tar_of

from alexnet_cli.data.sources.tars import image_of, list_members, list_whole_tar
from alexnet_cli.errors import SourceError


def write_tar(path: Path, *names: str) -> Path:
    path.write_bytes(tar_of({name: name.encode() for name in names}))
    return path


def test_members_read_in_place_as_their_bytes(tmp_path):
    path = write_tar(tmp_path / "a.tar", "1.jpg", "deep/2.jpg")
    images = [image_of(path, "a.tar/", member, 7) for member in list_whole_tar(path, {})]
    assert [p.read() for p in images] == [b"1.jpg", b"deep/2.jpg"]
    assert [(p.name, p.source, p.label) for p in images] == [
        ("1.jpg", "a.tar/1.jpg", 7),
        ("2.jpg", "a.tar/deep/2.jpg", 7),
    ]


def test_images_of_one_tar_share_the_text_before_their_names(tmp_path):
    path = write_tar(tmp_path / "a.tar", "deep/1.jpg", "deep/2.jpg")
    first, second = (image_of(path, "a.tar/", member, 0) for member in list_whole_tar(path, {}))
    assert first.parent is second.parent


def test_link_is_ignored_and_counted(tmp_path):
    path, ignored = tmp_path / "a.tar", {}
    with tarfile.open(path, "w") as tar:
        member = tarfile.TarInfo("1.jpg")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(member)
    assert list_whole_tar(path, ignored) == []
    assert ignored == {"tar member that is no plain file": 1}


@pytest.mark.parametrize("length", [0, 512, 1000, 2048])
def test_cut_tar_is_refused(tmp_path, length):
    path = write_tar(tmp_path / "a.tar", "1.jpg", "2.jpg")
    path.write_bytes(path.read_bytes()[:length])
    with refused(SourceError, r"a\.tar"):
        list_whole_tar(path, {})


def filled(content: bytes) -> bytes:
    return content + bytes(-len(content) % 512)


IMAGE = tar_header("x.jpg", 3, tarfile.REGTYPE) + filled(b"abc") + bytes(1024)
HOSTILE = {
    "long names without end": (tar_header("././@LongLink", 5, b"L") + filled(b"abcd")) * 3000,
    "notes without end": (tar_header("p", 10, b"x") + filled(b"10 path=a\n")) * 3000,
    "a size that leads beyond": tar_header("p", 20, b"x") + filled(b"20 size=9999999999\n\n"),
    "a sparse map of junk": tar_header("p", 44, b"x")
    + filled(b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n"),
    "a name of 6 GB": tar_header("././@LongLink", 6 << 30, b"L"),
    "a note of 6 GB": tar_header("p", 6 << 30, b"x"),
}


@pytest.mark.parametrize("start", HOSTILE.values(), ids=HOSTILE)
def test_hostile_headers_are_refused_without_reading_what_they_claim(tmp_path, start):
    path = tmp_path / "a.tar"
    path.write_bytes(start + IMAGE)
    with path.open("ab") as file:
        file.truncate(7 << 30)  # as if it were all there
    with refused(SourceError, r"damaged at (byte|x\.jpg)"):
        list_whole_tar(path, {})


@pytest.mark.parametrize("name", ["../../x.jpg", "/etc/x.jpg", "a/../../x.jpg", "x.jpg", ""])
def test_members_name_is_only_a_name(tmp_path, name):
    path = tmp_path / "a.tar"
    path.write_bytes(tar_header(name, 3, tarfile.REGTYPE) + filled(b"abc") + bytes(1024))
    (member,) = list_whole_tar(path, {})
    image = image_of(path, "a.tar/", member, 0)
    assert "/" not in image.name
    assert image.read() == b"abc"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kind", [b"S", b"1", b"2", b"3", b"4", b"6", b"V"])
def test_members_that_are_no_files_are_counted(tmp_path, kind):
    path, ignored = tmp_path / "a.tar", {}
    path.write_bytes(tar_header("odd", 0, kind) + IMAGE)
    assert [member.name for member in list_whole_tar(path, ignored)] == ["x.jpg"]
    assert ignored == {"tar member that is no plain file": 1}


def test_sparse_member_of_a_terabyte_is_counted_and_not_read(tmp_path):
    block = bytearray(tar_header("bomb.jpg", 0, b"S"))
    block[386:398] = block[398:410] = b"00000000000\0"  # one hole
    block[483:495] = b"\x80" + (1 << 40).to_bytes(11, "big")  # its real size
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    path, ignored = tmp_path / "a.tar", {}
    path.write_bytes(bytes(block) + IMAGE)
    assert [member.name for member in list_whole_tar(path, ignored)] == ["x.jpg"]
    assert ignored == {"tar member that is no plain file": 1}


@pytest.mark.parametrize(
    ("pack", "name"), [(gzip.compress, "gzip"), (bz2.compress, "bzip2"), (lzma.compress, "xz")]
)
def test_packed_tar_is_refused_by_the_name_of_its_packing(tmp_path, pack, name):
    path = tmp_path / "a.tar"
    path.write_bytes(pack(IMAGE))
    with refused(SourceError, f"a {name} file, not a tar"):
        list_whole_tar(path, {})


def test_equal_names_are_separate_images(tmp_path):
    path = tmp_path / "a.tar"
    path.write_bytes(IMAGE[:1024] * 3 + bytes(1024))
    assert len(list_whole_tar(path, {})) == 3


def test_many_members_take_no_memory_for_those_passed(tmp_path):
    path = tmp_path / "a.tar"
    path.write_bytes(tar_header("x.jpg", 0, tarfile.REGTYPE) * 20_000 + bytes(1024))
    with path.open("rb") as file:
        count = sum(1 for _ in list_members(path, file, 0, path.stat().st_size, {}))
    assert count == 20_000
