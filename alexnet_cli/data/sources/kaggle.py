"""Kaggle's ILSVRC/Data/CLS-LOC: class folders to train on, flat validation images with a CSV.

Read as a folder, or as the archive that Kaggle distributes.
"""

import csv
import io
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

from alexnet_cli.data.sources.folders import (
    check_classes,
    class_folders,
    count_unlabeled,
    list_classes,
    list_flat,
)
from alexnet_cli.data.sources.label_files import parse_words
from alexnet_cli.data.sources.members import Place
from alexnet_cli.data.sources.packed import archive_of, list_archive
from alexnet_cli.data.sources.source import (
    UNLABELED,
    Layout,
    Source,
    SourceImage,
    count_ignored,
)
from alexnet_cli.data.sources.staging import StagedFile
from alexnet_cli.errors import SourceError, on_one_line
from alexnet_cli.types import ImageClass

INSIDE = ("ILSVRC", "Data", "CLS-LOC")
ZIP_NAME = "imagenet-object-localization-challenge.zip"
GZIP_NAME = "imagenet_object_localization"  # begins the name of Kaggle's older download
LABELS = "LOC_val_solution.csv"
WORDS = "LOC_synset_mapping.txt"
MAX_TEXT_BYTES = 1 << 26  # Kaggle's labels have 2 MB


def read_kaggle(source: Path, *, staging: Path, follow_links: bool = False) -> Source | None:
    """List Kaggle's images; None if `source` does not hold them.

    `source` is the archive, or a folder: CLS-LOC, Data, ILSVRC, or what holds ILSVRC or the
    archive.
    """
    ignored: dict[str, dict[str, int]] = defaultdict(dict)
    notes: list[str] = []
    staged: tuple[StagedFile, ...] = ()
    folder = _find_folder(source)
    layout = "Kaggle's CLS-LOC folders"
    if folder is None and (archive := _find_archive(source)) is not None:
        listed = list_archive(archive, staging)
        folder, staged = _find_folder(listed.root), listed.staged
        layout = f"Kaggle's {'zip' if archive.suffix == '.zip' else 'archive'} ({archive.name})"
    if folder is None:
        return None
    wnids, images, texts = _list_parts(folder, source, ignored, notes, follow_links)
    if any(image.label == UNLABELED for image in images["val"]):
        images["val"] = _label(source, wnids, images["val"], texts, ignored["val"])
    words = parse_words(texts.get(WORDS, b""))
    classes = tuple(ImageClass(wnid, words.get(wnid, wnid)) for wnid in wnids)
    return Source(layout, classes, images, ignored, staged, tuple(notes))


def _find_folder(source: Place) -> Place | None:
    """Return the CLS-LOC folder at or below `source`, or a folder of another name with LABELS."""
    for depth in range(len(INSIDE) + 1):
        folder = source / "/".join(INSIDE[depth:])
        named = depth < len(INSIDE) or folder.resolve().name == INSIDE[-1]
        if (folder / "train").is_dir() and (folder / "val").is_dir():
            return folder if named or (folder / LABELS).is_file() else None
    return None


def _find_archive(source: Path) -> Path | None:
    """Return Kaggle's archive; any zip may be it, renamed."""
    if source.is_file():
        is_like = source.suffix == ".zip" or source.name.startswith(GZIP_NAME)
        return source if is_like and archive_of(source) else None
    found = (source / ZIP_NAME, *sorted(source.glob(f"{GZIP_NAME}*.tar.gz")))
    return next((path for path in found if path.is_file()), None)


def _list_parts(
    folder: Place,
    source: Path,
    ignored: dict[str, dict[str, int]],
    notes: list[str],
    follow_links: bool,
) -> tuple[list[str], dict[str, list[SourceImage]], dict[str, bytes]]:
    """Return the classes, the images of each split, and the texts LABELS and WORDS."""
    wnids = class_folders(folder / "train", follow_links=follow_links)
    train = list_classes(folder, "train", wnids, ignored["train"], follow_links)
    if class_folders(folder / "val", follow_links=follow_links):  # somebody has sorted them already
        check_classes(folder, "val", wnids, follow_links)
        val = list_classes(folder, "val", wnids, ignored["val"], follow_links)
    else:
        val = list_flat(folder, "val", ignored["val"], follow_links)
    if (folder / "test").is_dir():
        notes.append(count_unlabeled(folder / "test", ignored["test"]))
    # The texts are beside ILSVRC, at whatever depth `folder` was named, or beside the archive.
    around: list[Place] = [folder.resolve()]
    for _ in INSIDE:
        around.append(around[-1].parent)
    return wnids, {"train": train, "val": val}, _read_texts([*around, source.parent, source])


def _read_texts(folders: list[Place]) -> dict[str, bytes]:
    found = {}
    for name in (LABELS, WORDS):
        path = next((f / name for f in folders if (f / name).is_file()), None)
        if path is not None:
            if path.stat().st_size > MAX_TEXT_BYTES:
                raise SourceError(f"{path}: over {MAX_TEXT_BYTES >> 20} MB, not Kaggle's file.")
            found[name] = path.read_bytes()
    return found


def _label(
    source: Path,
    wnids: list[str],
    images: list[SourceImage],
    texts: dict[str, bytes],
    ignored: dict[str, int],
) -> list[SourceImage]:
    """Return the validation images with the labels of their rows."""
    if LABELS not in texts:
        raise SourceError(
            f"{source}: no {LABELS}, so the validation images have no labels.",
            hint=f"Put Kaggle's {LABELS} beside ILSVRC.",
        )
    wnid_of = _read_labels(source, texts[LABELS])
    label_of = {wnid: label for label, wnid in enumerate(wnids)}
    labeled = []
    for image in sorted(images, key=lambda image: image.name):
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
    "ILSVRC/Data/CLS-LOC/train and val with LOC_val_solution.csv, or Kaggle's archive",
    read_kaggle,
    ("staging", "follow_links"),
)
