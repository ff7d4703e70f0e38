"""WebDataset tars that others made: KEY.jpg with KEY.cls or KEY.json, splits from the tars' names.

Read in place. Members' names are only ever names.
"""

import json
import tarfile
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import BinaryIO

from alexnet_cli.data.sources.labels import SPLITS, LabeledClasses, check_held_out
from alexnet_cli.data.sources.samples import (
    FILE,
    IMAGES,
    MAX_NOTE_BYTES,
    NOTES,
    key_and_extension,
    read_notes,
)
from alexnet_cli.data.sources.source import Source, SourceImage, count_ignored
from alexnet_cli.data.sources.tars import list_members
from alexnet_cli.errors import SourceError

NAMES_FILES = ("classes.txt", "classes.json")


def read_webdataset(folder: Path) -> Source | None:
    """List the samples of the tars in `folder`; None if no tar is named after a split.

    Raises:
        SourceError: a tar is cut, a sample has no label, or one that no class can have.
    """
    if not folder.is_dir():
        return None
    tars = sorted(p for p in folder.iterdir() if FILE.fullmatch(p.name) and p.is_file())
    if not tars:
        return None
    labels = LabeledClasses(names_beside(folder))
    images, ignored = {"train": [], "val": []}, {}
    for path in tars:
        split = SPLITS[FILE.fullmatch(path.name)["split"]]
        listed = _list_samples(split, path, labels, ignored)
        if listed or split in images:
            images.setdefault(split, []).extend(listed)
    classes = labels.classes()
    check_held_out(images, len(classes))
    return Source(f"WebDataset ({tars[0].name}, ...)", classes, images, ignored)


def names_beside(folder: Path) -> list[str] | None:
    """Return the words for each label, if a file in the folder of the tars has them."""
    path = next((folder / name for name in NAMES_FILES if (folder / name).is_file()), None)
    return read_names(path) if path else None


def read_names(path: Path) -> list[str]:
    """Read the words for each label, one a line or as a JSON list.

    Raises:
        SourceError: the file holds anything else.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        names = json.loads(text) if path.suffix == ".json" else text.splitlines()
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{path}: not readable ({error}).") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise SourceError(f"{path}: not a list of class names in label order.")
    return names


def _list_samples(
    split: str, path: Path, labels: LabeledClasses, ignored: dict[str, int]
) -> list[SourceImage]:
    images = []
    with path.open("rb") as file:
        for key, members in _group(path, file, ignored):
            image = next((m for ext, m in members.items() if ext in IMAGES), None)
            if image is None:
                count_ignored(ignored, "sample without jpg, jpeg or png")
                continue
            where = f"{path}: {key[:80]!r}"
            contents = {ext: _read_note(file, members[ext]) for ext in NOTES if ext in members}
            notes = read_notes(contents, image.name, where)
            if notes.label is None and split == "test":
                count_ignored(ignored, "test image without a label")
                continue
            if notes.label is None:
                raise SourceError(f"{where}: no label in .cls, .json or .txt.")
            labels.add(split, notes.label, notes.wnid, where)
            place = path, image.offset_data, image.size
            images.append(SourceImage(notes.name, *place, notes.label, f"{path.name}/"))
    return images


def _group(
    path: Path, file: BinaryIO, ignored: dict[str, int]
) -> Iterator[tuple[str, dict[str, tarfile.TarInfo]]]:
    """Yield (key, members by extension) of each sample: neighbors with the same key."""
    members = list_members(path, file, 0, path.stat().st_size, ignored)
    for key, group in groupby(members, key=lambda member: key_and_extension(member.name)[0]):
        by_extension: dict[str, tarfile.TarInfo] = {}
        for member in group:
            by_extension.setdefault(key_and_extension(member.name)[1], member)
        yield key, by_extension


def _read_note(file: BinaryIO, member: tarfile.TarInfo) -> bytes:
    file.seek(member.offset_data)
    return file.read(min(member.size, MAX_NOTE_BYTES))
