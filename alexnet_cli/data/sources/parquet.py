"""Hugging Face's parquet files: a row is image{bytes, path} and label.

Labels and names are listed first. The bytes, which cannot be read row by row in shuffled order, are
staged once the dataset's folder is known to be ours. A row's path is a name and never opened.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from alexnet_cli.data.images.decode import MAX_FILE_BYTES
from alexnet_cli.data.sources.class_list import ClassList
from alexnet_cli.data.sources.labels import (
    SPLIT_PATTERN,
    SPLITS,
    LabeledClasses,
    base_name,
    list_labeled,
    split_name,
)
from alexnet_cli.data.sources.source import (
    NO_TEST_LABEL,
    Layout,
    Source,
    SourceImage,
    count_ignored,
    file_stamp,
)
from alexnet_cli.data.sources.staging import StagedFile, write_rows
from alexnet_cli.errors import MachineError, SourceError, brief, on_one_line

# train-00000-of-00294.parquet, validation-00003-of-00014-1a2b3c.parquet, test.parquet
FILE = re.compile(
    rf"(?P<split>{SPLIT_PATTERN})(-(?P<part>\d+)-of-(?P<parts>\d+))?([-_.].*)?\.parquet",
    re.IGNORECASE,
)
BATCH_ROWS = 32  # in memory at once; an image may have MAX_FILE_BYTES
MAX_RATIO = 100
PARTS = {
    "bytes": ("binary", "large_binary", "binary_view"),
    "path": ("string", "large_string", "string_view"),
}
NO_LABEL = -1


def read_parquet(folder: Path, staging: Path) -> Source | None:
    """List the rows of the parquet files in `folder` or `folder/data`; None if there are none."""
    found = _find(folder) or _find(folder / "data")
    if not found:
        return None
    _check_none_is_missing(found)
    # Training files first: the first schema names the classes.
    files = sorted(
        ((SPLITS[match["split"].lower()], path) for path, match in found.items()),
        key=lambda entry: entry[0] != "train",
    )
    tables = {path: _open(path) for _, path in files}
    names = _class_names(tables[files[0][1]].schema_arrow.metadata)
    labels = LabeledClasses(ClassList(tuple(names), files[0][1].name) if names else None)

    def list_rows(split: str, path: Path, ignored: dict[str, int]) -> list[SourceImage]:
        return _list_rows(split, path, tables[path], _staged(staging, path), labels, ignored)

    source = list_labeled(f"parquet files ({files[0][1].name}, ...)", files, list_rows, labels)
    staged = tuple(
        StagedFile(
            _staged(staging, path),
            sum(chunk.total_uncompressed_size for chunk in _image_chunks(tables[path])),
            partial(_copy_rows, path, file_stamp(path)),
        )
        for split, path in files
        if split in source.images
    )
    return replace(source, staged=staged)


def _find(folder: Path) -> dict[Path, re.Match]:
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    return {p: match for p in paths if (match := FILE.fullmatch(p.name)) and p.is_file()}


def _check_none_is_missing(files: dict[Path, re.Match]) -> None:
    """Raise a SourceError if a split lacks one of the files that the names of the others count."""
    for path, match in files.items():
        if match["parts"] is None:
            continue
        named = match["split"], match["parts"]
        same = {int(m["part"]) for m in files.values() if (m["split"], m["parts"]) == named}
        lost = sorted(set(range(int(match["parts"]))) - same)
        if lost:
            raise SourceError(
                f"{path.parent}: {len(lost)} of {int(match['parts'])} {match['split']} files are "
                f"missing, the first is number {lost[0]:05d}.",
                hint="Download them and run again.",
            )


def _staged(staging: Path, path: Path) -> Path:
    return staging / f"{path.stem}.rows"


def _open(path: Path) -> Any:
    """Open a table and check its columns."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise MachineError(
            "parquet files need pyarrow.", hint='Install it: pip install "alexnet-cli[parquet]"'
        ) from error
    try:
        table = pyarrow.parquet.ParquetFile(path, page_checksum_verification=True)
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from error
    _check_columns(path, table)
    for chunk in _image_chunks(table):  # a page of them would be in memory whole
        size, packed = chunk.total_uncompressed_size, chunk.total_compressed_size
        if size > MAX_FILE_BYTES and size > MAX_RATIO * packed:
            raise SourceError(
                f"{path}: {packed:,} bytes of images would unpack to {size:,}; no images are "
                "packed like this."
            )
    return table


def _check_columns(path: Path, table: Any) -> None:
    schema = table.schema_arrow
    columns = {field.path for field in (table.schema.column(i) for i in range(len(table.schema)))}
    for column in ("image.bytes", "image.path", "label"):
        if column not in columns:
            raise SourceError(
                f"{path}: no column {column}; it has {', '.join(schema.names)[:100]}.",
                hint="prep reads image{bytes, path} and label.",
            )
    for name in ("image", "label"):
        if len(schema.get_all_field_indices(name)) > 1:
            raise SourceError(f"{path}: two columns are named {name}.")
    for part, kinds in PARTS.items():
        if (kind := str(schema.field("image").type.field(part).type)) not in kinds:
            raise SourceError(f"{path}: image.{part} is {kind}, not {kinds[0]}.")
    if not str(schema.field("label").type).startswith(("int", "uint")):
        raise SourceError(f"{path}: label is {schema.field('label').type}, not a whole number.")


def _image_chunks(table: Any) -> list:
    groups = (table.metadata.row_group(i) for i in range(table.metadata.num_row_groups))
    chunks = (group.column(i) for group in groups for i in range(group.num_columns))
    return [chunk for chunk in chunks if chunk.path_in_schema == "image.bytes"]


def _damaged(path: Path, error: Exception) -> SourceError:
    why = brief(error, 150)
    return SourceError(f"{path}: the file is cut or damaged ({why}).", hint="Download it again.")


def _class_names(metadata: Any) -> list[str] | None:
    """Return the class names that Hugging Face's datasets library puts into a schema."""
    try:
        names = json.loads(metadata[b"huggingface"])["info"]["features"]["label"]["names"]
    except (TypeError, KeyError, ValueError):
        return None
    listed = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return names if listed else None


def _list_rows(
    split: str,
    path: Path,
    table: Any,
    staged: Path,
    labels: LabeledClasses,
    ignored: dict[str, int],
) -> list[SourceImage]:
    """List the rows of one file with their labels, without reading an image."""
    try:
        content = table.read(columns=["image.path", "label"])
        cells, numbers = content["image"].to_pylist(), content["label"].to_pylist()
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from error
    size = path.stat().st_size
    parent = f"{path.name}/"
    found = []
    for row, (cell, label) in enumerate(zip(cells, numbers, strict=True)):
        if split == "test" and label in (None, NO_LABEL):
            count_ignored(ignored, NO_TEST_LABEL)
            continue
        name, wnid = split_name(base_name((cell or {}).get("path") or ""))
        where = f"{path}: row {row} ({on_one_line(name[:60])})"
        if label is None:
            raise SourceError(f"{where}: no label.")
        labels.add(split, label, wnid, where, [("its name", wnid or "")])
        name = name or f"{path.stem}_{row:06d}"
        found.append(SourceImage(name, staged, row, size, label, parent, "row"))
    return found


def _copy_rows(path: Path, stamp: tuple[int, int], file: BinaryIO) -> None:
    """Write the images of a file that is still the one whose labels were listed."""
    table = _open(path)
    write_rows(file, _contents(path, table), table.metadata.num_rows)
    if file_stamp(path) != stamp:
        raise SourceError(
            f"{path}: changed while prep was at work.", hint="Run the same command again."
        )


def _contents(path: Path, table: Any) -> Iterator[bytes]:
    """Yield each row's image, b"" where there is none."""
    try:
        for batch in table.iter_batches(BATCH_ROWS, columns=["image.bytes"]):
            for image in batch.column("image"):
                content = image["bytes"].as_py() if image.is_valid else None
                yield content or b""
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from error


LAYOUT = Layout("parquet", "train-*.parquet with image and label", read_parquet, ("staging",))
