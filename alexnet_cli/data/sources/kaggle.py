"""Kaggle's ILSVRC/Data/CLS-LOC: class folders to train on, flat validation images with a CSV.

Read as a folder, or as the archive that Kaggle distributes.
"""

from collections import defaultdict
from pathlib import Path

from alexnet_cli.data.sources.folder_checks import check_classes
from alexnet_cli.data.sources.folders import count_unlabeled
from alexnet_cli.data.sources.label_files import label_images, read_words
from alexnet_cli.data.sources.listing import class_folders, list_classes, list_flat
from alexnet_cli.data.sources.members import Place
from alexnet_cli.data.sources.packed import archive_of, list_archive
from alexnet_cli.data.sources.source import UNLABELED, Layout, Source, SourceImage
from alexnet_cli.data.sources.staging import StagedFile
from alexnet_cli.errors import SourceError
from alexnet_cli.types import ImageClass

INSIDE = ("ILSVRC", "Data", "CLS-LOC")
ZIP_NAME = "imagenet-object-localization-challenge.zip"
GZIP_NAME = "imagenet_object_localization"  # begins the name of Kaggle's older download
LABELS = "LOC_val_solution.csv"


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
    # The texts are beside ILSVRC, at whatever depth `folder` was named, or beside the archive.
    around: list[Place] = [folder.resolve()]
    for _ in INSIDE:
        around.append(around[-1].parent)
    around += [source.parent, source]
    wnids, images = _list_parts(folder, ignored, notes, follow_links)
    if any(image.label == UNLABELED for image in images["val"]):
        path = next((place / LABELS for place in around if (place / LABELS).is_file()), None)
        if path is None:
            raise SourceError(
                f"{source}: no {LABELS}, so the validation images have no labels.",
                hint=f"Put Kaggle's {LABELS} beside ILSVRC.",
            )
        images["val"], _ = label_images(images["val"], path, wnids, ignored["val"])
    words = next(filter(None, map(read_words, around)), {})
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
    folder: Place, ignored: dict[str, dict[str, int]], notes: list[str], follow_links: bool
) -> tuple[list[str], dict[str, list[SourceImage]]]:
    """Return the classes and the images of each split."""
    wnids = class_folders(folder / "train", follow_links=follow_links)
    train = list_classes(folder, "train", wnids, ignored["train"], follow_links)
    if class_folders(folder / "val", follow_links=follow_links):  # somebody has sorted them already
        check_classes(folder, "val", wnids, follow_links)
        val = list_classes(folder, "val", wnids, ignored["val"], follow_links)
    else:
        val = list_flat(folder, "val", ignored["val"], follow_links)
    if (folder / "test").is_dir():
        notes.append(count_unlabeled(folder / "test", ignored["test"]))
    return wnids, {"train": train, "val": val}


LAYOUT = Layout(
    "kaggle",
    "ILSVRC/Data/CLS-LOC/train and val with LOC_val_solution.csv, or Kaggle's archive",
    read_kaggle,
    ("staging", "follow_links"),
)
