import io
import tarfile
import zlib

import numpy as np
import pytest

from alexnet_cli.data.shards.tar_layout import (
    BLOCK,
    TarFault,
    compare_headers,
    differing,
    end_of_tar,
    filled,
    headers,
    not_filled,
    sample_members,
    scan_samples,
    sizes_in,
    text_blocks,
)


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
def test_headers_are_those_that_tarfile_writes(size):
    member = tarfile.TarInfo("train-00000017.jpg")
    member.size, member.mode = size, 0o644
    (found,) = headers(["train-00000017.jpg"], np.array([size]))
    assert found.tobytes() == member.tobuf(tarfile.USTAR_FORMAT)


@pytest.mark.parametrize("count", [0, 1, 3, 4, 6])
def test_shard_has_the_bytes_that_tarfile_writes(count):
    members, written = samples(count), b""
    for key in sorted({name.partition(".")[0] for name in members}):
        contents = (members[f"{key}.jpg"], members[f"{key}.cls"], members[f"{key}.json"])
        written += sample_members(key, contents)
    assert written + end_of_tar(len(written)) == shard(members)


def test_sizes_in_headers_are_read_back():
    sizes = np.array([0, 1, 24_000, 8**11 - 1])
    blocks = headers(["a", "b", "c", "d"], sizes)
    assert sizes_in(blocks).tolist() == sizes.tolist()
    blocks[1, 130] = ord("9")
    assert sizes_in(blocks).tolist() == [0, -1, 24_000, 8**11 - 1]


@pytest.mark.parametrize(("length", "blocks"), [(0, 0), (1, 1), (512, 1), (513, 2)])
def test_contents_fill_whole_blocks(length, blocks):
    assert filled(length) == blocks * BLOCK


def test_short_texts_fill_a_block_each():
    assert text_blocks(["7", "999"]).tobytes() == b"7".ljust(512, b"\0") + b"999".ljust(512, b"\0")


def test_blocks_that_differ_in_one_bit_are_found():
    expected = headers(["a", "b", "c"], np.array([1, 2, 3]))
    found = expected.copy()
    found[1, 511] ^= 128
    assert differing(expected, found).tolist() == [1]


def test_bytes_behind_a_content_are_found():
    sizes = np.array([1, 511, 512, 600])
    last = np.zeros((4, 512), np.uint8)
    for i, used in enumerate((1, 511, 512, 88)):
        last[i, :used] = 255
    assert not_filled(last, sizes).tolist() == []
    last[0, 1] = last[1, 511] = last[3, 88] = 1
    assert not_filled(last, sizes).tolist() == [0, 1, 3]


@pytest.mark.parametrize(
    ("place", "field"), [(3, "name"), (101, "mode"), (126, "size"), (150, "checksum")]
)
def test_difference_of_two_headers_is_said_in_words(place, field):
    expected = headers(["train-00000017.jpg"], np.array([24_000])).tobytes()
    found = bytearray(expected)
    found[place] ^= 1
    assert all(field in words for words in compare_headers(expected, bytes(found)))


def test_header_of_zeros_is_said_in_words():
    expected = headers(["train-00000017.jpg"], np.array([1])).tobytes()
    words = compare_headers(expected, bytes(512))
    assert words == ("the header of 'train-00000017.jpg'", "a block of zeros")


def test_whole_shard_is_walked_to_its_end():
    content = shard(samples(3))
    found = scan_samples(io.BytesIO(content))
    assert [row[2:4] for row in found] == [(0, 0), (1, 1), (2, 2)]
    for offset, length, label, _, crc in found:
        assert content[offset : offset + length] == bytes([label + 1]) * (700 + label)
        assert crc == zlib.crc32(content[offset : offset + length])


def test_shard_without_samples_is_whole():
    assert scan_samples(io.BytesIO(shard({}))) == []


def swapped(members: dict[str, bytes]) -> dict[str, bytes]:
    names = list(members)
    names[1], names[2] = names[2], names[1]
    return {name: members[name] for name in names}


FOREIGN = {
    "another name": {"picture.jpg": b"x"},
    "no label": {k: v for k, v in samples(1).items() if not k.endswith("cls")},
    "another order": swapped(samples(1)),
    "a label of letters": {**samples(1), "train-00000000.cls": b"x"},
    "one member more": {**samples(1), "train-00000000.txt": b"x"},
}


@pytest.mark.parametrize("name", FOREIGN)
def test_tar_of_anything_else_is_refused(name):
    with pytest.raises(TarFault):
        scan_samples(io.BytesIO(shard(FOREIGN[name])))


def test_every_cut_is_found():
    content = shard(samples(2))
    for length in range(0, 2 * (512 + 1024 + 1024 + 1024) + BLOCK, 256):
        with pytest.raises(TarFault):
            scan_samples(io.BytesIO(content[:length]))


def test_every_flipped_byte_outside_pictures_and_notes_is_found():
    content = shard(samples(2))
    inside = set()
    for offset, length, *_ in scan_samples(io.BytesIO(content)):
        inside |= set(range(offset, offset + length))
        note = offset + filled(length) + 3 * BLOCK
        inside |= set(range(note, note + 28)) | {offset + filled(length) + BLOCK}
    for place in set(range(0, len(content), 7)) - inside:
        damaged = bytearray(content)
        damaged[place] ^= 64
        with pytest.raises(TarFault):
            scan_samples(io.BytesIO(damaged))
