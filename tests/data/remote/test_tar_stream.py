"""Tars as a stream: what others wrote is read, what is cut, damaged or hostile is refused."""

import errno
import hashlib
import io
import os
import tarfile

import pytest

from alexnet_cli.data.remote.tar_stream import TarStream
from alexnet_cli.data.sources.samples import MAX_IMAGE_BYTES, MAX_NOTE_BYTES, key_and_extension
from alexnet_cli.errors import DatasetError, MachineError
from alexnet_cli.io.tar import MAX_HEADER_BYTES

FORMATS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]
MEMBERS = {"a.jpg": b"image", "a.cls": b"1", "b.png": bytes(2000), "b.json": b"{}"}


def member(name: str, content: bytes, form: int = tarfile.GNU_FORMAT, **fields) -> bytes:
    """Return the blocks of one member; fields are those of its header, true or not."""
    header = tarfile.TarInfo(name)
    header.size = len(content)
    for field, value in fields.items():
        setattr(header, field, value)
    return header.tobuf(form) + content + bytes(-len(content) % 512)


def tar(members: dict[str, bytes], form: int = tarfile.GNU_FORMAT) -> bytes:
    blocks = [member(name, content, form) for name, content in members.items()]
    return b"".join(blocks) + bytes(1024)


def read(content: bytes) -> dict[str, bytes]:
    return dict(TarStream(io.BytesIO(content), "x.tar").members())


@pytest.mark.parametrize("form", FORMATS)
def test_members_and_digest_of_every_tar_format_are_read(form):
    content = tar(MEMBERS | {"f" * 90 + "/c.jpg": b"long"}, form)
    stream = TarStream(io.BytesIO(content), "x.tar")
    assert dict(stream.members()) == MEMBERS | {"f" * 90 + "/c.jpg": b"long"}
    assert stream.digest.hexdigest() == hashlib.sha256(content).hexdigest()


def test_source_may_return_few_bytes_at_a_time():
    class Slow(io.BytesIO):
        def read(self, count=-1):
            return super().read(min(count, 7))

    assert dict(TarStream(Slow(tar(MEMBERS)), "x.tar").members()) == MEMBERS


def test_members_of_other_kinds_are_not_read():
    others = {
        "a.pkl": b"cos\nsystem\n",
        "a.pyd": b"x",
        "a.pickle": b"x",
        "a.npy": bytes(3 << 20),
        "none": b"",
    }
    assert read(tar(others | MEMBERS)) == MEMBERS | dict.fromkeys(others, b"")


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE]
)
def test_links_and_devices_are_skipped(kind):
    odd = member("odd.jpg", b"", type=kind, linkname="/etc/passwd")
    assert read(odd + tar(MEMBERS)) == MEMBERS


def test_disk_error_is_not_taken_for_damage():
    class Failing(io.BytesIO):
        def read(self, count=-1):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    with pytest.raises(MachineError, match=r"x\.tar: Input/output error"):
        dict(TarStream(Failing(), "x.tar").members())


def test_member_names_are_never_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ["../../up.jpg", "/etc/absolute.jpg"]
    assert list(read(tar(dict.fromkeys(names, b"x")))) == names
    assert list(tmp_path.iterdir()) == []


def test_tar_truncated_at_any_block_is_refused():
    content = tar(MEMBERS)
    for end in range(0, len(content), 512):
        with pytest.raises(DatasetError, match=r"x\.tar: cut"):
            read(content[:end])


def test_header_with_any_byte_changed_is_refused():
    content = tar(MEMBERS)
    for position in (*range(0, 148, 7), *range(156, 512, 17)):  # the checksum is between them
        damaged = bytearray(content)
        damaged[1024 + position] ^= 1
        with pytest.raises(DatasetError):
            read(bytes(damaged))


def test_damaged_last_header_is_not_taken_for_the_end():
    content = bytearray(tar(MEMBERS | {"c.cls": b""}))
    content[-1024 - 500] ^= 1
    with pytest.raises(DatasetError, match="bad checksum"):
        read(bytes(content))


def test_zeros_in_place_of_a_header_are_not_taken_for_the_end():
    content = bytearray(tar(MEMBERS))
    content[1024:1536] = bytes(512)
    with pytest.raises(DatasetError, match="no end"):
        read(bytes(content))


def test_zeros_in_place_of_two_headers_are_not_taken_for_the_end():
    content = bytearray(tar(MEMBERS))
    content[1024:2048] = bytes(1024)
    with pytest.raises(DatasetError, match="zeros in place of a header"):
        read(bytes(content))


@pytest.mark.parametrize("content", [b"", b"no tar at all" * 99, bytes(300), b"\x1f\x8b" * 999])
def test_content_other_than_a_tar_is_refused(content):
    with pytest.raises(DatasetError):
        read(content)


@pytest.mark.parametrize(
    ("name", "size"), [("a.jpg", MAX_IMAGE_BYTES), ("a.cls", MAX_NOTE_BYTES), ("a.jpg", 1 << 50)]
)
def test_member_whose_header_says_it_is_too_large_is_not_read(name, size):
    with pytest.raises(DatasetError, match="at most"):
        read(member(name, b"", size=size + 1) + bytes(1024))


def test_endless_member_of_another_kind_ends_with_the_tar():
    with pytest.raises(DatasetError, match="unexpected end of data"):
        read(member("a.npy", b"", size=1 << 60) + bytes(1024))


def test_sparse_members_are_refused():
    with pytest.raises(DatasetError, match="sparse"):
        read(member("a.jpg", bytes(512), type=tarfile.GNUTYPE_SPARSE) + bytes(1024))
    sparse = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9"}
    sparse |= {"GNU.sparse.name": "a.jpg"}
    content = b"1\n0\n1\n".ljust(512, b"\0")
    with pytest.raises(DatasetError, match="sparse"):
        read(member("a.jpg", content, tarfile.PAX_FORMAT, pax_headers=sparse) + bytes(1024))


def test_header_larger_than_any_is_refused_before_it_is_read():
    head = member("a.jpg", b"", type=tarfile.XHDTYPE, size=1 << 40)
    with pytest.raises(DatasetError, match="a header of"):
        read(head + bytes(1024))


def test_sparse_map_without_end_is_refused():
    sparse = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "a.jpg"}
    sparse |= {"GNU.sparse.realsize": "9"}
    content = b"100000000\n" + b"0\n" * (MAX_HEADER_BYTES * 5 // 8)
    with pytest.raises(DatasetError, match="a header of over 1 MB"):
        read(member("a.jpg", content, tarfile.PAX_FORMAT, pax_headers=sparse) + bytes(1024))


def test_keys_end_at_the_first_dot():
    assert key_and_extension("a.b/c.d.JPG") == ("a.b/c", "d.jpg")
    assert key_and_extension("c") == ("c", "")
