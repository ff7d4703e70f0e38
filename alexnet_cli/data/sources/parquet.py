"""Hugging Face's parquet files: a row is image{bytes, path} and label.

Labels and names are listed first. The bytes, which a shuffle could not read row by row, are copied
to the spool once the dataset's folder is known to be ours. A row's path is a name and never opened.
"""

import json
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

from alexnet_cli.data.images.decode import MAX_FILE_BYTES
from alexnet_cli.data.sources.labels import (
    SPLITS,
    LabeledClasses,
    base_name,
    check_held_out,
    split_name,
)
from alexnet_cli.data.sources.source import Source, SourceImage, count_ignored
from alexnet_cli.data.sources.staging import StagedFile, write_rows
from alexnet_cli.errors import MachineError, SourceError, on_one_line

# train-00000-of-00294.parquet, validation-00003-of-00014-1a2b3c.parquet, test.parquet
FILE = re.compile(
    rf"(?P<split>{'|'.join(SPLITS)})(-(?P<part>\d+)-of-(?P<parts>\d+))?([-_.].*)?\.parquet"
)
BATCH_ROWS = 32  # in memory at once; an image may have MAX_FILE_BYTES
MAX_RATIO = 100
PARTS = {
    "bytes": ("binary", "large_binary", "binary_view"),
    "path": ("string", "large_string", "string_view"),
}
NO_LABEL = -1


def read_parquet(folder: Path, spool: Path) -> Source | None:
    """List the rows of the parquet files in `folder` or `folder/data`; None if there are none.

    Raises:
        SourceError: a file is missing, cut, of other columns, or has a label no class can have.
        MachineError: pyarrow is not installed.
    """
    files = _find(folder) or _find(folder / "data")
    if not files:
        return None
    _check_none_is_missing(files)
    tables = [(SPLITS[FILE.fullmatch(path.name)["split"]], path, _open(path)) for path in files]
    tables.sort(key=lambda entry: entry[0] != "train")  # what training says comes first
    labels = LabeledClasses(_class_names(tables[0][2].schema_arrow.metadata))
    images, ignored = {"train": [], "val": []}, {}
    for split, path, table in tables:
        listed = _list_rows(split, path, table, spool, labels, ignored)
        if listed or split in images:
            images.setdefault(split, []).extend(listed)
    classes = labels.classes()
    check_held_out(images, len(classes))
    files = tuple(
        StagedFile(
            _spool_path(spool, path), _num_bytes(table), partial(_copy_rows, path, _stamp(path))
        )
        for split, path, table in tables
        if split in images
    )
    return Source(f"parquet files ({tables[0][1].name}, ...)", classes, images, ignored, files)


def _find(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if FILE.fullmatch(path.name) and path.is_file())


def _check_none_is_missing(files: list[Path]) -> None:
    """Names tell how many files a split has; a download that lacks one must not pass for whole."""
    for path in files:
        match = FILE.fullmatch(path.name)
        if match["parts"] is None:
            continue
        same = [FILE.fullmatch(other.name) for other in files]
        same = {int(m["part"]) for m in same if (m["split"], m["parts"]) == match.group(1, 4)}
        lost = sorted(set(range(int(match["parts"]))) - same)
        if lost:
            raise SourceError(
                f"{path.parent}: {len(lost)} of {int(match['parts'])} {match['split']} files are "
                f"missing, the first is number {lost[0]:05d}.\nDownload them and run again."
            )


def _load_pyarrow():
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise MachineError("parquet files need pyarrow. Install it: pip install pyarrow") from error
    return pyarrow.parquet


def _open(path: Path):
    """Open a table and check its columns."""
    parquet = _load_pyarrow()
    try:
        table = parquet.ParquetFile(path, page_checksum_verification=True)
    except (OSError, ValueError) as error:
        raise SourceError(_damaged(path, error)) from error
    _check_columns(path, table)
    _refuse_bombs(path, table)
    return table


def _check_columns(path: Path, table) -> None:
    schema = table.schema_arrow
    columns = {field.path for field in (table.schema.column(i) for i in range(len(table.schema)))}
    for column in ("image.bytes", "image.path", "label"):
        if column not in columns:
            raise SourceError(
                f"{path}: no column {column}; it has {', '.join(schema.names)[:100]}.\n"
                "prep reads image{bytes, path} and label."
            )
    twice = next((n for n in ("image", "label") if len(schema.get_all_field_indices(n)) > 1), None)
    if twice:
        raise SourceError(f"{path}: two columns are named {twice}.")
    for part, kinds in PARTS.items():
        if (kind := str(schema.field("image").type.field(part).type)) not in kinds:
            raise SourceError(f"{path}: image.{part} is {kind}, not {kinds[0]}.")
    if not str(schema.field("label").type).startswith(("int", "uint")):
        raise SourceError(f"{path}: label is {schema.field('label').type}, not a whole number.")


def _refuse_bombs(path: Path, table) -> None:
    """Refuse images that unpack a hundredfold: a page of them would be in memory whole."""
    for chunk in _image_chunks(table):
        size, packed = chunk.total_uncompressed_size, chunk.total_compressed_size
        if size > MAX_FILE_BYTES and size > MAX_RATIO * packed:
            raise SourceError(
                f"{path}: {packed:,} bytes of images would unpack to {size:,}.\n"
                "Nothing was written. No images are packed like this."
            )


def _image_chunks(table) -> list:
    groups = (table.metadata.row_group(i) for i in range(table.metadata.num_row_groups))
    chunks = (group.column(i) for group in groups for i in range(group.num_columns))
    return [chunk for chunk in chunks if chunk.path_in_schema == "image.bytes"]


def _damaged(path: Path, error: Exception) -> str:
    why = " ".join(str(error).split())[:150]
    return f"{path}: the file is cut or damaged ({why}).\nDownload it again."


def _class_names(metadata: dict[bytes, bytes] | None) -> list[str] | None:
    """Return the class names that Hugging Face's datasets library puts into a schema."""
    try:
        names = json.loads(metadata[b"huggingface"])["info"]["features"]["label"]["names"]
    except (TypeError, KeyError, ValueError):
        return None
    listed = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return names if listed else None


def _list_rows(
    split: str, path: Path, table, spool: Path, labels: LabeledClasses, ignored: dict[str, int]
) -> list[SourceImage]:
    """List the rows of one file with their labels, without reading an image."""
    try:
        content = table.read(columns=["image.path", "label"])
        cells, numbers = content["image"].to_pylist(), content["label"].to_pylist()
    except (OSError, ValueError) as error:
        raise SourceError(_damaged(path, error)) from error
    parent, spooled, size = f"{path.name}/", _spool_path(spool, path), path.stat().st_size
    found = []
    for row, (cell, label) in enumerate(zip(cells, numbers, strict=True)):
        if split == "test" and label in (None, NO_LABEL):
            count_ignored(ignored, "test image without a label")
            continue
        name, wnid = split_name(base_name((cell or {}).get("path") or ""))
        where = f"{path}: row {row} ({on_one_line(name[:60])})"
        if label is None:
            raise SourceError(f"{where}: no label.\nNothing was written.")
        labels.add(split, label, wnid, where)
        name = name or f"{path.stem}_{row:06d}"
        found.append(SourceImage(name, spooled, row, size, label, parent, "row"))
    return found


def _spool_path(spool: Path, path: Path) -> Path:
    return spool / f"{path.stem}.rows"


def _num_bytes(table) -> int:
    """Return about how many bytes all the images of a file have."""
    return sum(chunk.total_uncompressed_size for chunk in _image_chunks(table))


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _copy_rows(path: Path, stamp: tuple[int, int], file: BinaryIO) -> None:
    """Write the images of a file that is still the one whose labels were listed."""
    table = _open(path)
    write_rows(file, _contents(path, table), table.metadata.num_rows)
    if _stamp(path) != stamp:
        raise SourceError(f"{path}: changed while prep was at work.\nRun the same command again.")


def _contents(path: Path, table) -> Iterator[bytes]:
    """Yield each row's image, b"" where there is none."""
    try:
        for batch in table.iter_batches(BATCH_ROWS, columns=["image.bytes"]):
            for image in batch.column("image"):
                content = image["bytes"].as_py() if image.is_valid else None
                yield content or b""
    except (OSError, ValueError) as error:
        raise SourceError(_damaged(path, error)) from error
