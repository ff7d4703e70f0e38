"""Classes of sources whose labels are numbers; their wnids are taken from names of images."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from alexnet_cli.data.sources.class_list import (
    FROM_1,
    WNID,
    ClassList,
    distinct,
    in_class_order,
    label_of,
)
from alexnet_cli.data.sources.source import Source, SourceImage
from alexnet_cli.errors import SourceError, counted, on_one_line
from alexnet_cli.types import ImageClass

MAX_CLASSES = 100_000  # five times all of Fall 2011; every report has an entry for each
LEADING_WNID = re.compile(rf"({WNID})_")  # n01440764_18.JPEG
# n01440764_18_n01440764.JPEG: Hugging Face added the last part to ImageNet's own names.
TRAILING_WNID = re.compile(rf"(.+)_({WNID})(\.[^.]*)")
# Names of folders and files, in lower case; of two for one split, the first is read.
SPLIT_NAMES = {
    "train": ("train", "training", "trainval", "train_set", "training_set", "trainset"),
    "val": (
        *("val", "validation", "valid", "validate", "dev"),
        *("val_set", "validation_set", "valset"),
    ),
    "test": ("test", "testing", "eval", "test_set", "testset"),
}
SPLITS = {name: split for split, names in SPLIT_NAMES.items() for name in names}
FILLERS = ("set", "data", "image", "images", "img", "imgs", "dir", "folder", "split")
UNPACKED = re.compile(r"^ilsvrc\d{4}_(img|images)_", re.IGNORECASE)  # an official archive, unpacked
# Of an alternation of a file's name; the longest first.
SPLIT_PATTERN = "|".join(sorted(SPLITS, key=len, reverse=True))


def split_of_folder(name: str) -> str | None:
    """Return the split that a folder is named after, in whatever case; None for another name.

    Such as val, Validation, Valid Set, train_images or trainingData.
    """
    plain = "_".join(words_of(UNPACKED.sub("", name)))
    words = (word for word in words_of(plain) if word not in FILLERS)
    return SPLITS.get(plain) or SPLITS.get("_".join(words))


def words_of(name: str) -> list[str]:
    """Return the words of a folder's name in lower case, without a year at its end."""
    parts = re.split(r"[-_ ]+|(?<=[a-z])(?=[A-Z])", re.sub(r"(19|20)\d\d$", "", name))
    return [part.lower() for part in parts if part]


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
    """Collects the labels of images, and the wnids and names that the images carry.

    Attributes:
        listed: the name of each class in label order, if the source or the user has them.
    """

    def __init__(self, listed: ClassList | None = None):
        self.listed = listed
        self._wnids: dict[int, set[str | None]] = {}  # by label, of training images
        self._held_out: dict[tuple[int, str | None], str] = {}  # where it is first
        self._said: set[tuple[int, str]] = set()  # what was compared with the list
        self._beyond: dict[int, str] = {}  # labels that the list does not have, and where
        self._texts: dict[str, int] = {}  # labels that are texts, in the order they came

    def add(
        self,
        split: str,
        label: int | str,
        wnid: str | None,
        where: str,
        said: Iterable[tuple[str, str]] = (),
    ) -> int:
        """Add an image's label and the names of its class that it carries.

        Args:
            where: names the image.
            said: other names of its class, each after what says it.

        Returns:
            The label; of a text one that `number_texts` replaces.

        Raises:
            SourceError: if no class can have this label, or the list calls it by another name.
        """
        seen = self._texts or self._wnids or self._held_out
        if seen and isinstance(label, str) != bool(self._texts):
            raise SourceError(
                f"{where}: label {label!r}, but the labels before it are "
                f"{'texts' if self._texts else 'numbers'}.",
                hint="Write all labels as numbers from 0, or all as names of classes.",
            )
        if isinstance(label, str):
            return self._texts.setdefault(label, len(self._texts))
        if label >= MAX_CLASSES:
            raise SourceError(f"{where}: label {label}, but no source has that many classes.")
        if label < 0:
            raise SourceError(
                f"{where}: label {label}, but labels begin at 0.", kept="Nothing was written."
            )
        if split == "train":
            self._wnids.setdefault(label, set()).add(wnid)
        else:
            self._held_out.setdefault((label, wnid), where)
        if self.listed is not None and label >= len(self.listed.names):
            self._beyond.setdefault(label, where)
        for says, text in said:
            self.compare(label, says, text, where)
        return label

    def compare(self, label: int, says: str, text: str, where: str) -> None:
        """Raise a SourceError if the list calls a label by another name than an image does.

        Args:
            says: what of the image has the text.
        """
        if (
            text
            and self.listed
            and label < len(self.listed.names)
            and (label, text) not in self._said
        ):
            self._said.add((label, text))
            self.listed.check(label, says, text, where)

    @property
    def has_texts(self) -> bool:
        """Whether labels are names of classes instead of numbers."""
        return bool(self._texts)

    def classes(self) -> tuple[ImageClass, ...]:
        """Return the classes, by wnid if names or images agree on them, else by number.

        They are those of the training images, of the others if there are none. Wnids count if every
        label has one of its own, and beside a list of names if sorting them produces the labels;
        otherwise a label is its own name.

        Raises:
            SourceError: if a label has no name in the list, or held-out images have other labels
                than training images of the same wnid.
        """
        self._check_labels()
        if not self._wnids:
            for label, wnid in self._held_out:
                self._wnids.setdefault(label, set()).add(wnid)
        names = self.listed.names if self.listed else ()
        named = self.listed.classes() if self.listed else ()
        if named and self._agree([c.wnid for c in named]):
            return named
        num_classes = len(names) or max(self._wnids, default=-1) + 1
        carried = [self._wnids.get(label, {None}) for label in range(num_classes)]
        wnids = [next(iter(found)) or "" for found in carried]
        in_another_order = not names and self._has_one_each()
        if None in set().union(*carried) or not (self._agree(wnids) or in_another_order):
            digits = len(str(max(num_classes - 1, 0)))
            wnids = [f"{label:0{digits}d}" for label in range(num_classes)]
        return tuple(ImageClass(w, name) for w, name in zip(wnids, names or wnids, strict=True))

    def number_texts(
        self, images: dict[str, list[SourceImage]], origin: object
    ) -> tuple[ImageClass, ...]:
        """Replace the labels of images that stand for texts; return the classes.

        Those are the texts in order, of training images if there are any, or the list.

        Args:
            origin: the files, for people.
        """
        texts = list(self._texts)
        known = {texts[image.label] for image in images["train"]} or set(texts)
        wnids = (
            self.listed.folders(distinct(texts)) if self.listed else in_class_order(distinct(known))
        )
        numbers = [label_of(text, wnids, origin) for text in texts]
        for split, listed in images.items():
            images[split] = [replace(image, label=numbers[image.label]) for image in listed]
        if self.listed:
            return self.listed.named(wnids)
        return tuple(ImageClass(wnid, wnid) for wnid in wnids)

    def seems_to_count_from_1(self) -> bool:
        """Return whether all labels from 1 to the last were seen, and 0 was not."""
        seen = {*self._wnids, *(label for label, _ in self._held_out)}
        return bool(seen) and seen == set(range(1, max(seen) + 1))

    def _check_labels(self) -> None:
        if self._beyond:
            label, where = next(iter(self._beyond.items()))
            assert self.listed is not None
            num = len(self.listed.names)
            seen = {*self._wnids, *(label for label, _ in self._held_out)}
            raise SourceError(
                f"{where}: label {label}, but the {counted(num, 'class ends', 'classes end')} "
                f"at {num - 1} in "
                f"{self.listed.origin}.",
                kept="Nothing was written.",
                hint=FROM_1
                if 0 not in seen and max(seen) == num
                else "Name a list of all classes, one per line; the first is that of label 0.",
            )
        label_of = {wnid: label for label, found in self._wnids.items() for wnid in found if wnid}
        for (label, wnid), where in self._held_out.items():
            if wnid in label_of and wnid not in self._wnids.get(label, ()):
                raise SourceError(
                    f"{where}: {wnid} has label {label}, but label {label_of[wnid]} in the "
                    "training images.",
                    kept="Nothing was written.",
                    hint="Number the classes of all splits alike, and run again.",
                )

    def _has_one_each(self) -> bool:
        """Return whether the images of each label carry one wnid, which no other label has."""
        pairs = {(label, wnid) for label, found in self._wnids.items() for wnid in found}
        pairs |= {(label, wnid) for label, wnid in self._held_out if wnid}
        wnids = {wnid for _, wnid in pairs if wnid and re.fullmatch(WNID, wnid)}
        return len(pairs) == len(self._wnids) == len(wnids)

    def _agree(self, wnids: list[str]) -> bool:
        """Return whether wnids are sorted, and those that the images of each label carry."""
        carried = {(label, wnid) for label, found in self._wnids.items() for wnid in found if wnid}
        in_order = all(a < b for a, b in pairwise(wnids))
        return in_order and all(
            label < len(wnids) and wnids[label] == wnid
            for label, wnid in (*carried, *self._held_out)
            if wnid
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
    files = list(files)
    images: dict[str, list[SourceImage]] = {"train": [], "val": []}
    ignored: dict[str, dict[str, int]] = defaultdict(dict)
    for split, path in files:
        listed = list_images(split, path, ignored[split])
        if listed or split in images:
            images.setdefault(split, []).extend(listed)
    if labels.has_texts:
        classes = labels.number_texts(images, layout)
    else:
        classes = labels.classes()
        check_held_out(images, len(classes))
    return Source(layout, classes, images, ignored, files=tuple(path for _, path in files))


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
