"""Results of images as rows, one per image: CSV, JSON lines, Parquet."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from alexnet_cli.errors import missing_package
from alexnet_cli.inference.results import ImageResult

FORMATS = ("csv", "jsonl", "parquet")
ROWS_PER_GROUP = 1000  # of a Parquet file; each group is in memory once
FIELDS = ("label", "wnid", "name", "probability")

Write = Callable[[ImageResult], None]


def columns_of(num_top: int) -> list[str]:
    """Return the columns: image, error, label, wnid, name, probability, label_2 and so on."""
    ranks = ("", *(f"_{rank}" for rank in range(2, num_top + 1)))
    return ["image", "error", *(f"{name}{rank}" for rank in ranks for name in FIELDS)]


@contextmanager
def open_rows(file: BinaryIO, kind: str, num_top: int) -> Iterator[Write]:
    """Yield what writes one result to a file as a row.

    Args:
        kind: one of `FORMATS`.
        num_top: number of classes that a row has columns for.

    Raises:
        MachineError: if the package for Parquet is not installed.
    """
    opened = {"csv": _csv_rows, "jsonl": _json_rows, "parquet": _parquet_rows}[kind]
    with opened(file, num_top) as write:
        yield write


@contextmanager
def _csv_rows(file: BinaryIO, num_top: int) -> Iterator[Write]:
    text = io.TextIOWrapper(file, "utf-8", "surrogateescape", newline="", write_through=True)
    columns = columns_of(num_top)
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)

    def write(result: ImageResult) -> None:
        values = _values(result)
        writer.writerow(values + [""] * (len(columns) - len(values)))

    try:
        yield write
    finally:
        text.detach()  # the file is not ours to close


@contextmanager
def _json_rows(file: BinaryIO, num_top: int) -> Iterator[Write]:
    def write(result: ImageResult) -> None:
        file.write(json.dumps(result.to_dict()).encode() + b"\n")

    yield write


@contextmanager
def _parquet_rows(file: BinaryIO, num_top: int) -> Iterator[Write]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError as error:
        raise missing_package(error) or error from error
    types = {"label": pa.int32(), "probability": pa.float32()}
    columns = columns_of(num_top)
    schema = pa.schema([(name, types.get(name.split("_")[0], pa.string())) for name in columns])
    rows: list[dict[str, Any]] = []

    with pq.ParquetWriter(file, schema) as writer:

        def flush() -> None:
            writer.write_table(pa.Table.from_pylist(rows, schema))
            rows.clear()

        def write(result: ImageResult) -> None:
            rows.append(dict(zip(columns, _values(result), strict=False)))
            rows[-1]["image"] = result.image.encode("utf-8", "backslashreplace").decode()
            if len(rows) == ROWS_PER_GROUP:
                flush()

        yield write
        flush()


def _values(result: ImageResult) -> list:
    found: list = [result.image, result.error]
    for row in result.top:
        found += [row.label, row.wnid, row.name, row.probability]
    return found
