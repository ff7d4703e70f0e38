"""Class folders: `train/CLASS/*` with `val/CLASS/*` and `test/CLASS/*`, or `CLASS/*` alone."""

import os
from pathlib import Path

from alexnet_cli.data.sources.devkit import ImageClass
from alexnet_cli.data.sources.source import Source, SourceImage, count_ignored, split_off_val
from alexnet_cli.errors import SourceError, UsageError

# Left by file managers, notebooks and disks, in small letters; never a class, never an image.
CLUTTER = (
    "__macosx",
    "thumbs.db",
    "desktop.ini",
    "@eadir",
    "$recycle.bin",
    "system volume information",
    "lost+found",
)
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")


def read_folders(
    folder: Path, *, val_fraction: float, seed: int, follow_links: bool = False
) -> Source | None:
    """List the images of class folders; a class is a folder, its label the sorted position.

    Args:
        follow_links: follow links that lead out of the folder; by default none is followed.

    Returns:
        None if there are no class folders.

    Raises:
        SourceError: val or test has a class that train lacks.
    """
    if not folder.is_dir():
        return None
    ignored: dict[str, int] = {}
    if (folder / "train").is_dir():
        if val_fraction:
            raise UsageError("--val-fraction is for class folders alone; here train/ is given.")
        images, wnids = _list_splits(folder, ignored, follow_links)
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


def _list_splits(
    folder: Path, ignored: dict[str, int], follow_links: bool
) -> tuple[dict[str, list[SourceImage]], list[str]]:
    wnids = class_folders(folder / "train", follow_links=follow_links)
    train = list_classes(folder, "train", wnids, ignored, follow_links)
    images = {"train": train, "val": []}
    for split in ("val", "test"):
        if (folder / split).is_dir():
            check_classes(folder, split, wnids, follow_links)
            images[split] = list_classes(folder, split, wnids, ignored, follow_links)
    return images, wnids


def check_classes(folder: Path, split: str, wnids: list[str], follow_links: bool = False) -> None:
    """Refuse a held-out split with classes that train lacks, or with none.

    Raises:
        SourceError: it names the first.
    """
    found = class_folders(folder / split, follow_links=follow_links)
    if extra := sorted(set(found) - set(wnids)):
        raise SourceError(
            f"{folder / split}: class {extra[0]!r} is not in {folder / 'train'} "
            f"({len(extra)} such). Nothing was written."
        )
    if wnids and not found:
        raise SourceError(
            f"{folder / split}: no class folders. Sort its images into classes.\n"
            "The validation set of Kaggle can stay flat: put LOC_val_solution.csv beside it."
        )


def class_folders(
    folder: Path, ignored: dict[str, int] | None = None, *, follow_links: bool = False
) -> list[str]:
    """Return the sorted names of the folders that can be classes.

    Args:
        ignored: to count the other entries in.
    """
    wnids, ignored = [], {} if ignored is None else ignored
    outside = os.path.realpath(folder) if follow_links else None
    with os.scandir(folder) as entries:
        for entry in entries:
            reason = _reason_to_ignore(entry, outside, set())
            if reason or not _is_folder(entry):
                count_ignored(ignored, reason or "file beside the class folders")
            else:
                wnids.append(entry.name)
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
    """Return (name below root, path, size) of every plain file, and of every link to nowhere.

    Args:
        outside: follow links that lead out of this folder, to each file once; None: follow none.
    """
    files, waiting, seen = [], [str(root)], {os.path.realpath(root)}
    start = len(waiting[0]) + 1
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if reason := _reason_to_ignore(entry, outside, seen):
                    count_ignored(ignored, reason)
                elif _is_folder(entry):
                    waiting.append(entry.path)
                else:
                    files.append((entry.path[start:], Path(entry.path), _size(entry)))
    return files


def _reason_to_ignore(entry: os.DirEntry, outside: str | None, seen: set[str]) -> str | None:
    is_folder, is_link = _is_folder(entry), entry.is_symlink()
    if is_clutter(entry.name):
        return "hidden folder" if is_folder else "hidden file"
    if is_folder and entry.name.lower().endswith(PICTURE_SUFFIXES):
        return "folder named like an image"
    if is_link and not Path(entry.path).exists():
        return None  # it leads nowhere or to itself; left to prep to reject
    if is_link and not _leads_out(entry, outside):
        return "symbolic link"
    if not is_folder and not entry.is_file():
        return "not a plain file"
    if outside is not None:
        target = os.path.realpath(entry.path)
        if target in seen:
            return "symbolic link"
        seen.add(target)
    return None


def _is_folder(entry: os.DirEntry) -> bool:
    return Path(entry.path).is_dir() if entry.is_symlink() else entry.is_dir()


def _leads_out(entry: os.DirEntry, outside: str | None) -> bool:
    """Say whether a link leads out of a folder, if such links are to be followed at all."""
    return outside is not None and not Path(os.path.realpath(entry.path)).is_relative_to(outside)


def _size(entry: os.DirEntry) -> int:
    try:
        return entry.stat().st_size
    except OSError:
        return 0  # gone, or a link to nowhere


def is_clutter(name: str) -> bool:
    """Say whether a name is one that file managers leave behind, and not an image's."""
    if name.startswith(".") and not name.startswith("._"):
        return not name.lower().endswith(PICTURE_SUFFIXES)
    return name.startswith("._") or name.lower() in CLUTTER
