"""WebDataset tars that others made: KEY.jpg with KEY.cls or KEY.json, splits from the tars' names.

Read in place. Members' names are only ever names.
"""

import json
import re
import tarfile
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import BinaryIO

from alexnet_cli.data.sources.labels import (
    SPLITS,
    LabeledClasses,
    base_name,
    check_held_out,
    split_name,
)
from alexnet_cli.data.sources.source import Source, SourceImage, count_ignored
from alexnet_cli.data.sources.tars import list_members
from alexnet_cli.errors import SourceError

# train-000000.tar, imagenet1k-validation-07.tar; ILSVRC2012_img_train_t3.tar is none of these.
FILE = re.compile(rf"(?!ILSVRC)(.*[-_])?(?P<split>{'|'.join(SPLITS)})([-_.].*)?\.tar")
IMAGES = ("jpg", "jpeg", "png", "webp")
NOTES = ("cls", "json")
MAX_NOTE_BYTES = 1 << 20
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
            shown = next((m for ext, m in members.items() if ext in IMAGES), None)
            if shown is None:
                count_ignored(ignored, "sample without jpg, jpeg or png")
                continue
            where = f"{path}: {key[:80]!r}"
            said, friendly_oom_errors = (
                _read_note(file, members.get(extension)) for extension in NOTES
            )
            note = read_json(friendly_oom_errors, where)
            label = read_label(said, note, where)
            if label is None and split == "test":
                count_ignored(ignored, "test image without a label")
                continue
            if label is None:
                raise SourceError(f"{where}: neither .cls nor a label in .json.")
            name, wnid = name_and_wnid(shown.name, note)
            labels.add(split, label, wnid, where)
            offset, parent = shown.offset_data, f"{path.name}/"
            images.append(SourceImage(name, path, offset, shown.size, label, parent))
    return images


def _group(
    path: Path, file: BinaryIO, ignored: dict[str, int]
) -> Iterator[tuple[str, dict[str, tarfile.TarInfo]]]:
    """Yield (key, members by extension) of each sample: neighbors up to their first dot."""
    members = list_members(path, file, 0, path.stat().st_size, ignored)
    for key, group in groupby(members, key=lambda member: _key_and_extension(member.name)[0]):
        by_extension: dict[str, tarfile.TarInfo] = {}
        for member in group:
            by_extension.setdefault(_key_and_extension(member.name)[1], member)
        yield key, by_extension


def _key_and_extension(name: str) -> tuple[str, str]:
    folder, slash, base = name.rpartition("/")
    stem, _, extension = base.partition(".")
    return folder + slash + stem, extension.lower()


def _read_note(file: BinaryIO, member: tarfile.TarInfo | None) -> bytes | None:
    if member is None:
        return None
    file.seek(member.offset_data)
    return file.read(min(member.size, MAX_NOTE_BYTES))


def read_json(content: bytes | None, where: str) -> dict:
    """Return what a sample's .json tells; nothing if it has none, or one that is no object.

    Raises:
        SourceError: it is no JSON; `where` names the sample.
    """
    if content is None:
        return {}
    try:
        note = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{where}: its .json cannot be read ({str(error)[:80]}).") from error
    return note if isinstance(note, dict) else {}


def read_label(content: bytes | None, note: dict, where: str) -> int | None:
    """Return the label in a sample's .cls, else in its .json; None if there is none or it is -1.

    Raises:
        SourceError: it is no whole number.
    """
    said = note.get("label")
    if content is not None:
        said = content[:20].decode("ascii", "replace").strip()
    if said is None:
        return None
    if isinstance(said, bool | float) or not re.fullmatch(r"-?\d+", str(said)):
        raise SourceError(f"{where}: label {str(said)[:20]!r} is not a whole number.")
    return None if int(said) == -1 else int(said)


def name_and_wnid(member: str, note: dict) -> tuple[str, str | None]:
    """Return the image's own name, which a note may have kept, and the wnid it belongs to."""
    kept = next((note[k] for k in ("filename", "source") if isinstance(note.get(k), str)), "")
    name, wnid = split_name(base_name(kept) or base_name(member))
    said = note.get("wnid")
    return name, said if isinstance(said, str) else wnid
