"""Class folders: `train/CLASS/*` with `val/CLASS/*` and `test/CLASS/*`, or `CLASS/*` alone."""

import os
from pathlib import Path

from alexnet_cli.data.releases.release import Picture, Release, count_ignored, split_off_val
from alexnet_cli.data.synsets import ImageClass
from alexnet_cli.errors import ReleaseError, UsageError

# Left by file managers and notebooks; a folder of these must never become a class.
CLUTTER = ("__MACOSX", "Thumbs.db", "desktop.ini")


def read_folders(folder: Path, *, val_fraction: float, seed: int) -> Release | None:
    """List the pictures of class folders; a class is a folder, its label the sorted position.

    Returns:
        None if there are no class folders.

    Raises:
        ReleaseError: val or test has a class that train lacks.
    """
    if not folder.is_dir():
        return None
    ignored: dict[str, int] = {}
    if (folder / "train").is_dir():
        if val_fraction:
            raise UsageError("--val-fraction is for class folders alone; here train/ is given.")
        pictures, wnids = _list_splits(folder, ignored)
        found = [f"{split}/CLASS" for split, listed in pictures.items() if listed]
        layout = " and ".join(found) + " folders"
    else:
        wnids = class_folders(folder)
        train = list_classes(folder, "", wnids, ignored)
        pictures = split_off_val(train, val_fraction, seed)
        layout = "CLASS folders"
    if not wnids:
        return None
    return Release(layout, tuple(ImageClass(w, w) for w in wnids), pictures, ignored)


def _list_splits(
    folder: Path, ignored: dict[str, int]
) -> tuple[dict[str, list[Picture]], list[str]]:
    wnids = class_folders(folder / "train")
    pictures = {"train": list_classes(folder, "train", wnids, ignored), "val": []}
    for split in ("val", "test"):
        if (folder / split).is_dir():
            check_classes(folder, split, wnids)
            pictures[split] = list_classes(folder, split, wnids, ignored)
    return pictures, wnids


def check_classes(folder: Path, split: str, wnids: list[str]) -> None:
    """Refuse a held-out split with classes that train lacks, or with none.

    Raises:
        ReleaseError: it names the first.
    """
    found = class_folders(folder / split)
    if extra := sorted(set(found) - set(wnids)):
        raise ReleaseError(
            f"{folder / split}: class {extra[0]!r} is not in {folder / 'train'} "
            f"({len(extra)} such). Nothing was written."
        )
    if wnids and not found:
        raise ReleaseError(
            f"{folder / split}: no class folders. Sort its pictures into classes.\n"
            "The validation set of Kaggle can stay flat: put LOC_val_solution.csv beside it."
        )


def class_folders(folder: Path) -> list[str]:
    """Return the sorted names of the folders that can be classes."""
    return sorted(
        entry.name
        for entry in os.scandir(folder)
        if entry.is_dir(follow_symlinks=False) and not is_clutter(entry.name)
    )


def list_classes(
    folder: Path, split: str, wnids: list[str], ignored: dict[str, int]
) -> list[Picture]:
    """List the pictures in `folder/split/WNID`, or in `folder/WNID` if `split` is ""."""
    pictures = []
    for label, wnid in enumerate(wnids):
        root = folder / split / wnid
        parent = f"{root.relative_to(folder)}/"
        for name, path, length in list_files(root, ignored):
            pictures.append(Picture(name, path, -1, length, label, parent))
    return pictures


def list_files(root: Path, ignored: dict[str, int]) -> list[tuple[str, Path, int]]:
    """Return (name below root, path, size) of every plain file; links are never followed."""
    files = []
    for parent, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not is_clutter(name)]
        for name in names:
            path = Path(parent, name)
            reason = _reason_to_ignore(path)
            if reason:
                count_ignored(ignored, reason)
            else:
                files.append((str(path.relative_to(root)), path, path.stat().st_size))
    return files


def _reason_to_ignore(path: Path) -> str | None:
    if is_clutter(path.name):
        return "hidden file"
    if path.is_symlink():
        return "symbolic link"
    return None if path.is_file() else "not a plain file"


def is_clutter(name: str) -> bool:
    """Say whether a name is one that file managers leave behind."""
    return name.startswith(".") or name in CLUTTER
