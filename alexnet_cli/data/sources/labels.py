"""Classes of sets whose labels are numbers: wnids out of image names, if they agree with them."""

import re
from itertools import pairwise

from alexnet_cli.data.sources.devkit import ImageClass
from alexnet_cli.errors import SourceError, on_one_line

MAX_CLASSES = 100_000  # five times all of Fall 2011; each costs its part of every report
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
    leading, trailing = LEADING_WNID.match(name), TRAILING_WNID.fullmatch(name)
    if trailing:
        return trailing[1] + trailing[3], trailing[2]
    return name, leading[1] if leading else None


class LabeledClasses:
    """Gathers what the images say of each label.

    Attributes:
        names: the words for each label, in label order, if the set has them.
    """

    def __init__(self, names: list[str] | None = None):
        self.names = names
        self._wnids: dict[int, set[str | None]] = {}
        self._held_out: set[tuple[int, str]] = set()

    def add(self, split: str, label: int, wnid: str | None, where: str) -> None:
        """Take an image's label and the wnid it carries.

        Raises:
            SourceError: no class can have this label; `where` names the image.
        """
        if label >= MAX_CLASSES:
            raise SourceError(f"{where}: label {label}, but no set has so many classes.")
        limit = len(self.names) if self.names else None
        if label < 0 or (limit is not None and label >= limit):
            what = f"the {limit} classes end at {limit - 1}" if limit else "labels begin at 0"
            raise SourceError(f"{where}: label {label}, but {what}.\nNothing was written.")
        if split == "train":
            self._wnids.setdefault(label, set()).add(wnid)
        elif wnid:
            self._held_out.add((label, wnid))

    def classes(self) -> tuple[ImageClass, ...]:
        """Return the classes: by wnid if all images agree on them, else by number.

        Wnids count only if sorting them gives the labels; otherwise a label is its own name.
        """
        num_classes = len(self.names or ()) or max(self._wnids, default=-1) + 1
        if friendly_oom_errors := self._told_classes():
            return friendly_oom_errors
        wnids = self._agreed_wnids(num_classes)
        if not wnids:
            digits = len(str(max(num_classes - 1, 0)))
            wnids = [f"{label:0{digits}d}" for label in range(num_classes)]
        return tuple(
            ImageClass(w, name) for w, name in zip(wnids, self.names or wnids, strict=True)
        )

    def _told_classes(self) -> tuple[ImageClass, ...]:
        """Return the classes of names that begin with wnids, in their order and as the images."""
        found = [WNID_AND_WORDS.fullmatch(name) for name in self.names or ()]
        if not found or not all(found):
            return ()
        friendly_oom_errors = tuple(ImageClass(m[1], m[2] or m[1]) for m in found)
        said = {(label, wnid) for label, wnids in self._wnids.items() for wnid in wnids if wnid}
        agreed = all(
            friendly_oom_errors[label].wnid == wnid for label, wnid in said | self._held_out
        )
        return (
            friendly_oom_errors
            if agreed and all(a.wnid < b.wnid for a, b in pairwise(friendly_oom_errors))
            else ()
        )

    def _agreed_wnids(self, num_classes: int) -> list[str]:
        said = [self._wnids.get(label, set()) for label in range(num_classes)]
        if any(len(wnids) != 1 or None in wnids for wnids in said):
            return []
        wnids = [wnid for (wnid,) in said]
        in_order = all(a < b for a, b in pairwise(wnids))
        agreed = all(label < num_classes and wnids[label] == w for label, w in self._held_out)
        return wnids if in_order and agreed else []


def check_held_out(images: dict, num_classes: int) -> None:
    """Refuse held-out images whose label no training image can have.

    Raises:
        SourceError: it names the first.
    """
    for split in images:
        for image in images[split]:
            if image.label >= num_classes:
                raise SourceError(
                    f"{on_one_line(image.source)}: label {image.label}, but the training "
                    f"labels end at {num_classes - 1}.\nNothing was written."
                )
