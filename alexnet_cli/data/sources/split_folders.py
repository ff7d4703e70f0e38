"""Which folders are splits: train, val and test by many names, and where their classes lie."""

import re
from pathlib import Path

from alexnet_cli.data.sources.labels import (
    SPLIT_NAMES,
    SPLIT_PATTERN,
    SPLITS,
    split_of_folder,
    words_of,
)
from alexnet_cli.data.sources.listing import folder_names, holds_images, is_own_output
from alexnet_cli.data.sources.members import Place
from alexnet_cli.errors import SourceError, some_names

PART = re.compile(rf"(?P<split>{SPLIT_PATTERN})[-_. ]?(x|p|part)?[-_. ]?\d*", re.IGNORECASE)


def only_folder_of_folders(folder: Place) -> Place | None:
    """Return the folder below that holds several folders, if nothing is beside it on the way."""
    names = folder_names(folder)
    if isinstance(folder, Path):
        names = [name for name in names if not is_own_output(str(folder / name))]
    if len(names) != 1 or split_of_folder(names[0]):
        return None
    child = folder / names[0]
    inner = folder_names(child)
    if not inner or holds_images(child):
        return None
    deeper = only_folder_of_folders(child)
    return child if deeper is None and (len(inner) > 1 or split_of_folder(inner[0])) else deeper


def find_split_folders(root: Place, notes: list[str]) -> dict[str, str]:
    """Return the name of each split's folder; none if all folders are classes.

    A folder is one of a split if it is named like one and holds folders, or is beside one that is.
    """
    names = folder_names(root)
    named: dict[str, list[str]] = {}
    for name in names:
        if split := split_of_folder(name):
            named.setdefault(split, []).append(name)
    named = named or _named_alike(names) or _named_in_parts(root, names)
    if not named:
        return {}
    splits = {split: min(named[split], key=_rank) for split in SPLIT_NAMES if split in named}
    others = [name for name in names if name not in splits.values()]
    unnamed = [name for name in others if not split_of_folder(name)]
    with_folders = [name for name in splits.values() if folder_names(root / name)]
    if not with_folders and list(splits) == ["train"] and unnamed:
        notes.append(f"warning: {root / splits['train']} holds no folders: taken for a class")
        return {}
    if "train" not in splits and unnamed:
        held_out = next(iter(splits.values()))
        raise SourceError(
            f"{root}: {held_out}/ is named like a split, but is beside {some_names(unnamed)}, "
            "and there is no train/.",
            hint=f"Move the class folders into {root / 'train'}; if {held_out} is a class, rename "
            "it.",
        )
    for name in others:
        notes.append(
            f"warning: {root / name} is not read; the splits are {splits_in_words(splits)}"
        )
    return splits


def _named_alike(names: list[str]) -> dict[str, list[str]]:
    """Return the folders of splits whose names differ in nothing else: seg_train, seg_test."""
    alike: dict[tuple[str, ...], dict[str, list[str]]] = {}
    for name in names:
        words = words_of(name)
        found = [word for word in words if word in SPLITS]
        if len(found) == 1:
            rest = tuple(word for word in words if word != found[0])
            alike.setdefault(rest, {}).setdefault(SPLITS[found[0]], []).append(name)
    return next((named for named in alike.values() if "train" in named and len(named) > 1), {})


def _named_in_parts(root: Place, names: list[str]) -> dict[str, list[str]]:
    """Return the folders of splits with a number or letter: train.X1, val.X; test1.

    Raises:
        SourceError: if a split is in several.
    """
    found: dict[str, list[str]] = {}
    for name in names:
        if match := PART.fullmatch(name):
            found.setdefault(SPLITS[match["split"].lower()], []).append(name)
    if "train" not in found:
        return {}
    for split, parts in found.items():
        if len(parts) > 1:
            raise SourceError(
                f"{root}: {split} is in {len(parts)} folders: {some_names(parts)}.",
                hint=f"Move what they hold into one folder, {root / split}.",
            )
    return found


def class_root(root: Place, name: str, notes: list[str]) -> str:
    """Return the path below `root` of the folder of a split's classes; a note names another."""
    inner = only_folder_of_folders(root / name)
    if inner is None:
        return name
    notes.append(f"{inner} is read, the only folder in {root / name}")
    return str(inner)[len(str(root)) + 1 :]


def _rank(name: str) -> tuple[int, bool]:
    """Return the order in which folders of one split are preferred."""
    names = list(SPLITS)
    return names.index(name.lower()) if name.lower() in names else len(names), name != name.lower()


def splits_in_words(splits: dict[str, str]) -> str:
    """Return the folders of splits for a message."""
    return ", ".join(f"{name}/" for name in splits.values())


def note_splits_beside(root: Place, notes: list[str]) -> None:
    """Note the other splits beside a folder of classes that is one split itself."""
    root = root.resolve()
    if split_of_folder(root.name):
        for name in folder_names(root.parent):
            if split_of_folder(name) and name != root.name:
                notes.append(
                    f"warning: {root.parent / name} is not read; to read both, name {root.parent}"
                )
