"""Class folders: `train/CLASS/*` with `val/CLASS/*` and `test/CLASS/*`, or `CLASS/*` alone."""

import os
from pathlib import Path

import numpy as np

from alexnet_cli.data.releases.release import Picture, Release
from alexnet_cli.data.synsets import ImageClass
from alexnet_cli.errors import ReleaseError, UsageError

# Left by file managers and notebooks; a folder of these must never become a class.
CLUTTER = ("__MACOSX", "Thumbs.db", "desktop.ini")


def read_folders(folder: Path, *, val_fraction: float, seed: int) -> Release:
    """List the pictures of class folders; a class is a folder, its label the sorted position.

    Raises:
        ReleaseError: there are no class folders, or val has a class that train lacks.
    """
    ignored: dict[str, int] = {}
    if (folder / "train").is_dir():
        if val_fraction:
            raise UsageError("--val-fraction is for class folders alone; here train/ is given.")
        pictures, wnids = _list_splits(folder, ignored)
        found = [f"{split}/CLASS" for split, listed in pictures.items() if listed]
        layout = " and ".join(found) + " folders"
    else:
        wnids = _class_folders(folder)
        train = _list_classes(folder, "", wnids, ignored)
        pictures = _split_off_val(train, val_fraction, seed)
        layout = "CLASS folders"
    if not wnids:
        raise ReleaseError(
            f"{folder}: no archives and no class folders.\n"
            "prep reads the official archives, train/CLASS and val/CLASS, or CLASS folders."
        )
    return Release(layout, tuple(ImageClass(w, w) for w in wnids), pictures, ignored)


def _list_splits(
    folder: Path, ignored: dict[str, int]
) -> tuple[dict[str, list[Picture]], list[str]]:
    wnids = _class_folders(folder / "train")
    pictures = {"train": _list_classes(folder, "train", wnids, ignored), "val": []}
    for split in ("val", "test"):
        if (folder / split).is_dir():
            _check_classes(folder, split, wnids)
            pictures[split] = _list_classes(folder, split, wnids, ignored)
    return pictures, wnids


def _check_classes(folder: Path, split: str, wnids: list[str]) -> None:
    """Refuse a held-out split with classes that train lacks, or with none."""
    found = _class_folders(folder / split)
    if extra := sorted(set(found) - set(wnids)):
        raise ReleaseError(
            f"{folder / split}: class {extra[0]!r} is not in {folder / 'train'} "
            f"({len(extra)} such). Nothing was written."
        )
    if wnids and not found:
        raise ReleaseError(f"{folder / split}: no class folders. Sort its pictures into classes.")


def _class_folders(folder: Path) -> list[str]:
    return sorted(
        entry.name
        for entry in os.scandir(folder)
        if entry.is_dir(follow_symlinks=False) and not _is_clutter(entry.name)
    )


def _list_classes(
    folder: Path, split: str, wnids: list[str], ignored: dict[str, int]
) -> list[Picture]:
    pictures = []
    for label, wnid in enumerate(wnids):
        root = folder / split / wnid
        for path, length in _list_files(root, ignored):
            pictures.append(Picture(str(path.relative_to(folder)), path, -1, length, label))
    return pictures


def _list_files(root: Path, ignored: dict[str, int]) -> list[tuple[Path, int]]:
    """Return every plain file below `root` in sorted order; links are never followed."""
    files = []
    for parent, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not _is_clutter(name))
        for name in sorted(names):
            path = Path(parent, name)
            reason = _reason_to_ignore(path)
            if reason:
                ignored[reason] = ignored.get(reason, 0) + 1
            else:
                files.append((path, path.stat().st_size))
    return files


def _reason_to_ignore(path: Path) -> str | None:
    if _is_clutter(path.name):
        return "hidden file"
    if path.is_symlink():
        return "symbolic link"
    return None if path.is_file() else "not a plain file"


def _is_clutter(name: str) -> bool:
    return name.startswith(".") or name in CLUTTER


def _split_off_val(pictures: list[Picture], fraction: float, seed: int) -> dict[str, list[Picture]]:
    """Move the same share of each class to val, drawn by the seed; one stays in train."""
    if not 0 <= fraction < 1:
        raise UsageError(f"--val-fraction {fraction}: it must lie in 0..1, below 1.")
    split: dict[str, list[Picture]] = {"train": [], "val": []}
    by_label: dict[int, list[Picture]] = {}
    for picture in pictures:
        by_label.setdefault(picture.label, []).append(picture)
    rng = np.random.default_rng([seed, 0x7A1])
    for group in by_label.values():
        order = rng.permutation(len(group))
        num_val = min(round(fraction * len(group)), len(group) - 1)
        chosen = set(order[:num_val].tolist())
        for position, picture in enumerate(group):
            split["val" if position in chosen else "train"].append(picture)
    return split
