"""The eleven damages that tar readers mostly pass over in silence, and more, at random places."""

import os
import shutil
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import simplejpeg

from alexnet_cli.data.shards.dataset import open_dataset
from alexnet_cli.data.shards.index import read_index
from alexnet_cli.data.shards.verify import AuditTask, ShardAudit, _fault, audit_shard

SHARD = "train-000001.tar"
BLOCK = 512


@pytest.fixture
def shard(dataset, tmp_path) -> Path:
    """A copy of one shard of 25 samples, to be damaged."""
    return Path(shutil.copy(dataset / SHARD, tmp_path / SHARD))


def task_of(dataset: Path, folder: Path, *, deep: bool = False, **changes) -> AuditTask:
    samples = open_dataset(dataset).split("train").samples
    fields = {
        "folder": folder,
        "split": "train",
        "shard": read_index(dataset).splits["train"].shards[1],
        "rows": samples[samples["shard"] == 1] if deep else None,
        "image_size": 112,
    }
    return AuditTask(**{**fields, **changes})


def audit(dataset: Path, path: Path, **changes) -> ShardAudit:
    return audit_shard(task_of(dataset, path.parent, **changes))


def members(path: Path) -> list[tarfile.TarInfo]:
    with tarfile.open(path) as tar:
        return tar.getmembers()


def flip(path: Path, place: int, bit: int = 1) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= bit
    path.write_bytes(content)


def overwrite(path: Path, place: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(place)
        file.write(content)


# --- the eleven damages: each takes the shard and a generator


def cut_on_a_member_boundary(path, rng):
    os.truncate(path, rng.choice([m.offset for m in members(path)]))


def cut_inside_a_header(path, rng):
    os.truncate(path, rng.choice(members(path)).offset + int(rng.integers(1, BLOCK)))


def cut_inside_the_data(path, rng):
    member = rng.choice(members(path))
    os.truncate(path, member.offset_data + int(rng.integers(0, member.size)))


def flip_a_bit_of_a_name(path, rng):
    member = rng.choice(members(path))
    flip(path, member.offset + int(rng.integers(0, len(member.name))), 1 << int(rng.integers(8)))


def zero_a_header(path, rng):
    overwrite(path, rng.choice(members(path)).offset, bytes(BLOCK))


def change_a_checksum(path, rng):
    overwrite(path, rng.choice(members(path)).offset + 148, b"000000")


def flip_a_byte_of_a_image(path, rng):
    member = rng.choice([m for m in members(path) if m.name.endswith("jpg")])
    flip(path, member.offset_data + int(rng.integers(0, member.size)), 1 << int(rng.integers(8)))


def damage_the_first_header(path, rng):
    overwrite(path, int(rng.integers(0, 400)), b"\xff" * 100)


def empty_the_file(path, rng):
    path.write_bytes(b"")


def zero_the_file(path, rng):
    path.write_bytes(bytes(rng.choice([10_240, path.stat().st_size])))


def join_two_tars(path, rng):
    path.write_bytes(path.read_bytes() * int(rng.integers(2, 4)))


# --- and others


def flip_a_byte_of_a_label(path, rng):
    member = rng.choice([m for m in members(path) if m.name.endswith("cls")])
    flip(path, member.offset_data)


def flip_a_byte_of_a_note(path, rng):
    member = rng.choice([m for m in members(path) if m.name.endswith("json")])
    flip(path, member.offset_data + int(rng.integers(0, member.size)))


def write_between_members(path, rng):
    member = rng.choice([m for m in members(path) if m.size % BLOCK])
    end = member.offset_data + member.size
    flip(path, int(rng.integers(end, -(-end // BLOCK) * BLOCK)))


def write_behind_the_end(path, rng):
    end = members(path)[-1].offset_data + BLOCK
    flip(path, int(rng.integers(end, path.stat().st_size)))


ELEVEN = [
    cut_on_a_member_boundary, cut_inside_a_header, cut_inside_the_data, flip_a_bit_of_a_name,
    zero_a_header, change_a_checksum, flip_a_byte_of_a_image, damage_the_first_header,
    empty_the_file, zero_the_file, join_two_tars,
]  # fmt: skip
MORE = [
    flip_a_byte_of_a_label, flip_a_byte_of_a_note, write_between_members, write_behind_the_end
]  # fmt: skip
Damage = Callable[[Path, np.random.Generator], None]


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("damage", [*ELEVEN, *MORE], ids=lambda damage: damage.__name__)
def test_every_damage_is_found(dataset, shard, damage, seed):
    damage(shard, np.random.default_rng([seed, 7]))

    findings = audit(dataset, shard).findings

    assert findings
    assert {finding.file for finding in findings} == {SHARD}
    assert all(finding.expected != finding.found for finding in findings)


@pytest.mark.parametrize("seed", range(10))
def test_deep_audit_names_the_damaged_image(dataset, shard, seed):
    before = shard.read_bytes()
    flip_a_byte_of_a_image(shard, np.random.default_rng(seed))
    place = next(
        i
        for i, pair in enumerate(zip(before, shard.read_bytes(), strict=True))
        if pair[0] != pair[1]
    )
    with tarfile.open(dataset / SHARD) as tar:
        name = next(m.name for m in reversed(tar.getmembers()) if m.offset <= place)

    whole, image = audit(dataset, shard, deep=True).findings

    assert (whole.what, whole.key) == ("SHA-256", "")
    assert (image.what, image.key) == ("CRC-32 of the JPEG", name.removesuffix(".jpg"))


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("size", [1000, 1 << 20])
def test_intact_shards_have_no_findings(dataset, monkeypatch, size, deep):
    monkeypatch.setattr("alexnet_cli.data.shards.verify.HASHED_BYTES", size)

    found = audit(dataset, dataset / SHARD, deep=deep)

    assert found.findings == []
    assert found.sha256 == read_index(dataset).splits["train"].shards[1].sha256
    assert found.num_bytes == (dataset / SHARD).stat().st_size


def test_missing_shard_is_a_finding(dataset, tmp_path):
    (finding,) = audit(dataset, tmp_path / SHARD).findings
    assert (finding.file, finding.found) == (SHARD, "no such file")


def test_shard_that_cannot_be_read_is_a_finding(dataset, tmp_path):
    (tmp_path / SHARD).mkdir()
    (finding,) = audit(dataset, tmp_path / SHARD).findings
    assert finding.what == "reading it"


def test_many_damaged_images_are_counted(dataset, shard):
    for member in members(shard)[::3]:
        flip(shard, member.offset_data + 100)

    findings = audit(dataset, shard, deep=True).findings

    assert len([finding for finding in findings if finding.key]) == 5
    assert findings[-1].found == "20 damaged"


def test_deep_audit_finds_images_of_another_size(dataset):
    (first, *_) = audit(dataset, dataset / SHARD, image_size=256, deep=True).findings
    assert (first.expected, first.found) == ("256 x 256 pixels", "112 x 112")


def claiming(side: int) -> bytes:
    """Return a JPEG of 16 x 16 pixels that says it has more."""
    jpeg = bytearray(simplejpeg.encode_jpeg(np.zeros((16, 16, 3), np.uint8)))
    place = jpeg.index(b"\xff\xc0") + 5
    jpeg[place : place + 4] = side.to_bytes(2, "big") * 2
    return bytes(jpeg)


@pytest.mark.parametrize("side", [15, 17, 65_500])
def test_image_whose_header_says_it_is_larger_is_not_decoded(side, monkeypatch):
    monkeypatch.setattr(simplejpeg, "decode_jpeg", None)
    jpeg = claiming(side)

    fault = _fault(jpeg, zlib.crc32(jpeg), 16)

    assert fault == ("decoding the JPEG", "16 x 16 pixels", f"{side} x {side}")


def test_truncated_image_with_a_matching_checksum_is_found():
    jpeg = simplejpeg.encode_jpeg(np.zeros((16, 16, 3), np.uint8))[:-30]

    what, expected, _ = _fault(jpeg, zlib.crc32(jpeg), 16)

    assert (what, expected) == ("decoding the JPEG", "16 x 16 pixels")


def test_finding_is_shown_on_one_line(dataset, shard):
    flip_a_byte_of_a_image(shard, np.random.default_rng(0))
    lines = [str(finding) for finding in audit(dataset, shard, deep=True).findings]
    assert any(line.startswith(f"{SHARD}: sample train-000000") for line in lines)


@pytest.mark.parametrize("deep", [False, True])
def test_audit_stops_on_request(dataset, deep):
    assert audit_shard(task_of(dataset, dataset, deep=deep), lambda: True).num_bytes == 0
