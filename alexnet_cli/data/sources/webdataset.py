"""WebDataset tars of other people: KEY.jpg with KEY.cls or KEY.json, split by the tars' names.

Read in place. Members' names are never used as paths.
"""

import json
import re
import tarfile
from collections.abc import Iterator
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import BinaryIO

from alexnet_cli.data.sources.labels import (
    SPLITS,
    LabeledClasses,
    base_name,
    list_labeled,
    split_name,
)
from alexnet_cli.data.sources.source import Layout, Source, SourceImage, count_ignored
from alexnet_cli.data.sources.tars import list_members
from alexnet_cli.errors import SourceError

# train-000000.tar, imagenet1k-validation-07.tar; not ILSVRC2012_img_train_t3.tar
FILE = re.compile(rf"(?!ILSVRC)(.*[-_])?(?P<split>{'|'.join(SPLITS)})([-_.].*)?\.tar")
IMAGES = ("jpg", "jpeg", "png", "webp")
MAX_NOTE_BYTES = 1 << 20
NAMES_FILES = ("classes.txt", "classes.json")


def read_webdataset(folder: Path) -> Source | None:
    """List the samples of the tars in `folder`; None if no tar is named after a split."""
    if not folder.is_dir():
        return None
    tars = sorted(p for p in folder.iterdir() if FILE.fullmatch(p.name) and p.is_file())
    if not tars:
        return None
    labels = LabeledClasses(names_beside(folder))
    files = [(SPLITS[FILE.fullmatch(path.name)["split"]], path) for path in tars]
    layout = f"WebDataset ({tars[0].name}, ...)"
    return list_labeled(layout, files, partial(_list_samples, labels), labels)


def names_beside(folder: Path) -> list[str] | None:
    """Return the words for each label, if a file in the folder of the tars has them."""
    path = next((folder / name for name in NAMES_FILES if (folder / name).is_file()), None)
    return read_names(path) if path else None


def read_names(path: Path) -> list[str]:
    """Read the words for each label, one per line or as a JSON list."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        names = json.loads(text) if path.suffix == ".json" else text.splitlines()
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{path}: not readable ({error}).") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise SourceError(f"{path}: not a list of class names in label order.")
    return names


def _list_samples(
    labels: LabeledClasses, split: str, path: Path, ignored: dict[str, int]
) -> list[SourceImage]:
    images = []
    with path.open("rb") as file:
        for key, members in _group(path, file, ignored):
            shown = next((m for ext, m in members.items() if ext in IMAGES), None)
            if shown is None:
                count_ignored(ignored, "sample without jpg, jpeg or png")
                continue
            where = f"{path}: {key[:80]!r}"
            note = read_json(_read_note(file, members.get("json")), where)
            label = read_label(_read_note(file, members.get("cls")), note, where)
            if label is None and split == "test":
                count_ignored(ignored, "test image without a label")
                continue
            if label is None:
                raise SourceError(
                    f"{where}: neither .cls nor a label in .json.",
                    hint="Add one, or name another layout or folder.",
                )
            name, wnid = name_and_wnid(shown.name, note)
            labels.add(split, label, wnid, where)
            parent = f"{path.name}/"
            images.append(SourceImage(name, path, shown.offset_data, shown.size, label, parent))
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
    """Return the object in a sample's .json; {} if there is none, or another value.

    Raises:
        SourceError: if it is not JSON; `where` names the sample.
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
        SourceError: if it is not a whole number.
    """
    label = note.get("label")
    if content is not None:
        label = content[:20].decode("ascii", "replace").strip()
    if label is None:
        return None
    if isinstance(label, bool | float) or not re.fullmatch(r"-?\d+", str(label)):
        raise SourceError(f"{where}: label {str(label)[:20]!r} is not a whole number.")
    return None if int(label) == -1 else int(label)


def name_and_wnid(member: str, note: dict) -> tuple[str, str | None]:
    """Return the image's own name, which a note may have kept, and the wnid it belongs to."""
    kept = next((note[k] for k in ("filename", "source") if isinstance(note.get(k), str)), "")
    name, wnid = split_name(base_name(kept) or base_name(member))
    noted = note.get("wnid")
    return name, noted if isinstance(noted, str) else wnid


LAYOUT = Layout("webdataset", "train-*.tar with jpg and cls", read_webdataset)
