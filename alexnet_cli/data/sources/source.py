"""What every layout is turned into: classes, and where each image is stored."""

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

import numpy as np

from alexnet_cli.data.images.decode import read_file
from alexnet_cli.data.sources.class_list import FROM_1, ClassList
from alexnet_cli.data.sources.codecs import READERS
from alexnet_cli.data.sources.staging import StagedFile
from alexnet_cli.errors import ImageError, SourceError, UsageError, hint, some_names
from alexnet_cli.io.disk import is_ours
from alexnet_cli.types import ImageClass

BY_LABEL = attrgetter("label", "name")
BY_NAME = attrgetter("name", "label")
UNLABELED = -1  # the label of an image until it is known
NO_PLAIN_MEMBER = "tar member that is no plain file"
NO_TEST_LABEL = "test image without a label"


@dataclass(frozen=True, slots=True)
class SourceImage:
    """Where one image is stored; a source has a million of these."""

    name: str  # the same in every layout: path inside its class folder, or base name in an archive
    path: Path  # of the image itself, an archive, or a staged file
    offset: int  # in bytes; a staged file's row number; -1 if the file is the image
    length: int  # in bytes when it was listed; of a staged row, of the file it comes from
    label: int  # 0-based position in the source's classes
    parent: str = ""  # what precedes the name in this source; one string for many images
    codec: str = ""  # a key of `READERS`

    @property
    def source(self) -> str:
        """Its full name for people, relative to the source."""
        return self.parent + self.name

    def read(self) -> bytes:
        """Return the image file's bytes, or raise an ImageError."""
        if self.offset < 0:
            return read_file(self.path)
        try:
            with self.path.open("rb") as file:
                return READERS[self.codec](file, self.offset, self.length)
        except OSError as error:
            if is_ours(error):
                raise
            raise ImageError("unreadable", error.strerror or str(error)) from error


@dataclass(frozen=True, slots=True)
class Source:
    """A set of labeled images, listed but not yet read.

    The order of the images does not depend on the layout: training images are sorted by label and
    name, the others by name and label. The same images make the same shards however they are
    packed.
    """

    layout: str  # a description for people
    classes: tuple[ImageClass, ...]  # in label order: sorted wnids or folder names
    images: dict[str, list[SourceImage]]  # by split: "train", "val" and maybe "test"
    ignored_by_split: dict[str, dict[str, int]]  # number of entries that are not read, by reason
    staged: tuple[StagedFile, ...] = ()  # files to be made before any image is read
    notes: tuple[str, ...] = ()  # lines for people: what was taken for what, and what is not read
    files: tuple[Path, ...] = ()  # files and folders that were looked into, if others may be beside

    def __post_init__(self) -> None:
        for split, listed in self.images.items():
            listed.sort(key=BY_LABEL if split == "train" else BY_NAME)

    @property
    def ignored(self) -> dict[str, int]:
        """Number of entries that are not read (hidden files, links, notes), by reason."""
        return dict(sum(map(Counter, self.ignored_by_split.values()), Counter()))

    def fingerprint(self) -> str:
        """Return 16 hex digits that change with any class, or any image's name, size or label."""
        digest = hashlib.sha256()
        for entry in self.classes:
            digest.update(f"{entry.wnid}\t{entry.name}\n".encode(errors="surrogateescape"))
        for split in self.images:
            for image in self.images[split]:
                line = f"{split}\t{image.name}\t{image.length}\t{image.label}\n"
                digest.update(line.encode(errors="surrogateescape"))
        return digest.hexdigest()[:16]

    def empty_classes(self) -> list[str]:
        """Return the wnids of the classes without a training image.

        Of held-out images alone, of the classes without any of those.
        """
        counted = [self.images["train"]] if self.images["train"] else self.images.values()
        filled = {image.label for images in counted for image in images}
        return [c.wnid for label, c in enumerate(self.classes) if label not in filled]

    def check_classes(self) -> None:
        """Raise a SourceError that names the empty classes, if there are any."""
        if empty := self.empty_classes():
            first = self.classes[0].wnid
            from_1 = len(self.classes) > 1 and empty == [first] and not first.strip("0")
            raise SourceError(
                f"{len(empty)} of {len(self.classes)} classes have no training image: "
                f"{some_names(empty)}.",
                kept="Nothing was written.",
                hint=FROM_1 if from_1 else hint("empty_classes"),
            )


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """How to list the images of a source."""

    staging: Path  # folder for copies of images that cannot be read in place
    layout: str | None = None  # a key of `LAYOUTS`; None to recognize it
    val_fraction: float = 0.0  # of each class for validation, where the layout has no splits
    seed: int = 0  # of the draw of those images
    check_md5: bool = False  # compare the official archives with their published MD5 first
    labels: Path | None = None  # file of image names and classes, for images in no class folders
    follow_links: bool = False  # follow links that lead out of the folders of images
    classes: ClassList | None = None  # the names of the classes in label order, from the user
    columns: str | None = None  # of parquet files: "image=NAME,label=NAME"


@dataclass(frozen=True, slots=True)
class Layout:
    """A way to lay out a set of images."""

    name: str  # as users type it
    needs: str  # what must be there, for people
    read: Callable[..., Source | None]  # the source in a folder or file; None: another layout
    options: tuple[str, ...] = ()  # the fields of `SourceOptions` that `read` takes as keywords


def count_ignored(ignored: dict[str, int], reason: str, count: int = 1) -> None:
    """Count entries that are not images."""
    if count:
        ignored[reason] = ignored.get(reason, 0) + count


def file_stamp(path: Path) -> tuple[int, int]:
    """Return size and modification time, which change with a file's content."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def split_off_val(
    images: list[SourceImage], fraction: float, seed: int
) -> dict[str, list[SourceImage]]:
    """Move the same share of each class to "val", drawn by the seed; one image stays in "train"."""
    if not 0 <= fraction < 1:
        raise UsageError(f"a share of {fraction} for validation.", hint=hint("val_fraction"))
    split: dict[str, list[SourceImage]] = {"train": [], "val": []}
    by_label: dict[int, list[SourceImage]] = {}
    for image in sorted(images, key=BY_LABEL):
        by_label.setdefault(image.label, []).append(image)
    rng = np.random.default_rng([seed, 0x7A1])
    for group in by_label.values():
        order = rng.permutation(len(group))
        num_val = min(round(fraction * len(group)), len(group) - 1)
        chosen = set(order[:num_val].tolist())
        for position, image in enumerate(group):
            split["val" if position in chosen else "train"].append(image)
    return split
