"""What a parquet file says of its rows and of the sizes of its pages, read without pyarrow.

pyarrow allocates what the header of a page says, whatever the totals at the end of the file are,
and some damaged metadata makes it end the process. Both are Thrift structs in the compact protocol
(apache/parquet-format, parquet.thrift).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from alexnet_cli.io.disk import LFS_ADVICE, LFS_POINTER

TRUE, FALSE, BYTE, DOUBLE, BINARY, LIST, SET, STRUCT = 1, 2, 3, 7, 8, 9, 10, 12
INTEGERS = (4, 5, 6)
MAX_DEPTH = 8
MAX_BINARY = 1 << 28
MAX_VARINT = 10  # bytes
TAIL = 8  # bytes at the end: the length of the footer, and a mark


@dataclass(frozen=True, slots=True)
class Chunk:
    """The values of one column in one group of rows.

    Attributes:
        column: name, in a struct with a dot.
        num_rows: of the group.
        start, num_packed: the bytes of its pages in the file.
        num_bytes: of its pages, unpacked.
    """

    column: str
    num_rows: int
    num_values: int
    start: int
    num_packed: int
    num_bytes: int


def read_chunks(path: Path) -> tuple[int, list[Chunk]]:
    """Return the number of rows and all column chunks of a file.

    Raises:
        ValueError: if the footer is damaged.
        OSError: if the file cannot be read.
    """
    with path.open("rb") as file:
        if file.read(len(LFS_POINTER)) == LFS_POINTER:
            raise ValueError(LFS_ADVICE)
        end = file.seek(0, 2) - TAIL
        file.seek(max(end, 0))
        length = int.from_bytes(file.read(4), "little")
        if not 0 < length <= end:
            raise ValueError("no footer")
        file.seek(end - length)
        footer = _read_struct(file, 0)
    try:
        chunks = [_chunk(column[3], group[3]) for group in footer[4] for column in group[1]]
        return _whole(footer[3]), chunks
    except (KeyError, TypeError, AttributeError, UnicodeDecodeError) as error:
        raise ValueError(f"a footer without {error}") from error


def _chunk(about: dict[int, Any], num_rows: int) -> Chunk:
    column = ".".join(part.decode() for part in about[3])
    start = _whole(about[9])
    if 0 < about.get(11, 0) < start:  # its dictionary comes first
        start = about[11]
    numbers = (_whole(n) for n in (num_rows, about[5], start, about[7], about[6]))
    return Chunk(column, *numbers)


def _whole(number: object) -> int:
    if type(number) is not int or number < 0:
        raise ValueError(f"{number!r} is no count")
    return number


def page_sizes(file: BinaryIO, chunk: Chunk) -> Iterator[tuple[int, int]]:
    """Yield the bytes of each page of a chunk, unpacked and as stored, by its own header.

    Raises:
        ValueError: if a header is damaged.
    """
    start = chunk.start
    while start < chunk.start + chunk.num_packed:
        file.seek(start)
        header = _read_struct(file, 0)
        num_bytes, num_packed = _whole(header.get(2)), _whole(header.get(3))
        yield num_bytes, num_packed
        start = file.tell() + num_packed


def _read_struct(file: BinaryIO, depth: int) -> dict[int, Any]:
    """Read the fields of a struct by number."""
    fields: dict[int, Any] = {}
    number = 0
    while head := _read_byte(file):
        number = number + (head >> 4) if head >> 4 else _signed(_read_varint(file))
        kind = head & 15
        fields[number] = kind == TRUE if kind in (TRUE, FALSE) else _read_value(file, kind, depth)
    return fields


def _read_value(file: BinaryIO, kind: int, depth: int) -> Any:
    """Read a value; in a list, a truth value takes a byte."""
    if depth > MAX_DEPTH:
        raise ValueError("a struct within structs without end")
    if kind in INTEGERS:
        return _signed(_read_varint(file))
    if kind in (TRUE, FALSE, BYTE):
        return _read_byte(file)
    if kind == DOUBLE:
        return file.read(8)
    if kind == BINARY:
        count = _read_varint(file)
        if count > MAX_BINARY:
            raise ValueError(f"a text of {count:,} bytes")
        return file.read(count)
    if kind in (LIST, SET):
        head = _read_byte(file)
        count = _read_varint(file) if head >> 4 == 15 else head >> 4
        return [_read_value(file, head & 15, depth + 1) for _ in range(count)]
    if kind == STRUCT:
        return _read_struct(file, depth + 1)
    raise ValueError(f"a value of kind {kind}")


def _read_byte(file: BinaryIO) -> int:
    content = file.read(1)
    if not content:
        raise ValueError("the file ends within a struct")
    return content[0]


def _read_varint(file: BinaryIO) -> int:
    value = 0
    for place in range(MAX_VARINT):
        byte = _read_byte(file)
        value |= (byte & 127) << 7 * place
        if byte < 128:
            return value
    raise ValueError("a number without end")


def _signed(value: int) -> int:
    """Return the signed number that a zigzag number stands for."""
    return value >> 1 ^ -(value & 1)
