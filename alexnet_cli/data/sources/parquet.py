"""Hugging Face's parquet files and others like them: a row has an image and a label.

Labels and names are listed first. The bytes, which cannot be read row by row in shuffled order, are
staged once the dataset's folder is known to be ours. A row's path is a name and never opened.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from alexnet_cli.data.images.decode import MAX_FILE_BYTES
from alexnet_cli.data.sources.class_list import ClassList, are_numbers, names_beside
from alexnet_cli.data.sources.labels import (
    SPLIT_PATTERN,
    SPLITS,
    LabeledClasses,
    base_name,
    list_labeled,
    split_name,
    split_of_folder,
)
from alexnet_cli.data.sources.listing import IMAGE_SUFFIXES, is_clutter
from alexnet_cli.data.sources.parquet_columns import Columns, class_names, find_columns
from alexnet_cli.data.sources.parquet_pages import Chunk, page_sizes, read_chunks
from alexnet_cli.data.sources.source import (
    NO_TEST_LABEL,
    Layout,
    Source,
    SourceImage,
    count_ignored,
    file_stamp,
)
from alexnet_cli.data.sources.staging import StagedFile, write_rows
from alexnet_cli.errors import MachineError, SourceError, brief, counted, on_one_line, some_names

# train-00000-of-00294.parquet, validation-00003-of-00014-1a2b3c.parquet, food-test.parquet
FILE = re.compile(
    rf"(.*?[-_])??(?P<split>{SPLIT_PATTERN})(-(?P<part>\d+)-of-(?P<parts>\d+))?([-_.].*)?\.parquet",
    re.IGNORECASE,
)
PARTIAL = "partial-"  # begins a split's folder if the hub converted the beginning of a set only
METADATA = "metadata"  # a file beside the images of class folders
DATA = "data"  # the folder of a set without configurations
MAX_DEPTH, MAX_FOLDERS = 4, 64  # of folders with parquet files; more are classes
BATCH_ROWS = 32  # in memory at once; an image may have MAX_FILE_BYTES
BATCH_BYTES = 1 << 30
LABEL_ROWS = 4096  # in memory at once
MAX_PATH = 4096  # characters of an image's name
MAX_RATIO = 100
# What pyarrow raises of a damaged file; its own errors are subclasses of these.
FAULTS = (OSError, ValueError, KeyError, IndexError, TypeError, NotImplementedError, MemoryError)
NO_LABEL = -1


@dataclass(frozen=True, slots=True)
class _File:
    """One file; `parts` is the number of files of its split, if their names say it."""

    path: Path
    split: str
    part: int | None
    parts: int | None
    config: str  # the folder below the source that is neither a split's nor `data`


@dataclass(slots=True)
class _Table:
    """An opened file.

    Attributes:
        chunks: those of its columns that are read.
        page_bytes: its largest page of images, unpacked.
    """

    file: _File
    table: Any
    columns: Columns
    staged: Path
    num_rows: int
    chunks: list[Chunk]
    page_bytes: int = 0

    @property
    def image(self) -> str:
        """The column of the images' bytes."""
        return self.columns.leaves[0]


def read_parquet(
    folder: Path, staging: Path, classes: ClassList | None = None, columns: str | None = None
) -> Source | None:
    """List the rows of the parquet files in `folder`, or in folders of it; None if there are none.

    Args:
        classes: the names of the classes; by default those in the first schema.
        columns: the columns of images and labels, if the user names them.
    """
    files, others = _find(folder)
    if not files:
        return None
    _check_one_config(folder, files)
    _check_none_is_missing(files)
    tables = [_open(file, _staged(folder, staging, file.path), columns) for file in files]
    # Training files first: the first schema names the classes.
    tables.sort(key=lambda table: (table.file.split != "train", not table.columns.label))
    first = tables[0]
    for table in tables:
        _check_alike(first, table)
    listed = classes
    if listed is None and (names := class_names(first.table.schema_arrow, first.columns.label)):
        listed = ClassList(tuple(names), first.file.path.name)
    listed = listed or names_beside(folder)
    if listed:
        for table in tables:
            _check_names(table, listed, are_own=classes is None)
    labels = LabeledClasses(listed)
    opened = {table.file.path: table for table in tables}

    def list_rows(split: str, path: Path, ignored: dict[str, int]) -> list[SourceImage]:
        return _list_rows(opened[path], labels, ignored)

    layout = f"parquet files ({first.file.path.name}, ...)"
    source = list_labeled(layout, [(t.file.split, t.file.path) for t in tables], list_rows, labels)
    staged = tuple(
        StagedFile(
            table.staged,
            sum(chunk.num_bytes for chunk in table.chunks if chunk.column == table.image),
            partial(_copy_rows, table.file, columns, file_stamp(table.file.path)),
        )
        for table in tables
        if table.file.split in source.images
    )
    notes = first.columns.notes
    if others:
        listed_others = some_names([str(path) for path in sorted(others)])
        notes += (f"warning: not read, as named after no split: {listed_others}",)
    return replace(source, staged=staged, notes=notes)


def _find(folder: Path) -> tuple[list[_File], list[Path]]:
    """Return the parquet files of splits in a folder and in folders that hold nothing else.

    The other parquet files there come second.
    """
    files = []
    others: list[Path] = []
    waiting = [(folder, 0)] if folder.is_dir() else []
    while waiting:
        place, depth = waiting.pop()
        inner, paths = _look_into(place)
        found = [file for path in paths if (file := _file_of(folder, path))]
        files += found
        known = {file.path for file in found}
        others += [p for p in paths if p not in known and p.stem.lower() != METADATA]
        if depth < MAX_DEPTH and len(inner) <= MAX_FOLDERS and not (found and place == folder):
            waiting += [(path, depth + 1) for path in inner]
    return sorted(files, key=lambda file: file.path), others


def _look_into(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the folders and parquet files in a folder; none if it holds images."""
    inner, paths = [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name.lower()
            if name.endswith(IMAGE_SUFFIXES):
                return [], []
            if name.endswith(".parquet") and entry.is_file():
                paths.append(Path(entry.path))
            elif entry.is_dir(follow_symlinks=False) and not is_clutter(entry.name):
                inner.append(Path(entry.path))
    return inner, paths


def _file_of(folder: Path, path: Path) -> _File | None:
    """Return the file, if its name or a folder that it is in is that of a split."""
    match = FILE.fullmatch(path.name)
    parents = [name.removeprefix(PARTIAL) for name in path.relative_to(folder).parts[:-1]]
    splits = [name for name in parents if split_of_folder(name)]
    config = "/".join(name for name in parents if name not in splits and name.lower() != DATA)
    if match:
        split = SPLITS[match["split"].lower()]
        part, parts = (int(match[name]) if match[name] else None for name in ("part", "parts"))
        return _File(path, split, part, parts, config)
    if not splits or path.stem.lower() == METADATA:
        return None
    part = int(path.stem) if are_numbers([path.stem]) else None
    return _File(path, split_of_folder(splits[-1]) or "", part, None, config)


def _check_one_config(folder: Path, files: list[_File]) -> None:
    configs = sorted({file.config for file in files})
    if len(configs) > 1:
        raise SourceError(
            f"{folder}: parquet files of {len(configs)} configurations: {some_names(configs)}.",
            hint=f"Name the folder of one: {folder / configs[-1]}",
        )


def _check_none_is_missing(files: list[_File]) -> None:
    """Raise a SourceError if a split lacks one of the files that the names of the others count."""
    for file in files:
        if file.part is None:
            continue
        named = file.split, file.parts, file.path.parent
        same = {f.part for f in files if (f.split, f.parts, f.path.parent) == named}
        count = file.parts or max(part for part in same if part is not None) + 1
        lost = sorted(set(range(count)) - same)
        if lost:
            raise SourceError(
                f"{file.path.parent}: {len(lost)} of {count} {file.split} files are missing, the "
                f"first is number {lost[0]:05d}.",
                hint="Download them and run again.",
            )


def _staged(folder: Path, staging: Path, path: Path) -> Path:
    parts = path.relative_to(folder).with_suffix("").parts
    return staging / f"{'-'.join(parts[1:] if parts[0] == DATA else parts)}.rows"


def _open(file: _File, staged: Path, columns: str | None) -> _Table:
    """Open a table and check its columns and sizes."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise MachineError(
            "parquet files need pyarrow.", hint='Install it: pip install "alexnet-cli[parquet]"'
        ) from error
    path = file.path
    try:
        num_rows, chunks = read_chunks(path)
        table = pyarrow.parquet.ParquetFile(path, page_checksum_verification=True)
    except FAULTS as error:
        raise _damaged(path, error) from error
    found = find_columns(path, table.schema_arrow, columns, needs_label=file.split != "test")
    chunks = [chunk for chunk in chunks if chunk.column in found.leaves]
    opened = _Table(file, table, found, staged, num_rows, chunks)
    _check_rows(opened)
    _check_pages(opened)
    return opened


def _check_rows(table: _Table) -> None:
    """Raise a SourceError if the numbers of rows do not fit each other, or the file."""
    path, num_rows = table.file.path, table.num_rows
    for column in table.columns.leaves:
        chunks = [chunk for chunk in table.chunks if chunk.column == column]
        count = sum(chunk.num_values for chunk in chunks)
        if not num_rows == count == sum(chunk.num_rows for chunk in chunks):
            raise _damaged(
                path, ValueError(f"{counted(num_rows, 'row')}, but {count:,} in {column}")
            )
    if num_rows > path.stat().st_size:
        raise SourceError(
            f"{path}: {counted(num_rows, 'row')} in {path.stat().st_size:,} bytes, which are no "
            "images."
        )


def _check_pages(table: _Table) -> None:
    """Find the largest page of images; a page is in memory whole.

    Raises:
        SourceError: if something unpacks to much more than it is, or is damaged.
    """
    path = table.file.path
    for chunk in table.chunks:
        try:
            with path.open("rb") as file:
                sizes = list(page_sizes(file, chunk))
        except FAULTS as error:
            raise _damaged(path, error) from error
        packed = sum(num_packed for _, num_packed in sizes)
        size = max(chunk.num_bytes, sum(num_bytes for num_bytes, _ in sizes))
        if size > MAX_FILE_BYTES and size > MAX_RATIO * packed:
            raise SourceError(
                f"{path}: {packed:,} bytes of {chunk.column} would unpack to {size:,}; no images "
                "are packed like this."
            )
        if chunk.column == table.image:
            table.page_bytes = max([table.page_bytes, *(num_bytes for num_bytes, _ in sizes)])


def _damaged(path: Path, error: Exception) -> SourceError:
    return SourceError(
        f"{path}: the file is cut or damaged ({brief(error, 150)}).", hint="Download it again."
    )


def _check_alike(first: _Table, table: _Table) -> None:
    """Raise a SourceError if two files have their images or labels in other columns."""
    one, other = first.columns, table.columns
    if other.label and (
        (one.image, one.label, one.has_text_labels)
        != (other.image, other.label, other.has_text_labels)
    ):
        raise SourceError(
            f"{table.file.path}: images and labels are in {other}, but in {one} of "
            f"{first.file.path.name}.",
            hint="Name a folder of files with the same columns.",
        )


def _check_names(table: _Table, listed: ClassList, *, are_own: bool) -> None:
    """Compare the class names in a file's schema with those that are taken.

    Args:
        are_own: whether these come from the files; else they may be other words for the classes.

    Raises:
        SourceError: for the first label that is another class.
    """
    names = class_names(table.table.schema_arrow, table.columns.label) or []
    for label, name in enumerate(names):
        taken = listed.names[label] if label < len(listed.names) else "none"
        if are_own and name != taken:
            raise SourceError(
                f"{table.file.path}: its schema calls label {label} {on_one_line(name)!r}, but it "
                f"is {on_one_line(taken)!r} in {listed.origin}.",
                hint="Name a folder of files with the same classes in the same order.",
            )
        if not are_own and label < len(listed.names):
            listed.check(label, "its schema", name, str(table.file.path))


def _rows(table: _Table, leaves: list[str], num_rows: int) -> Iterator[Any]:
    """Yield batches of some columns, all rows in all."""
    count = 0
    try:
        for batch in table.table.iter_batches(num_rows, columns=leaves):
            count += batch.num_rows
            yield batch
    except FAULTS as error:
        raise _damaged(table.file.path, error) from error
    if count != table.num_rows:
        raise _damaged(table.file.path, ValueError(f"{counted(count, 'row')} can be read"))


def _labels_of(table: _Table) -> Iterator[Any]:
    """Yield the label of each row, None where there is none."""
    if not table.columns.label:
        yield from [None] * table.num_rows
        return
    for batch in _rows(table, [table.columns.label], LABEL_ROWS):
        yield from batch.column(0).to_pylist()


def _list_rows(
    table: _Table,
    labels: LabeledClasses,
    ignored: dict[str, int],
) -> list[SourceImage]:
    """List the rows of one file with their labels, without reading an image."""
    path, split = table.file.path, table.file.split
    size = path.stat().st_size
    parent = f"{path.name}/"
    found = []
    rows = zip(_names_of(table), _labels_of(table), strict=True)
    for row, (own_name, label) in enumerate(rows):
        if split == "test" and label in (None, NO_LABEL, "", str(NO_LABEL)):
            count_ignored(ignored, NO_TEST_LABEL)
            continue
        name, wnid = split_name(base_name(own_name or ""))
        where = f"{path}: row {row} ({on_one_line(name[:60])})"
        if label is None or label == "":
            raise SourceError(f"{where}: no label.")
        number = labels.add(split, label, wnid, where, [("its name", wnid or "")])
        name = name or f"{path.stem}_{row:06d}"
        found.append(SourceImage(name, table.staged, row, size, number, parent, "row"))
    return found


def _names_of(table: _Table) -> Iterator[str | None]:
    """Yield the name that each row's image has, None if it has none."""
    if table.columns.path is None:
        yield from [None] * table.num_rows
        return
    for batch in _rows(table, [table.columns.path], LABEL_ROWS):
        for cell in batch.column(0).to_pylist():
            name = cell["path"] if isinstance(cell, dict) else cell
            if name is not None and len(name) > MAX_PATH:
                raise SourceError(f"{table.file.path}: a name of {len(name):,} characters.")
            yield name


def _copy_rows(file: _File, columns: str | None, stamp: tuple[int, int], output: BinaryIO) -> None:
    """Write the images of a file that is still the one whose labels were listed."""
    table = _open(file, Path(), columns)
    write_rows(output, _contents(table), table.num_rows)
    if file_stamp(file.path) != stamp:
        raise SourceError(
            f"{file.path}: changed while prep was at work.", hint="Run the same command again."
        )


def _contents(table: _Table) -> Iterator[bytes]:
    """Yield each row's image, b"" where there is none."""
    # A dictionary of images may repeat one of them in every row of a batch.
    num_rows = max(1, min(BATCH_ROWS, BATCH_BYTES // max(1, table.page_bytes)))
    for batch in _rows(table, [table.image], num_rows):
        for cell in batch.column(0):
            content = cell.as_py()
            if isinstance(content, dict):
                content = content["bytes"]
            yield content or b""


LAYOUT = Layout(
    "parquet",
    "train-*.parquet with images and labels",
    read_parquet,
    ("staging", "classes", "columns"),
)
