"""What every layout is turned into: classes, and where each image's bytes lie."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alexnet_cli.data.images.decode import read_file
from alexnet_cli.data.sources.codecs import READERS
from alexnet_cli.data.sources.devkit import ImageClass
from alexnet_cli.data.sources.staging import StagedFile
from alexnet_cli.errors import ImageError, SourceError, UsageError, some_names
from alexnet_cli.io.disk import is_ours


@dataclass(frozen=True, slots=True)
class SourceImage:
    """Where one image's bytes lie; a release has a million of these.

    Attributes:
        name: its own file name, the same in every layout: the path inside its class folder, or
            the base name in an archive.
        path: the file that holds it: the image itself, an archive, or a copy in the spool.
        offset: byte offset inside the archive (of a spooled row, its number); -1 when the file
            is the image.
        length: bytes in that file; of a plain file, its size when it was listed; of a spooled
            row, the size of the file that the row comes from.
        label: 0-based position in the release's classes.
        parent: what comes before the name in this release; one string for many images.
        codec: how the bytes are packed there, one of `READERS`.
    """

    name: str
    path: Path
    offset: int
    length: int
    label: int
    parent: str = ""
    codec: str = ""

    @property
    def source(self) -> str:
        """Its full name for people, relative to the release."""
        return self.parent + self.name

    def read(self) -> bytes:
        """Return the image file's bytes.

        Raises:
            ImageError: `unreadable`, `truncated` or `corrupt`.
        """
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

    The images are put in an order that no layout has a say in: training by label and name,
    the others by name and label. The same set gives the same shards, however it was packed.

    Attributes:
        layout: how it was laid out, for people.
        classes: in label order (sorted wnids or folder names).
        images: by split, "train", "val" and maybe "test".
        ignored: entries that are not images at all (hidden files, links, notes), by reason.
        spool: files to be made before any image is read.
    """

    layout: str
    classes: tuple[ImageClass, ...]
    images: dict[str, list[SourceImage]]
    ignored: dict[str, int]
    spool: tuple[StagedFile, ...] = ()

    def __post_init__(self):
        for split, listed in self.images.items():
            listed.sort(key=_label_and_name if split == "train" else _name_and_label)

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

    def check_classes(self) -> None:
        """Raise a SourceError that names the classes without a training image."""
        filled = {image.label for image in self.images["train"]}
        empty = [c.wnid for label, c in enumerate(self.classes) if label not in filled]
        if empty:
            shown = some_names(empty)
            raise SourceError(
                f"{len(empty)} of {len(self.classes)} classes have no training image: {shown}.\n"
                "Nothing was written. Add images or remove those folders, then run prep again."
            )


def _label_and_name(image: SourceImage) -> tuple[int, str]:
    return image.label, image.name


def _name_and_label(image: SourceImage) -> tuple[str, int]:
    return image.name, image.label


def count_ignored(ignored: dict[str, int], reason: str, count: int = 1) -> None:
    """Count entries that are no images."""
    if count:
        ignored[reason] = ignored.get(reason, 0) + count


def split_off_val(
    images: list[SourceImage], fraction: float, seed: int
) -> dict[str, list[SourceImage]]:
    """Move the same share of each class to val, drawn by the seed; one stays in train.

    Raises:
        UsageError: the fraction is not in 0..1, below 1.
    """
    if not 0 <= fraction < 1:
        raise UsageError(f"--val-fraction {fraction}: it must lie in 0..1, below 1.")
    split: dict[str, list[SourceImage]] = {"train": [], "val": []}
    by_label: dict[int, list[SourceImage]] = {}
    for image in sorted(images, key=_label_and_name):
        by_label.setdefault(image.label, []).append(image)
    rng = np.random.default_rng([seed, 0x7A1])
    for group in by_label.values():
        order = rng.permutation(len(group))
        num_val = min(round(fraction * len(group)), len(group) - 1)
        chosen = set(order[:num_val].tolist())
        for position, image in enumerate(group):
            split["val" if position in chosen else "train"].append(image)
    return split
