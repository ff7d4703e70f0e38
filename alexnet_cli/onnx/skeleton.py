"""A serialized ONNX model without the values of its large constants, for a look before it is run.

Field numbers are those of onnx.proto; everything but long values is copied as it is.
"""

from collections.abc import Iterator

MODEL, GRAPH, TENSOR = "model", "graph", "tensor"
INSIDE = {(MODEL, 7): GRAPH, (GRAPH, 5): TENSOR}
VALUES = (4, 5, 7, 9, 10, 11)  # float_data, int32_, int64_, raw_data, double_, uint64_
KEPT_BYTES = 1024  # of a constant's values: shapes and bounds are shorter
SKELETON_BYTES = 8 << 20  # at most: 20,000 classes take two
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


def skeleton_of(content: memoryview) -> bytes:
    """Return a model whose constants hold no long values, in time and room of a few MB.

    Raises:
        ValueError: it is no protobuf message, or much besides constants.
    """
    return _copy(content, MODEL)


def _copy(content: memoryview, kind: str) -> bytes:
    kept = bytearray()
    for number, start, body, end in _fields(content):
        if inside := INSIDE.get((kind, number)):
            part = _copy(content[body:end], inside)
        elif kind == TENSOR and number in VALUES and end - body > KEPT_BYTES:
            part = b""  # not left out: it may stand before or in place of another value
        else:
            kept += content[start:end]
            part = None
        if part is not None:
            kept += _varint(number << 3 | BYTES) + _varint(len(part)) + part
        if len(kept) > SKELETON_BYTES:
            raise ValueError("it holds too much besides its weights")
    return bytes(kept)


def _fields(content: memoryview) -> Iterator[tuple[int, int, int, int]]:
    """Yield a message's fields: number, and where the field, its body and the next one begin."""
    end = 0
    while end < len(content):
        start = end
        key, body = _read_varint(content, start)
        number, wire = key >> 3, key & 7
        if wire == BYTES:
            length, body = _read_varint(content, body)
        elif wire == VARINT:
            length = _read_varint(content, body)[1] - body
        elif wire in (FIXED32, FIXED64):
            length = 4 if wire == FIXED32 else 8
        else:
            raise ValueError("it is no protobuf message")
        if wire != BYTES:
            number = -number  # no message or values that a field of this number would be
        end = body + length
        if not number or end > len(content):
            raise ValueError("it is no protobuf message")
        yield number, start, body, end


def _read_varint(content: memoryview, place: int) -> tuple[int, int]:
    """Return a number and the place after it."""
    value = 0
    for shift, byte in enumerate(content[place : place + 10]):
        value |= (byte & 127) << 7 * shift
        if byte < 128:
            return value, place + shift + 1
    raise ValueError("it is no protobuf message")


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])
