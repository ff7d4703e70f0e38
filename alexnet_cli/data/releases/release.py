"""What every layout is turned into: classes, and where each picture's bytes lie."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from alexnet_cli.data.images import read_file
from alexnet_cli.data.synsets import ImageClass
from alexnet_cli.errors import ImageError, ReleaseError


@dataclass(frozen=True, slots=True)
class Picture:
    """Where one picture's bytes lie.

    Attributes:
        source: its name for people, relative to the release.
        path: the file that holds it: the picture itself, or an archive.
        offset: byte offset inside the archive; -1 when the file is the picture.
        length: bytes; of a plain file, its size when it was listed.
        label: 0-based position in the release's classes.
    """

    source: str
    path: Path
    offset: int
    length: int
    label: int

    def read(self) -> bytes:
        """Return the picture file's bytes.

        Raises:
            ImageError: `unreadable` or `truncated`.
        """
        if self.offset < 0:
            return read_file(self.path)
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                content = file.read(self.length)
        except OSError as error:
            raise ImageError("unreadable", error.strerror or str(error)) from error
        if len(content) < self.length:
            raise ImageError(
                "truncated", f"the archive ends {self.length - len(content)} bytes early"
            )
        return content


@dataclass(frozen=True, slots=True)
class Release:
    """A set of labelled pictures, listed but not yet read.

    Attributes:
        layout: how it was laid out, for people.
        classes: in label order (sorted wnids or folder names).
        pictures: by split, "train", "val" and maybe "test", each in a fixed order.
        ignored: entries that are not pictures at all (hidden files, links, notes), by reason.
    """

    layout: str
    classes: tuple[ImageClass, ...]
    pictures: dict[str, list[Picture]]
    ignored: dict[str, int]

    def fingerprint(self) -> str:
        """Return 16 hex digits that change with any class, or any picture's name, size or label."""
        digest = hashlib.sha256()
        for entry in self.classes:
            digest.update(f"{entry.wnid}\t{entry.name}\n".encode(errors="surrogateescape"))
        for split in self.pictures:
            for picture in self.pictures[split]:
                line = f"{split}\t{picture.source}\t{picture.length}\t{picture.label}\n"
                digest.update(line.encode(errors="surrogateescape"))
        return digest.hexdigest()[:16]

    def check_classes(self) -> None:
        """Raise a ReleaseError that names the classes without a training picture."""
        filled = {picture.label for picture in self.pictures["train"]}
        empty = [c.wnid for label, c in enumerate(self.classes) if label not in filled]
        if empty:
            shown = ", ".join(empty[:5]) + (", ..." if len(empty) > 5 else "")
            raise ReleaseError(
                f"{len(empty)} of {len(self.classes)} classes have no training picture: {shown}.\n"
                "Nothing was written. Add pictures or remove those folders, then run prep again."
            )
