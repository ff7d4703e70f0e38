"""The eleven damages that tar readers mostly pass over in silence, and more, at random places."""

import json
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from alexnet_cli.data.shards.dataset import SAMPLE_DTYPE, open_dataset
from alexnet_cli.data.shards.index import read_index
from alexnet_cli.data.shards.shard_audit import AuditTask, ShardAudit, audit_shard

SHARD = "train-000001.tar"
BLOCK = 512


@pytest.fixture
def shard(dataset, tmp_path) -> Path:
    """A copy of one shard of 25 samples, to be damaged."""
    return Path(shutil.copy(dataset / SHARD, tmp_path / SHARD))


def task_of(dataset: Path, folder: Path, **changes) -> AuditTask:
    index = read_index(dataset)
    samples = open_dataset(dataset).split("train").samples
    wnids = tuple(entry.wnid for entry in index.classes)
    fields = {
        "folder": folder,
        "split": "train",
        "shard": index.splits["train"].shards[1],
        "rows": samples[samples["shard"] == 1],
        "wnids": wnids,
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


def flip_a_byte_of_a_picture(path, rng):
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
    zero_a_header, change_a_checksum, flip_a_byte_of_a_picture, damage_the_first_header,
    empty_the_file, zero_the_file, join_two_tars,
]  # fmt: skip
MORE = [
    flip_a_byte_of_a_label, flip_a_byte_of_a_note, write_between_members, write_behind_the_end
]  # fmt: skip
Damage = Callable[[Path, np.random.Generator], None]


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("damage", [*ELEVEN, *MORE], ids=lambda damage: damage.__name__)
def test_every_damage_at_any_place_is_found(dataset, shard, damage, seed):
    damage(shard, np.random.default_rng([seed, 7]))
    findings = audit(dataset, shard).findings
    assert findings
    assert {finding.file for finding in findings} == {SHARD}
    assert all(finding.expected != finding.found for finding in findings)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    "damage",
    [
        flip_a_bit_of_a_name, zero_a_header, change_a_checksum, flip_a_byte_of_a_picture,
        flip_a_byte_of_a_label, cut_inside_the_data, write_between_members,
    ],
    ids=lambda damage: damage.__name__,
)  # fmt: skip
def test_damaged_sample_is_named(dataset, shard, damage, seed):
    before = shard.read_bytes()
    damage(shard, np.random.default_rng(seed))
    after = shard.read_bytes()
    changed = next((i for i, pair in enumerate(zip(before, after)) if pair[0] != pair[1]), None)  # noqa: B905
    place = len(after) if changed is None else changed
    with tarfile.open(dataset / SHARD) as tar:
        name = next(m.name for m in reversed(tar.getmembers()) if m.offset <= place)
    keys = {finding.key for finding in audit(dataset, shard).findings}
    assert name.partition(".")[0] in keys


def test_whole_shards_raise_no_alarm(dataset):
    for deep in (False, True):
        found = audit(dataset, dataset / SHARD, deep=deep)
        assert found.findings == []
        assert found.sha256 == read_index(dataset).splits["train"].shards[1].sha256
        assert found.num_bytes == (dataset / SHARD).stat().st_size


@pytest.mark.parametrize("read_ahead", [False, True])
@pytest.mark.parametrize("size", [1000, 1 << 20])
def test_right_hash_says_all_where_the_sample_index_is_preps_own(
    dataset, shard, monkeypatch, size, read_ahead
):
    monkeypatch.setattr("alexnet_cli.data.shards.shard_audit.HASHED_BYTES", size)
    monkeypatch.setattr(
        "alexnet_cli.data.shards.shard_audit._Reading", None
    )  # nothing else is looked at
    found = audit(dataset, shard, by_hash=True, read_ahead=read_ahead)
    assert found.findings == []
    assert found.num_bytes == shard.stat().st_size


@pytest.mark.parametrize("damage", [*ELEVEN, *MORE], ids=lambda damage: damage.__name__)
def test_wrong_hash_is_explained_as_if_all_had_been_looked_at(dataset, shard, damage):
    damage(shard, np.random.default_rng(5))
    expected = audit(dataset, shard)
    assert audit(dataset, shard, by_hash=True) == expected
    assert audit(dataset, shard, by_hash=True, read_ahead=True) == expected


def test_windows_of_any_size_see_the_same(dataset, shard, monkeypatch):
    flip_a_byte_of_a_label(shard, np.random.default_rng(3))
    expected = audit(dataset, shard).findings
    for size in (1, 10_000, 50_000):
        monkeypatch.setattr("alexnet_cli.data.shards.shard_audit.WINDOW_BYTES", size)
        assert audit(dataset, shard).findings == expected
        assert audit(dataset, dataset / SHARD).findings == []


def test_without_a_sample_index_the_tar_is_walked_alone(dataset, shard):
    assert audit(dataset, shard, rows=None).findings == []
    zero_a_header(shard, np.random.default_rng(1))
    findings = audit(dataset, shard, rows=None).findings
    assert any(finding.key for finding in findings)


def test_sample_index_of_another_shard_does_not_hide_that_this_one_is_whole(dataset):
    rows = open_dataset(dataset).split("train").samples[:25]
    findings = audit(dataset, dataset / SHARD, rows=rows).findings
    assert findings
    assert not any(finding.what == "SHA-256" for finding in findings)


def test_missing_shard_is_a_finding(dataset, tmp_path):
    (finding,) = audit(dataset, tmp_path / SHARD).findings
    assert (finding.file, finding.found) == (SHARD, "nothing there")


def test_shard_that_cannot_be_read_is_a_finding(dataset, tmp_path):
    (tmp_path / SHARD).mkdir()
    (finding,) = audit(dataset, tmp_path / SHARD).findings
    assert finding.what == "reading it"


def rebuild(shard: Path, change: Callable[[str, bytes], bytes]) -> dict:
    """Write the shard anew with other contents; return what its record would then be."""
    import hashlib
    import io
    import zlib
    from dataclasses import replace

    with tarfile.open(shard) as tar:
        contents = {m.name: change(m.name, tar.extractfile(m).read()) for m in tar}
    rows = []
    with tarfile.open(shard, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o644
            if name.endswith("jpg"):
                label = int(contents[name.replace("jpg", "cls")])
                offset = tar.offset + BLOCK
                number = int(name[6:14])
                rows.append((1, offset, len(content), label, number, zlib.crc32(content)))
            tar.addfile(member, io.BytesIO(content))
    whole = shard.read_bytes()
    return {
        "rows": np.array(rows, SAMPLE_DTYPE),
        "record": lambda old: replace(
            old, num_bytes=len(whole), sha256=hashlib.sha256(whole).hexdigest()
        ),
    }


def test_wnid_of_another_class_is_found_though_all_hashes_are_right(dataset, shard):
    def change(name: str, content: bytes) -> bytes:
        if not name.endswith("json"):
            return content
        return json.dumps({**json.loads(content), "wnid": "n00000000"}).encode()

    made = rebuild(shard, change)
    record = made["record"](read_index(dataset).splits["train"].shards[1])
    findings = audit(dataset, shard, rows=made["rows"], shard=record).findings
    assert len(findings) == 6
    assert findings[0].what == "the wnid in KEY.json"
    assert findings[0].found == "'n00000000'"
    assert findings[-1].found == "20 damaged"


def test_deep_finds_pictures_that_do_not_decode_though_all_hashes_are_right(dataset, shard):
    made = rebuild(shard, lambda name, c: c[: len(c) // 2] if name.endswith("jpg") else c)
    record = made["record"](read_index(dataset).splits["train"].shards[1])
    what = {"rows": made["rows"], "shard": record}
    assert audit(dataset, shard, **what).findings == []
    findings = audit(dataset, shard, **what, deep=True).findings
    assert findings[0].what == "decoding the JPEG"
    assert findings[0].expected == "112 x 112 pixels"


def test_deep_finds_pictures_of_another_size(dataset):
    (first, *_) = audit(dataset, dataset / SHARD, image_size=256, deep=True).findings
    assert (first.expected, first.found) == ("256 x 256 pixels", "112 x 112")


def test_label_without_a_class_is_a_finding(dataset):
    findings = audit(dataset, dataset / SHARD, wnids=("n90000001",)).findings
    assert "has no class" in findings[0].expected


def test_finding_reads_as_a_line(dataset, shard):
    flip_a_byte_of_a_label(shard, np.random.default_rng(0))
    lines = [str(finding) for finding in audit(dataset, shard).findings]
    assert any(line.startswith(f"{SHARD}: sample train-000000") for line in lines)


def test_one_that_is_asked_to_stop_stops(dataset):
    for by_hash in (False, True):
        assert audit_shard(task_of(dataset, dataset, by_hash=by_hash), lambda: True).num_bytes == 0
