import io
import tarfile
import zlib

import pytest

from alexnet_cli.data.shards.tar_layout import end_of_tar, header, sample_members, scan_samples


def shard(members: dict[str, bytes]) -> bytes:
    """Return a tar as prep writes it."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o644
            tar.addfile(member, io.BytesIO(content))
    return file.getvalue()


def samples(count: int) -> dict[str, bytes]:
    members = {}
    for number in range(count):
        members[f"train-{number:08d}.jpg"] = bytes([number + 1]) * (700 + number)
        members[f"train-{number:08d}.cls"] = str(number).encode()
        members[f"train-{number:08d}.json"] = b'{"wnid": "a", "source": "b"}'
    return members


@pytest.mark.parametrize("size", [0, 1, 7, 8, 511, 512, 65_536, 8**11 - 1])
def test_header_is_the_one_that_tarfile_writes(size):
    member = tarfile.TarInfo("train-00000017.jpg")
    member.size, member.mode = size, 0o644
    assert header("train-00000017.jpg", size) == member.tobuf(tarfile.USTAR_FORMAT)


@pytest.mark.parametrize("count", [0, 1, 3, 4, 6])
def test_shard_has_the_bytes_that_tarfile_writes(count):
    members, written = samples(count), b""
    for key in sorted({name.partition(".")[0] for name in members}):
        contents = (members[f"{key}.jpg"], members[f"{key}.cls"], members[f"{key}.json"])
        written += sample_members(key, contents)
    assert written + end_of_tar(len(written)) == shard(members)


def test_samples_of_a_shard_are_found(tmp_path):
    content = shard(samples(3))
    (tmp_path / "train-000000.tar").write_bytes(content)

    found = scan_samples(tmp_path / "train-000000.tar")

    assert [row[2:4] for row in found] == [(0, 0), (1, 1), (2, 2)]
    for offset, length, label, _, crc in found:
        assert content[offset : offset + length] == bytes([label + 1]) * (700 + label)
        assert crc == zlib.crc32(content[offset : offset + length])


def test_shard_without_samples_has_none(tmp_path):
    (tmp_path / "val-000000.tar").write_bytes(shard({}))
    assert scan_samples(tmp_path / "val-000000.tar") == []
