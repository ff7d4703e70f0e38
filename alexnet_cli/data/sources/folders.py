"""Class folders: `train/CLASS/*` with `val/CLASS/*` and `test/CLASS/*`, or `CLASS/*` alone."""

import os
from pathlib import Path

from alexnet_cli.data.sources.source import (
    Layout,
    Source,
    SourceImage,
    count_ignored,
    split_off_val,
)
from alexnet_cli.errors import SourceError, UsageError, hint
from alexnet_cli.types import ImageClass

# Left by file managers, notebooks and disks, in lower case; never a class, never an image.
CLUTTER = (
    "__macosx",
    "thumbs.db",
    "desktop.ini",
    "@eadir",
    "$recycle.bin",
    "system volume information",
    "lost+found",
)
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")


def read_folders(
    folder: Path, *, val_fraction: float, seed: int, follow_links: bool = False
) -> Source | None:
    """List the images of class folders, None if there are none.

    A class is a folder; its label is the position of its name in sorted order.
    """
    if not folder.is_dir():
        return None
    ignored: dict[str, int] = {}
    if (folder / "train").is_dir():
        if val_fraction:
            raise UsageError(
                f"{folder}: train/ is there, so no share of the images is kept for validation.",
                hint=hint("leave_out", option="val-fraction"),
            )
        wnids = class_folders(folder / "train", follow_links=follow_links)
        images = {"train": list_classes(folder, "train", wnids, ignored, follow_links), "val": []}
        for split in ("val", "test"):
            if (folder / split).is_dir():
                check_classes(folder, split, wnids, follow_links)
                images[split] = list_classes(folder, split, wnids, ignored, follow_links)
        found = [f"{split}/CLASS" for split, listed in images.items() if listed]
        layout = " and ".join(found) + " folders"
    else:
        wnids = class_folders(folder, follow_links=follow_links)
        train = list_classes(folder, "", wnids, ignored, follow_links)
        images = split_off_val(train, val_fraction, seed)
        layout = "CLASS folders"
    if not wnids:
        return None
    return Source(layout, tuple(ImageClass(w, w) for w in wnids), images, ignored)


def check_classes(folder: Path, split: str, wnids: list[str], follow_links: bool = False) -> None:
    """Raise a SourceError if a held-out split has no classes, or one that train lacks."""
    found = class_folders(folder / split, follow_links=follow_links)
    if extra := sorted(set(found) - set(wnids)):
        raise SourceError(
            f"{folder / split}: class {extra[0]!r} is not in {folder / 'train'} "
            f"({len(extra)} such).",
            hint=f"Remove it, or add its images to {folder / 'train'}.",
        )
    if wnids and not found:
        raise SourceError(
            f"{folder / split}: no class folders.",
            hint="Sort its images into classes. The validation set of Kaggle can stay flat: put "
            "LOC_val_solution.csv beside it.",
        )


def class_folders(
    folder: Path, ignored: dict[str, int] | None = None, *, follow_links: bool = False
) -> list[str]:
    """Return the sorted names of folders that can be classes; count other entries as ignored."""
    wnids = []
    outside = os.path.realpath(folder) if follow_links else None
    with os.scandir(folder) as entries:
        for entry in entries:
            reason = _reason_to_ignore(entry, outside, set())
            if not reason and _is_folder(entry):
                wnids.append(entry.name)
            elif ignored is not None:
                count_ignored(ignored, reason or "file beside the class folders")
    return sorted(wnids)


def list_classes(
    folder: Path,
    split: str,
    wnids: list[str],
    ignored: dict[str, int],
    follow_links: bool = False,
) -> list[SourceImage]:
    """List the images in `folder/split/WNID`, or in `folder/WNID` if `split` is ""."""
    images = []
    found = set(class_folders(folder / split, ignored, follow_links=follow_links))
    outside = os.path.realpath(folder / split) if follow_links else None
    for label, wnid in enumerate(wnids):
        if wnid not in found:
            continue
        root = folder / split / wnid
        parent = f"{root.relative_to(folder)}/"
        for name, path, length in list_files(root, ignored, outside):
            images.append(SourceImage(name, path, -1, length, label, parent))
    return images


def list_files(
    root: Path, ignored: dict[str, int], outside: str | None = None
) -> list[tuple[str, Path, int]]:
    """Return (name below root, path, size) of every plain file, and of every broken link.

    Args:
        outside: follow links that lead out of this folder, to each file once; None: follow none.
    """
    files = []
    waiting = [str(root)]
    seen = {os.path.realpath(root)}
    start = len(waiting[0]) + 1
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if reason := _reason_to_ignore(entry, outside, seen):
                    count_ignored(ignored, reason)
                elif _is_folder(entry):
                    waiting.append(entry.path)
                else:
                    files.append((entry.path[start:], Path(entry.path), _size(entry)))
    return files


def list_image_files(folder: Path) -> list[Path]:
    """Return the sorted files below a folder that are named like images, without clutter.

    Links that lead out of the folder are followed, to each file once.
    """
    paths = [path for _, path, _ in list_files(folder, {}, os.path.realpath(folder))]
    return sorted(path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES)


def _reason_to_ignore(entry: os.DirEntry, outside: str | None, seen: set[str]) -> str | None:
    is_folder = _is_folder(entry)
    is_link = entry.is_symlink()
    if is_clutter(entry.name):
        return "hidden folder" if is_folder else "hidden file"
    if is_folder and entry.name.lower().endswith(IMAGE_SUFFIXES):
        return "folder named like an image"
    if is_link and not Path(entry.path).exists():
        return None  # a broken link, or a link to itself; prep rejects it
    target = os.path.realpath(entry.path) if outside is not None else ""
    if is_link and (outside is None or Path(target).is_relative_to(outside)):
        return "symbolic link"
    if not is_folder and not entry.is_file():
        return "not a plain file"
    if target in seen:
        return "symbolic link"
    if target:
        seen.add(target)
    return None


def _is_folder(entry: os.DirEntry) -> bool:
    return Path(entry.path).is_dir() if entry.is_symlink() else entry.is_dir()


def _size(entry: os.DirEntry) -> int:
    try:
        return entry.stat().st_size
    except OSError:
        return 0  # removed meanwhile, or a broken link


def is_clutter(name: str) -> bool:
    """Return whether a name is one that file managers leave behind, and not an image's."""
    if name.startswith(".") and not name.startswith("._"):
        return not name.lower().endswith(IMAGE_SUFFIXES)
    return name.startswith("._") or name.lower() in CLUTTER


LAYOUT = Layout(
    "folders",
    "train/CLASS with val/CLASS or test/CLASS folders, or CLASS folders",
    read_folders,
    ("val_fraction", "seed", "follow_links"),
)
