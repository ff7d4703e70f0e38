"""Members of a tar; damage of every kind is in test_archives.py."""

import io
import tarfile
from pathlib import Path

import pytest

from alexnet_cli.data.releases.tars import list_whole_tar, picture_of
from alexnet_cli.errors import ReleaseError


def write_tar(path: Path, *names: str) -> Path:
    with tarfile.open(path, "w") as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = len(name)
            tar.addfile(member, io.BytesIO(name.encode()))
    return path


def test_members_read_in_place_as_their_bytes(tmp_path):
    path = write_tar(tmp_path / "a.tar", "1.jpg", "deep/2.jpg")
    pictures = [picture_of(path, "a.tar/", member, 7) for member in list_whole_tar(path, {})]
    assert [p.read() for p in pictures] == [b"1.jpg", b"deep/2.jpg"]
    assert [(p.name, p.source, p.label) for p in pictures] == [
        ("1.jpg", "a.tar/1.jpg", 7),
        ("2.jpg", "a.tar/deep/2.jpg", 7),
    ]


def test_pictures_of_one_tar_share_the_text_before_their_names(tmp_path):
    path = write_tar(tmp_path / "a.tar", "deep/1.jpg", "deep/2.jpg")
    first, second = (picture_of(path, "a.tar/", member, 0) for member in list_whole_tar(path, {}))
    assert first.parent is second.parent


def test_a_link_is_ignored_and_counted(tmp_path):
    path, ignored = tmp_path / "a.tar", {}
    with tarfile.open(path, "w") as tar:
        member = tarfile.TarInfo("1.jpg")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(member)
    assert list_whole_tar(path, ignored) == []
    assert ignored == {"tar member that is no plain file": 1}


@pytest.mark.parametrize("length", [0, 512, 1000, 2048])
def test_a_cut_tar_is_refused(tmp_path, length):
    path = write_tar(tmp_path / "a.tar", "1.jpg", "2.jpg")
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ReleaseError, match=r"a\.tar"):
        list_whole_tar(path, {})
