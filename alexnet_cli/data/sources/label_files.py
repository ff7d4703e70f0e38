"""Labels of images in one flat folder, from a file of names and classes beside it.

Read are CSV, TSV and lines of a name and a class, with or without a header: Kaggle's
LOC_val_solution.csv, Tiny ImageNet's val_annotations.txt, Caffe's val.txt, or any other.
"""

import csv
import io
import json
from dataclasses import replace

from alexnet_cli.data.sources.class_list import ClassList, distinct, in_class_order, label_of
from alexnet_cli.data.sources.labels import base_name, split_of_folder
from alexnet_cli.data.sources.members import Place
from alexnet_cli.data.sources.source import SourceImage, count_ignored
from alexnet_cli.errors import SourceError, on_one_line, some_names

MAX_BYTES = 1 << 28  # a name and a class of three million images
# Headers of a column of classes and of names, in lower case without blanks and underscores. Without
# one of the former, the class is what is beside the names.
CLASS_COLUMNS = (
    *("label", "class", "classname", "category", "wnid", "breed", "species", "target"),
    *("predictionstring", "labels", "classid", "classlabel", "categoryid", "labelid", "diagnosis"),
)
NAME_COLUMNS = (
    *("filename", "file", "path", "filepath", "image", "imagename", "imagepath", "imageid", "id"),
    *("name", "img", "idcode"),
)
SPLIT_COLUMNS = ("split", "set", "subset", "dataset", "partition")
MISSING = ("", "nan")  # a cell without a value; pandas writes the latter
# In the folder of the split, or beside it. {} is the split, or its folder's own name.
NAMES = (
    "{}_annotations.txt",
    "LOC_{}_solution.csv",
    "{}.txt",
    "{}.csv",
    "{}.tsv",
    "{}_labels.csv",
    "{}_labels.txt",
    "labels.csv",
    "labels.tsv",
    "_classes.csv",  # of Roboflow, a column for each class
    "metadata.csv",  # of Hugging Face's imagefolder
    "metadata.jsonl",
)
WORDS = ("words.txt", "LOC_synset_mapping.txt")


def find_label_file(folder: Place, split: str) -> Place | None:
    """Return the file of labels of the images in `folder`, looked for in it and beside it."""
    for parent in (folder, folder.parent):
        for pattern in NAMES:
            for name in (split, folder.name):
                if (path := parent / pattern.format(name)).is_file():
                    return path
    return None


def read_words(folder: Place) -> dict[str, str]:
    """Return the words of each wnid in a file of the folder; none without such a file.

    A line is `n01440764 tench, Tinca tinca`.
    """
    path = next((folder / name for name in WORDS if (folder / name).is_file()), None)
    lines = _read_text(path).splitlines() if path else []
    pairs = (line.split(None, 1) for line in lines)
    return {pair[0]: pair[1].strip() for pair in pairs if len(pair) == 2}


def _read_text(path: Place) -> str:
    if path.stat().st_size > MAX_BYTES:
        raise SourceError(f"{path}: over {MAX_BYTES >> 20} MB, no file of labels or words.")
    return path.read_bytes().decode("utf-8-sig", "replace")


def names_any(path: Place, images: list[SourceImage]) -> bool:
    """Return whether a row of a file names one of the images."""
    names = {name for image in images for name in _names_of(image)}
    return any(base_name(cell) in names for row in _read_rows(path) for cell in row)


def has_classes(path: Place) -> bool:
    """Return whether any row of a file has more than a name."""
    return any(len(row) > 1 for row in _read_rows(path))


def contradicts(path: Place, images: list[SourceImage], wnids: list[str]) -> bool:
    """Return whether a table names most of the images in class folders, but not their folders."""
    folder_of: dict[str, str] = {}
    for image in images:
        folder_of.update(dict.fromkeys(_names_of(image), wnids[image.label].lower()))
    num_named = num_agreeing = 0
    for row in _read_rows(path):
        folder = next((folder_of[n] for c in row if (n := base_name(c)) in folder_of), None)
        if folder is not None:
            num_named += 1
            cells = " ".join(row).lower().replace("\\", "/").replace("/", " ")
            num_agreeing += folder in cells
    return num_named * 2 >= len(images) > 0 and num_agreeing * 2 < num_named


def note_of_splits(path: Place) -> str:
    """Return a warning if a column names splits, which are not read; "" if none does."""
    empty: list[str] = []
    header, *rows = [*_read_rows(path), empty]
    for i, cell in enumerate(header):
        if _plain(cell) in SPLIT_COLUMNS:
            found = {row[i] for row in rows if len(row) > i and split_of_folder(row[i])}
            if len({split_of_folder(name) for name in found}) > 1:
                return (
                    f"warning: {path} has a column {on_one_line(cell)} ({some_names(sorted(found))}"
                    "), which is not read: a split is a folder, such as train/ and val/"
                )
    return ""


def label_images(
    images: list[SourceImage],
    path: Place,
    wnids: list[str] | None,
    ignored: dict[str, int],
    listed: ClassList | None = None,
) -> tuple[list[SourceImage], list[str]]:
    """Return the images with their labels in a file, and the classes.

    Args:
        wnids: the classes that are known; None to take those of the file, by number or name among
            `listed` if they are given. A number that is none of them is a position among them, from
            0.

    Raises:
        SourceError: if an image has no row or two classes, or a class is not known.
    """
    names = {name for image in images for name in _names_of(image)}
    class_of = _read_classes(path, names)
    found = [next((n for n in _names_of(image) if n in class_of), None) for image in images]
    lost = [image.source for image, name in zip(images, found, strict=True) if name is None]
    if lost:
        raise SourceError(
            f"{path}: no row for {len(lost):,} of {len(images):,} images, the first "
            f"{on_one_line(lost[0])}.",
            hint="Add those rows, or remove those images.",
        )
    owners: dict[str, str] = {}
    for image, name in zip(images, found, strict=True):
        if name is not None and owners.setdefault(name, image.source) != image.source:
            raise SourceError(
                f"{path}: the row {on_one_line(name)} may be {on_one_line(owners[name])} or "
                f"{on_one_line(image.source)}.",
                hint="Write the paths of such images in the folder instead of their names.",
            )
    used = [class_of[name] for name in found if name is not None]
    if wnids is None:
        found_classes = distinct(set(used))
        wnids = listed.folders(found_classes) if listed else in_class_order(found_classes)
    numbers = {text: label_of(text, wnids, path) for text in sorted(set(used))}
    count_ignored(ignored, f"row of {path.name} without its image", len(class_of.keys() - names))
    labels = (numbers[text] for text in used)
    return [replace(image, label=n) for image, n in zip(images, labels, strict=True)], wnids


def _names_of(image: SourceImage) -> tuple[str, str, str]:
    """Return what a row may call an image: its path in the folder, its name, that to the dot."""
    base = base_name(image.name)
    return image.name, base, base.rpartition(".")[0] or base


def _read_classes(path: Place, names: set[str]) -> dict[str, str]:
    """Return the class in each row, by the name in it."""
    rows = _read_rows(path)
    if not rows:
        raise SourceError(f"{path}: no rows of a name and a class.")
    column = _column_of_names(path, rows, names)
    header = [] if base_name(rows[0][column]) in names else rows.pop(0)
    plain = [_plain(cell) for cell in header]
    known = [name for name in CLASS_COLUMNS if name in plain]
    has_boxes = known[:1] == ["predictionstring"]  # after the class
    classes = plain.index(known[0]) if known else int(column == 0)
    others = [i for i in range(len(header)) if i != column]
    is_one_hot = not known and len(others) > 1 and all(_is_one_hot(r, others) for r in rows)
    if not known and len(others) > 1 and not is_one_hot:
        raise SourceError(
            f"{path}: which column is the class? It has {on_one_line(', '.join(header)[:200])}.",
            hint="In the first line, call the column of the class: label",
        )
    class_of: dict[str, str] = {}
    for row in rows:
        if len(row) <= max(column, classes):
            raise SourceError(
                f"{path}: a row without a class: {on_one_line(','.join(row)[:80])!a}."
            )
        cell, text = row[column], row[classes]
        if is_one_hot:
            text = next(header[i] for i in others if float(row[i]))
        text = text.partition(" ")[0] if has_boxes else text
        name = cell if cell in names else base_name(cell)
        if text.lower() in MISSING and name in names:
            raise SourceError(
                f"{path}: no class in the row of {on_one_line(cell)}: {on_one_line(text)!r}.",
                hint="Write its class, or remove the row and the image.",
            )
        if class_of.setdefault(name, text) != text:
            raise SourceError(f"{path} has two classes for {on_one_line(name)}.")
    return class_of


def _column_of_names(path: Place, rows: list[list[str]], names: set[str]) -> int:
    """Return the column that names the most images; of several, the one called so.

    Raises:
        SourceError: if there is none, or it cannot be said which.
    """
    width = max(map(len, rows))
    cells = [[base_name(row[i]) for row in rows if len(row) > i] for i in range(width)]
    found = [[cell for cell in column if cell in names] for column in cells]
    if not any(found):
        raise SourceError(
            f"{path}: no row names an image of the folder; the first is "
            f"{on_one_line(', '.join(rows[0])[:80])!a}.",
            hint="A row is the name of an image file and its class.",
        )
    # 1.jpg is a name; 1 may be a class, too.
    matches = [(sum("." in cell for cell in column), len(column)) for column in found]
    header = [_plain(cell) for cell in rows[0]]
    called = [i for i in range(len(header)) if header[i] in NAME_COLUMNS and found[i]]
    best = [i for i in called or range(width) if matches[i] == max(matches)]
    best = best or called
    best = [i for i in best if i >= len(header) or header[i] not in CLASS_COLUMNS] or best
    if len(best) > 1 and not called:
        raise SourceError(
            f"{path}: columns {best[0] + 1} and {best[1] + 1} may both be the names of the images.",
            hint="In the first line, call the columns: filename,label",
        )
    return best[0]


def _plain(cell: str) -> str:
    """Return a header as the names of columns are compared."""
    return "".join(c for c in cell.lower() if c not in "_ ")


def _is_one_hot(row: list[str], columns: list[int]) -> bool:
    """Return whether one cell is 1 and the others 0: a column for each class."""
    cells = [row[i] if i < len(row) else "" for i in columns]
    ones = sum(cell in ("1", "1.0") for cell in cells)
    return ones == 1 and sum(cell in ("0", "0.0") for cell in cells) == len(cells) - 1


def _read_rows(path: Place) -> list[list[str]]:
    text = _read_text(path)
    if path.suffix.lower() == ".jsonl":
        return _read_json_lines(path, text)
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = next((mark for mark in "\t;," if mark in first), None)
    if delimiter is None:  # a name may contain blanks
        rows = [line.strip().rsplit(None, 1) for line in text.splitlines()]
    else:
        try:
            reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
            rows = [[cell.strip() for cell in row] for row in reader]
        except csv.Error as error:
            raise SourceError(f"{path}: damaged ({error}).") from error
    return [row for row in rows if any(row)]


def _read_json_lines(path: Place, text: str) -> list[list[str]]:
    """Return the rows of a file with an object on each line, after the keys of the first one."""
    try:
        rows = [json.loads(line) for line in text.splitlines() if line.strip()]
        keys = list(rows[0]) if rows else []
        return [keys, *([str(row.get(key, "")) for key in keys] for row in rows)]
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise SourceError(f"{path}: damaged ({on_one_line(str(error)[:80])}).") from error
