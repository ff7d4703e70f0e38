import json

import numpy as np
import pytest
import simplejpeg

from alexnet_cli.data.shards.dataset import SAMPLE_DTYPE
from alexnet_cli.data.shards.sample_audit import MAX_DAMAGED, Finding, SampleAudit, Window
from alexnet_cli.data.shards.tar_layout import filled, headers


def member(name: str, content: bytes) -> bytes:
    header = headers([name], np.array([len(content)])).tobytes()
    return header + content.ljust(filled(len(content)), b"\0")


def window(labels: list[int], *, note: bytes | None = None, end: int = 1024) -> Window:
    """Samples of these labels, numbered from 0, and zeros."""
    rows, starts, content = [], [], b""
    for number, label in enumerate(labels):
        key, jpeg = f"val-{number:08d}", bytes([number]) * 600
        starts.append(len(content))
        rows.append((0, len(content) + 512, len(jpeg), label, number, 0))
        content += member(f"{key}.jpg", jpeg) + member(f"{key}.cls", str(label).encode())
        text = json.dumps({"wnid": "ab"[label], "source": f"{number}"}).encode()
        content += member(f"{key}.json", note or text)
    starts = np.array(starts, np.int64)
    ends = np.append(starts[1:], len(content) + end)
    return Window(
        np.array(rows, SAMPLE_DTYPE), starts, ends, memoryview(content + bytes(end)), True
    )


def audit(seen: Window) -> list[Finding]:
    found = SampleAudit("val-000000.tar", "val", ("a", "b"), False, 0)
    found.check(seen)
    return found.shown()


def test_samples_as_prep_writes_them_raise_no_alarm():
    assert audit(window([0, 1, 1])) == []


def test_label_beyond_the_classes_is_found():
    (finding,) = audit(window([0, 1], note=b'{"wnid": "a"}'))
    assert (finding.key, finding.what) == ("val-00000001", "the wnid in KEY.json")


@pytest.mark.parametrize("note", [b"[]", b"7", b"{", b'{"source": "x"}', b"[" * 400, b"\xff"])
def test_note_that_is_none_is_found(note):
    (finding,) = audit(window([0], note=note))
    assert (finding.expected, finding.found) == ("'a'", "no such note")


@pytest.mark.parametrize("end", [0, 512])
def test_end_of_less_than_two_blocks_is_found(end):
    (finding,) = audit(window([0], end=end))
    assert finding.what == "the end of the tar"


def test_bytes_behind_the_end_are_found():
    seen = window([0])
    content = bytearray(seen.content)
    content[-700] = 1
    (finding,) = audit(Window(seen.rows, seen.starts, seen.ends, memoryview(content), True))
    assert finding.what == "after the last sample"


def test_many_damaged_samples_are_counted():
    seen = window([0] * 20)
    content = bytearray(seen.content)
    for start in seen.starts.tolist():
        content[start] ^= 1
    findings = audit(Window(seen.rows, seen.starts, seen.ends, memoryview(content), True))
    assert len({finding.key for finding in findings if finding.key}) == MAX_DAMAGED
    assert findings[-1].found == "15 damaged"


def claiming(side: int) -> bytes:
    """Return a JPEG of 16 x 16 pixels that says it has more."""
    jpeg = bytearray(simplejpeg.encode_jpeg(np.zeros((16, 16, 3), np.uint8)))
    place = jpeg.index(b"\xff\xc0") + 5
    jpeg[place : place + 4] = side.to_bytes(2, "big") * 2
    return bytes(jpeg)


@pytest.mark.parametrize("side", [15, 17, 65_500])
def test_picture_that_claims_to_be_larger_is_found_without_room_for_it(side, monkeypatch):
    monkeypatch.setattr(simplejpeg, "decode_jpeg", None)
    found = SampleAudit("val-000000.tar", "val", ("a",), False, 16)
    found._decode("val-00000000", memoryview(claiming(side)))
    assert [finding.found for finding in found.shown()] == [f"{side} x {side}"]
    assert found.shown()[0].expected == "16 x 16 pixels"


def test_rest_of_a_file_must_be_zeros():
    found = SampleAudit("val-000000.tar", "val", ("a", "b"), False, 0)
    found.check_rest(memoryview(bytes(600)))
    assert found.shown() == []
    found.check_rest(memoryview(bytes(600) + b"x"))
    assert len(found.shown()) == 1
