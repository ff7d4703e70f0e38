"""Kaggle's ILSVRC/Data/CLS-LOC: class folders to train on, flat validation images with a CSV.

Read as a folder, or in place as the zip that Kaggle distributes.
"""

import csv
import io
import stat
import sys
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

from alexnet_cli.data.images.decode import MAX_FILE_BYTES
from alexnet_cli.data.sources.codecs import ZIP_DEFLATED, ZIP_STORED
from alexnet_cli.data.sources.folders import (
    check_classes,
    class_folders,
    is_clutter,
    list_classes,
    list_files,
    list_flat,
)
from alexnet_cli.data.sources.label_files import parse_words
from alexnet_cli.data.sources.source import (
    NO_TEST_LABEL,
    UNLABELED,
    Layout,
    Source,
    SourceImage,
    count_ignored,
)
from alexnet_cli.errors import SourceError, on_one_line
from alexnet_cli.types import ImageClass

INSIDE = ("ILSVRC", "Data", "CLS-LOC")
ZIP_NAME = "imagenet-object-localization-challenge.zip"
GZIP_NAME = "imagenet_object_localization"  # begins the name of Kaggle's older download
LABELS = "LOC_val_solution.csv"
WORDS = "LOC_synset_mapping.txt"
MAX_TEXT_BYTES = 1 << 26  # Kaggle's labels have 2 MB
ENCRYPTED = 1  # a flag of a zip member


@dataclass(frozen=True, slots=True)
class _Parts:
    """The content of a folder or a zip; `texts` has LABELS and WORDS, if they are there."""

    layout: str
    wnids: list[str]
    train: list[SourceImage]
    val: list[SourceImage]
    texts: dict[str, bytes]


def read_kaggle(source: Path, *, follow_links: bool = False) -> Source | None:
    """List Kaggle's images; None if `source` does not hold them.

    `source` is the zip, or a folder: CLS-LOC, Data, ILSVRC, or what holds ILSVRC or the zip.
    """
    ignored: dict[str, int] = {}
    archive = source if source.suffix == ".zip" else source / ZIP_NAME
    if (folder := _find_folder(source)) is not None:
        parts = _list_folder(folder, ignored, follow_links)
    elif archive.is_file():
        parts = _list_zip(archive, ignored)
    else:
        # A tar within gzip can be read from its start only.
        for path in (source, *sorted(source.glob(f"{GZIP_NAME}*.tar.gz"))):
            if path.name.startswith(GZIP_NAME) and path.is_file():
                raise SourceError(
                    f"{path} cannot be read in place.",
                    hint="Unpack it (tar xzf) and name the folder.",
                )
        return None
    val = parts.val
    if any(image.label == UNLABELED for image in val):
        val = _label(source, parts, ignored)
    words = parse_words(parts.texts.get(WORDS, b""))
    classes = tuple(ImageClass(wnid, words.get(wnid, wnid)) for wnid in parts.wnids)
    return Source(parts.layout, classes, {"train": parts.train, "val": val}, ignored)


def _find_folder(source: Path) -> Path | None:
    """Return the CLS-LOC folder at or below `source`, or a folder of another name with LABELS."""
    for depth in range(len(INSIDE) + 1):
        folder = source.joinpath(*INSIDE[depth:])
        named = depth < len(INSIDE) or folder.resolve().name == INSIDE[-1]
        if (folder / "train").is_dir() and (folder / "val").is_dir():
            return folder if named or (folder / LABELS).is_file() else None
    return None


def _list_folder(folder: Path, ignored: dict[str, int], follow_links: bool) -> _Parts:
    wnids = class_folders(folder / "train", follow_links=follow_links)
    train = list_classes(folder, "train", wnids, ignored, follow_links)
    if class_folders(folder / "val", follow_links=follow_links):  # somebody has sorted them already
        check_classes(folder, "val", wnids, follow_links)
        val = list_classes(folder, "val", wnids, ignored, follow_links)
    else:
        val = list_flat(folder, "val", ignored, follow_links)
    if (folder / "test").is_dir():
        count_ignored(ignored, NO_TEST_LABEL, len(list_files(folder / "test", {})))
    # The texts are beside ILSVRC, at whatever depth `folder` was named.
    texts = _read_texts([folder, *folder.resolve().parents[: len(INSIDE)]])
    return _Parts("Kaggle's CLS-LOC folders", wnids, train, val, texts)


def _read_texts(folders: list[Path]) -> dict[str, bytes]:
    found = {}
    for name in (LABELS, WORDS):
        path = next((f / name for f in folders if (f / name).is_file()), None)
        if path is not None:
            if path.stat().st_size > MAX_TEXT_BYTES:
                raise SourceError(f"{path}: over {MAX_TEXT_BYTES >> 20} MB, not Kaggle's file.")
            found[name] = path.read_bytes()
    return found


def _list_zip(path: Path, ignored: dict[str, int]) -> _Parts:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            found = {i.filename.rpartition("/")[2]: i for i in members if "LOC_" in i.filename}
            texts = _read_texts([path.parent])
            texts |= {n: _read_text(archive, found[n]) for n in (LABELS, WORDS) if n in found}
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError) as error:
        raise SourceError(
            f"{path}: cut or damaged ({error}).", hint="Download it again."
        ) from error
    train: dict[str, list[SourceImage]] = {}
    val: list[SourceImage] = []
    for member in members:
        image = _zip_image(path, member, ignored)
        if image is None:
            continue
        split, _, wnid = image.parent.rstrip("/").partition("/")
        if split == "train" and wnid:
            train.setdefault(wnid, []).append(image)
        elif split == "val":
            val.append(image)
        elif split == "test":
            count_ignored(ignored, NO_TEST_LABEL)
    if not train:
        raise SourceError(
            f"{path}: no {'/'.join(INSIDE)}/train inside.", hint="Is it Kaggle's zip? Name that."
        )
    wnids = sorted(train)
    labeled = [replace(p, label=label) for label, wnid in enumerate(wnids) for p in train[wnid]]
    return _Parts(f"Kaggle's zip ({path.name})", wnids, labeled, val, texts)


def _read_text(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    if member.file_size > MAX_TEXT_BYTES:
        raise zipfile.BadZipFile(f"{member.filename} of {member.file_size} bytes")
    return archive.read(member)


def _zip_image(path: Path, member: zipfile.ZipInfo, ignored: dict[str, int]) -> SourceImage | None:
    """Return the image that a member below CLS-LOC is; its parent is train/WNID/, val/ or test/."""
    _, inside, name = member.filename.partition(f"{'/'.join(INSIDE[1:])}/")
    if not inside or member.is_dir():
        return None
    depth = 2 if name.startswith("train/") else 1
    parts = name.split("/", depth)
    if len(parts) <= depth or is_clutter(parts[-1]):
        count_ignored(ignored, "hidden file")
        return None
    if stat.S_ISLNK(member.external_attr >> 16) or member.file_size > MAX_FILE_BYTES:
        count_ignored(ignored, "zip member that is no plain image file")
        return None
    if member.flag_bits & ENCRYPTED or member.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
        raise SourceError(
            f"{path}: {on_one_line(name)} is encrypted, or packed by another method than zip's."
        )
    parent = sys.intern("/".join(parts[:-1]) + "/")
    offset, length = member.header_offset, member.compress_size
    return SourceImage(parts[-1], path, offset, length, UNLABELED, parent, "zip")


def _label(source: Path, parts: _Parts, ignored: dict[str, int]) -> list[SourceImage]:
    """Return the validation images with the labels of their rows."""
    if LABELS not in parts.texts:
        raise SourceError(
            f"{source}: no {LABELS}, so the validation images have no labels.",
            hint=f"Put Kaggle's {LABELS} beside ILSVRC.",
        )
    wnid_of = _read_labels(source, parts.texts[LABELS])
    label_of = {wnid: label for label, wnid in enumerate(parts.wnids)}
    labeled = []
    for image in sorted(parts.val, key=lambda image: image.name):
        wnid = wnid_of.pop(image.name.rpartition(".")[0], None)
        if wnid not in label_of:
            why = "has no row" if wnid is None else f"is {wnid!r}, which is no class of train"
            raise SourceError(f"{source}: {on_one_line(image.name)} {why} in {LABELS}.")
        labeled.append(replace(image, label=label_of[wnid]))
    count_ignored(ignored, f"row of {LABELS} without its image", len(wnid_of))
    return labeled


def _read_labels(source: Path, content: bytes) -> dict[str, str]:
    """Return the wnid of each ImageId: the first word of its PredictionString (boxes follow)."""
    text = io.StringIO(content.decode("utf-8-sig", "replace"), newline="")
    rows = csv.DictReader(text, skipinitialspace=True)
    wnids: dict[str, str] = {}
    try:
        missing = {"ImageId", "PredictionString"} - set(rows.fieldnames or ())
        if missing:
            raise SourceError(f"{source}: {LABELS} has no column {sorted(missing)[0]}.")
        for row in rows:
            wnid = ((row["PredictionString"] or "").split() or [""])[0]
            if wnids.setdefault(row["ImageId"], wnid) != wnid:
                name = on_one_line(str(row["ImageId"]))  # None of a short row
                raise SourceError(f"{source}: {LABELS} has two classes for {name}.")
    except csv.Error as error:
        raise SourceError(f"{source}: {LABELS} is damaged ({error}).") from error
    return wnids


LAYOUT = Layout(
    "kaggle",
    "ILSVRC/Data/CLS-LOC/train and val with LOC_val_solution.csv, or Kaggle's zip",
    read_kaggle,
    ("follow_links",),
)
