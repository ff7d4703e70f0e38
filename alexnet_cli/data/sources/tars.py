"""The plain files of a tar, read in place."""

import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from alexnet_cli.data.images.decode import MAX_FILE_BYTES
from alexnet_cli.data.sources.listing import HIDDEN, NOTE, is_clutter, is_note
from alexnet_cli.data.sources.source import NO_PLAIN_MEMBER, SourceImage, count_ignored
from alexnet_cli.errors import SourceError
from alexnet_cli.io.tar import DamagedTarError, is_plain_file, read_members

PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"PK\3\4": "zip"}


def list_members(
    path: Path, file: BinaryIO, start: int, end: int, ignored: dict[str, int]
) -> Iterator[tarfile.TarInfo]:
    """Yield the images and inner tars of the tar at `start`..`end` of `file`."""
    file.seek(start)
    magic = file.read(8)
    packed = next((name for key, name in PACKED.items() if magic.startswith(key)), None)
    if packed:
        raise SourceError(f"{path}: a {packed} file, not a tar.", hint="Unpack it and run again.")
    try:
        for member in read_members(file, start, end):
            fits = member.size <= MAX_FILE_BYTES or member.name.endswith(".tar")
            if fits and is_plain_file(member):
                yield member
            elif not member.isdir():
                count_ignored(ignored, NO_PLAIN_MEMBER)
    except DamagedTarError as error:
        raise SourceError(
            f"{path}: {error}.",
            hint="Download it again, or compare its MD5 with the download page.",
        ) from error


def list_images(
    path: Path, file: BinaryIO, start: int, end: int, ignored: dict[str, int]
) -> Iterator[tarfile.TarInfo]:
    """Yield the images of the tar at `start`..`end` of `file`; count its other members."""
    for member in list_members(path, file, start, end, ignored):
        name = member.name.rpartition("/")[2]
        if is_clutter(name) or is_note(name):
            count_ignored(ignored, HIDDEN if is_clutter(name) else NOTE)
        else:
            yield member


def list_whole_tar(path: Path, ignored: dict[str, int]) -> list[tarfile.TarInfo]:
    """Return the images of a tar."""
    with path.open("rb") as file:
        return list(list_images(path, file, 0, path.stat().st_size, ignored))


def check_whole_tar(path: Path) -> None:
    """Raise a SourceError if a tar is cut, damaged, compressed, empty or followed by anything.

    A hole of zeros, as a broken download leaves it, reads like the end of a tar.
    """
    with path.open("rb") as file:
        num_members = sum(1 for _ in list_members(path, file, 0, path.stat().st_size, {}))
        end = file.tell()  # after the two blocks of zeros that end a tar
        while content := file.read(1 << 20):
            if content.strip(b"\0"):
                raise SourceError(f"{path}: zeros in place of a header before byte {end}.")
    if not num_members:
        raise SourceError(f"{path}: an empty archive.")


def image_of(path: Path, prefix: str, member: tarfile.TarInfo, label: int) -> SourceImage:
    """Return the image that is a member of the tar `path`; `prefix` comes before its name."""
    folder, slash, name = member.name.rpartition("/")
    parent = sys.intern(prefix + folder + slash)  # one string for all its images
    return SourceImage(name, path, member.offset_data, member.size, label, parent)


def list_class_tar(path: Path, label: int, ignored: dict[str, int]) -> list[SourceImage]:
    """List the images of a tar that holds one class."""
    members = list_whole_tar(path, ignored)
    return [image_of(path, f"{path.name}/", member, label) for member in members]
