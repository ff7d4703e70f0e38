"""Classes of sources whose labels are numbers; their wnids are taken from names of images."""

import re
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path

from alexnet_cli.data.sources.source import Source, SourceImage
from alexnet_cli.errors import SourceError, on_one_line
from alexnet_cli.types import ImageClass

MAX_CLASSES = 100_000  # five times all of Fall 2011; every report has an entry for each
WNID = r"n\d{8}"
WNID_AND_WORDS = re.compile(rf"({WNID})\s*(.*)")  # n01440764 tench, Tinca tinca
LEADING_WNID = re.compile(rf"({WNID})_")  # n01440764_18.JPEG
# n01440764_18_n01440764.JPEG: Hugging Face added the last part to ImageNet's own names.
TRAILING_WNID = re.compile(rf"(.+)_({WNID})(\.[^.]*)")
SPLITS = {"train": "train", "val": "val", "validation": "val", "valid": "val", "test": "test"}


def base_name(name: str) -> str:
    """Return what follows the last slash of either kind; names from files are never paths."""
    return name.replace("\\", "/").rpartition("/")[2]


def split_name(name: str) -> tuple[str, str | None]:
    """Return an image's own name, without an added wnid, and the wnid it carries."""
    if trailing := TRAILING_WNID.fullmatch(name):
        return trailing[1] + trailing[3], trailing[2]
    leading = LEADING_WNID.match(name)
    return name, leading[1] if leading else None


class LabeledClasses:
    """Collects the labels of images, and the wnids that their names carry.

    Attributes:
        names: the words for each label, in label order, if the source has them.
    """

    def __init__(self, names: list[str] | None = None):
        self.names = names
        self._wnids: dict[int, set[str | None]] = {}  # by label, of training images
        self._held_out: set[tuple[int, str]] = set()

    def add(self, split: str, label: int, wnid: str | None, where: str) -> None:
        """Add an image's label and the wnid it carries.

        Raises:
            SourceError: if no class can have this label; `where` names the image.
        """
        if label >= MAX_CLASSES:
            raise SourceError(f"{where}: label {label}, but no source has that many classes.")
        limit = len(self.names) if self.names else None
        if label < 0 or (limit is not None and label >= limit):
            what = f"the {limit} classes end at {limit - 1}" if limit else "labels begin at 0"
            raise SourceError(f"{where}: label {label}, but {what}.", kept="Nothing was written.")
        if split == "train":
            self._wnids.setdefault(label, set()).add(wnid)
        elif wnid:
            self._held_out.add((label, wnid))

    def classes(self) -> tuple[ImageClass, ...]:
        """Return the classes, by wnid if names or images agree on them, else by number.

        Wnids count only if sorting them produces the labels; otherwise a label is its own name.
        """
        matches = [WNID_AND_WORDS.fullmatch(name) for name in self.names or ()]
        named = [ImageClass(match[1], match[2] or match[1]) for match in matches if match]
        if named and len(named) == len(matches) and self._agree([c.wnid for c in named]):
            return tuple(named)
        num_classes = len(self.names or ()) or max(self._wnids, default=-1) + 1
        carried = [self._wnids.get(label, {None}) for label in range(num_classes)]
        wnids = [next(iter(found)) or "" for found in carried]
        if None in set().union(*carried) or not self._agree(wnids):
            digits = len(str(max(num_classes - 1, 0)))
            wnids = [f"{label:0{digits}d}" for label in range(num_classes)]
        return tuple(
            ImageClass(w, name) for w, name in zip(wnids, self.names or wnids, strict=True)
        )

    def _agree(self, wnids: list[str]) -> bool:
        """Return whether wnids are sorted, and those that the images of each label carry."""
        carried = {(label, wnid) for label, found in self._wnids.items() for wnid in found if wnid}
        in_order = all(a < b for a, b in pairwise(wnids))
        return in_order and all(
            label < len(wnids) and wnids[label] == wnid for label, wnid in carried | self._held_out
        )


def list_labeled(
    layout: str,
    files: Iterable[tuple[str, Path]],
    list_images: Callable[[str, Path, dict[str, int]], list[SourceImage]],
    labels: LabeledClasses,
) -> Source:
    """Return the source whose images are in several files, each of one split.

    Args:
        files: split and path of each.
        list_images: lists one file, counts what it ignores, and adds the images' labels.
    """
    images: dict[str, list[SourceImage]] = {"train": [], "val": []}
    ignored: dict[str, int] = {}
    for split, path in files:
        listed = list_images(split, path, ignored)
        if listed or split in images:
            images.setdefault(split, []).extend(listed)
    classes = labels.classes()
    check_held_out(images, len(classes))
    return Source(layout, classes, images, ignored)


def check_held_out(images: dict[str, list[SourceImage]], num_classes: int) -> None:
    """Raise a SourceError for the first held-out image whose label no training image can have."""
    for listed in images.values():
        for image in listed:
            if image.label >= num_classes:
                raise SourceError(
                    f"{on_one_line(image.source)}: label {image.label}, but the training "
                    f"labels end at {num_classes - 1}.",
                    hint="Add training images of that class, or remove this image.",
                )
