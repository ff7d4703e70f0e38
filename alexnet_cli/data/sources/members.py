"""The folders in a zip or tar, listed once and used like folders on a disk.

Nothing is unpacked: a `Member` has the methods of a `Path`, and of the entry of a folder, that the
listing of class folders uses. Names of members are never used as paths.
"""

import os
import posixpath
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from alexnet_cli.data.sources.codecs import READERS
from alexnet_cli.errors import ImageError, SourceError, on_one_line

MAX_MEMBERS = 10_000_000  # eight times those of ILSVRC 2012; each takes 0.3 kB of memory
MAX_DEPTH = 50  # folders of folders
UNPACK = "Unpack it, look at what it holds, and name the folder."
NO_PLAIN_FILE = "member that is no plain file, or larger than any image"
LINK = "symbolic link"
LEADS_OUT = "symbolic link that leads out"


@dataclass(slots=True, eq=False)
class Archive:
    """A file of members.

    Attributes:
        path: the file, for people.
        data: the file in which the members' offsets are; a copy that is still to be made, if the
            archive cannot be read at an offset.
        codec: a key of `READERS`.
        open: opens the archive to read at an offset, before `data` is there.
        root: the folder of all its members.
    """

    path: Path
    data: Path
    codec: str
    open: Callable[[], Any]
    root: "Member" = field(init=False)


class Member:
    """A folder, a file or a link in an archive, or a name that is not in it.

    Attributes:
        entries: the members of a folder, by name; None for anything else.
        offset, length: where its bytes are in the archive; -1 if it is no plain file.
        size: its number of bytes.
        target: path in the archive that a link leads to; None for anything else.
    """

    __slots__ = ("archive", "entries", "length", "name", "offset", "parent", "size", "target")

    def __init__(self, name: str, parent: "Member | None", archive: Archive | None = None):
        self.name = name
        self.parent: Member = self if parent is None else parent
        self.archive: Archive | None = archive or (parent.archive if parent else None)
        self.entries: dict[str, Member] | None = None
        self.offset, self.length, self.size = -1, 0, 0
        self.target: str | None = None

    @property
    def inside(self) -> str:
        """Its path in the archive."""
        if self.parent is self:
            return ""
        return posixpath.join(self.parent.inside, self.name)

    @property
    def path(self) -> str:
        """Its full name for people."""
        return self.name if self.parent is self else f"{self.parent.path}/{self.name}"

    @property
    def suffix(self) -> str:
        return Path(self.name).suffix

    def __str__(self) -> str:
        return self.path

    def __truediv__(self, names: "str | Path") -> "Member":
        member = self
        for name in Path(names).parts:
            found = (member.entries or {}).get(name)
            member = Member(name, member) if found is None else found
        return member

    def resolve(self) -> "Member":
        return self

    def is_dir(self) -> bool:
        return self.entries is not None

    def is_file(self) -> bool:
        return self.offset >= 0

    def is_symlink(self) -> bool:
        return self.target is not None

    def iterdir(self) -> Iterator["Member"]:
        return iter((self.entries or {}).values())

    def walk(self) -> Iterator["Member"]:
        """Yield everything below a folder."""
        for member in self.iterdir():
            yield member
            yield from member.walk()

    def stat(self) -> SimpleNamespace:
        return SimpleNamespace(st_size=self.size)

    def read_bytes(self) -> bytes:
        assert self.archive is not None
        try:
            with self.archive.open() as file:
                return READERS[self.archive.codec](file, self.offset, self.length)
        except ImageError as error:
            raise SourceError(f"{self.path}: {error.detail}.") from error

    def reason_to_ignore(self, top: str) -> str | None:
        """Return why it is not read, None if it is; `top` is the path of what is all listed."""
        if self.target is not None:
            assert self.archive is not None
            found = self.archive.root / self.target
            is_there = found.is_dir() or found.is_file()
            return LINK if is_there and f"{found.path}/".startswith(f"{top}/") else LEADS_OUT
        return None if self.is_dir() or self.is_file() else NO_PLAIN_FILE


Place = Path | Member  # of a folder or file, on a disk or in an archive


def scan(folder: Place | str) -> AbstractContextManager[Any]:
    """Return what `os.scandir` does; the entries of a folder in an archive are its members."""
    return nullcontext(folder.iterdir()) if isinstance(folder, Member) else os.scandir(folder)


class Tree:
    """Collects the members of an archive as folders."""

    def __init__(self, archive: Archive):
        self.root = archive.root = Member(str(archive.path), None, archive)
        self.root.entries = {}
        self._count = 0

    def add(self, name: str) -> Member | None:
        """Return the new member of that name, None for the archive's own root.

        A later member replaces an earlier one of its name, as it does when unpacked.

        Raises:
            SourceError: if the name leads out of the archive, or there are too many members.
        """
        parts = self._parts(name)
        if not parts:
            return None
        folder = self._folder(parts[:-1])
        assert folder.entries is not None
        known = folder.entries.get(parts[-1])
        if known is not None and known.is_dir():
            raise self._two_kinds(known)
        member = folder.entries[parts[-1]] = Member(parts[-1], folder)
        return member

    def folder_of(self, name: str) -> None:
        """Add a folder, which may be empty."""
        self._folder(self._parts(name))

    def _parts(self, name: str) -> list[str]:
        path = self.root.name
        self._count += 1
        if self._count > MAX_MEMBERS:
            raise SourceError(f"{path}: over {MAX_MEMBERS:,} members.", hint=UNPACK)
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if ".." in parts or len(parts) > MAX_DEPTH:
            what = "leads out of the archive" if ".." in parts else f"is in {len(parts):,} folders"
            raise SourceError(f"{path}: the member {on_one_line(name[:80])} {what}.", hint=UNPACK)
        return parts

    def _folder(self, parts: list[str]) -> Member:
        """Return the folder of that path, made if it is not there."""
        folder = self.root
        for part in parts:
            assert folder.entries is not None
            child = folder.entries.get(part)
            if child is None:
                child = folder.entries[part] = Member(part, folder)
                child.entries = {}
            if child.entries is None:
                raise self._two_kinds(child)
            folder = child
        return folder

    def _two_kinds(self, member: Member) -> SourceError:
        path = on_one_line(member.path)
        return SourceError(f"{path} is both a file and a folder.", hint=UNPACK)
