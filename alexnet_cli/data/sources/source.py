"""What every layout is turned into: classes, and where each picture's bytes lie."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alexnet_cli.data.images.decode import read_file
from alexnet_cli.data.sources.codecs import READERS
from alexnet_cli.data.sources.devkit import ImageClass
from alexnet_cli.data.sources.staging import SpoolFile
from alexnet_cli.errors import ImageError, ReleaseError, UsageError, some_names
from alexnet_cli.io.disk import is_ours


@dataclass(frozen=True, slots=True)
class Picture:
    """Where one picture's bytes lie; a release has a million of these.

    Attributes:
        name: its own file name, the same in every layout: the path inside its class folder, or
            the base name in an archive.
        path: the file that holds it: the picture itself, an archive, or a copy in the spool.
        offset: byte offset inside the archive (of a spooled row, its number); -1 when the file
            is the picture.
        length: bytes in that file; of a plain file, its size when it was listed; of a spooled
            row, the size of the file that the row comes from.
        label: 0-based position in the release's classes.
        parent: what comes before the name in this release; one string for many pictures.
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
        """Return the picture file's bytes.

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
class Release:
    """A set of labelled pictures, listed but not yet read.

    The pictures are put in an order that no layout has a say in: training by label and name,
    the others by name and label. The same set gives the same shards, however it was packed.

    Attributes:
        layout: how it was laid out, for people.
        classes: in label order (sorted wnids or folder names).
        pictures: by split, "train", "val" and maybe "test".
        ignored: entries that are not pictures at all (hidden files, links, notes), by reason.
        spool: files to be made before any picture is read.
    """

    layout: str
    classes: tuple[ImageClass, ...]
    pictures: dict[str, list[Picture]]
    ignored: dict[str, int]
    spool: tuple[SpoolFile, ...] = ()

    def __post_init__(self):
        for split, listed in self.pictures.items():
            listed.sort(key=_label_and_name if split == "train" else _name_and_label)

    def fingerprint(self) -> str:
        """Return 16 hex digits that change with any class, or any picture's name, size or label."""
        digest = hashlib.sha256()
        for entry in self.classes:
            digest.update(f"{entry.wnid}\t{entry.name}\n".encode(errors="surrogateescape"))
        for split in self.pictures:
            for picture in self.pictures[split]:
                line = f"{split}\t{picture.name}\t{picture.length}\t{picture.label}\n"
                digest.update(line.encode(errors="surrogateescape"))
        return digest.hexdigest()[:16]

    def check_classes(self) -> None:
        """Raise a ReleaseError that names the classes without a training picture."""
        filled = {picture.label for picture in self.pictures["train"]}
        empty = [c.wnid for label, c in enumerate(self.classes) if label not in filled]
        if empty:
            shown = some_names(empty)
            raise ReleaseError(
                f"{len(empty)} of {len(self.classes)} classes have no training picture: {shown}.\n"
                "Nothing was written. Add pictures or remove those folders, then run prep again."
            )


def _label_and_name(picture: Picture) -> tuple[int, str]:
    return picture.label, picture.name


def _name_and_label(picture: Picture) -> tuple[str, int]:
    return picture.name, picture.label


def count_ignored(ignored: dict[str, int], reason: str, count: int = 1) -> None:
    """Count entries that are no pictures."""
    if count:
        ignored[reason] = ignored.get(reason, 0) + count


def split_off_val(pictures: list[Picture], fraction: float, seed: int) -> dict[str, list[Picture]]:
    """Move the same share of each class to val, drawn by the seed; one stays in train.

    Raises:
        UsageError: the fraction is not in 0..1, below 1.
    """
    if not 0 <= fraction < 1:
        raise UsageError(f"--val-fraction {fraction}: it must lie in 0..1, below 1.")
    split: dict[str, list[Picture]] = {"train": [], "val": []}
    by_label: dict[int, list[Picture]] = {}
    for picture in sorted(pictures, key=_label_and_name):
        by_label.setdefault(picture.label, []).append(picture)
    rng = np.random.default_rng([seed, 0x7A1])
    for group in by_label.values():
        order = rng.permutation(len(group))
        num_val = min(round(fraction * len(group)), len(group) - 1)
        chosen = set(order[:num_val].tolist())
        for position, picture in enumerate(group):
            split["val" if position in chosen else "train"].append(picture)
    return split
