"""The official archives, read in place: a tar of per-class tars, a flat validation tar, the devkit.

Python's tarfile takes a damaged header for the end of an archive and says nothing, so after each
archive we look at what it stopped on: only the two zero blocks of a real end are accepted.
"""

import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from alexnet_cli.data.images import MAX_FILE_BYTES
from alexnet_cli.data.releases.release import Picture, Release
from alexnet_cli.data.synsets import DevKit, read_devkit
from alexnet_cli.errors import ReleaseError

# ILSVRC2012_img_train.tar, ILSVRC2010_images_train.tar; the 2012 dogs-only set is *_train_t3.tar.
TRAIN = re.compile(r"ILSVRC\d{4}_(img|images)_train\.tar")
VAL = re.compile(r"ILSVRC\d{4}_(img|images)_val\.tar")
# ILSVRC2012_devkit_t12.tar.gz, ILSVRC2010_devkit-1.0.tar.gz, devkit-1.0.tar.gz
DEVKIT = re.compile(r"(ILSVRC\d{4}_)?devkit[-_](t12|\d\.\d)\.(tar\.gz|tgz|tar)")
BLOCK = 512


def read_archives(folder: Path) -> Release | None:
    """List the pictures of the official archives in `folder`; None if it holds none of them.

    Raises:
        ReleaseError: an archive is missing, ends early, or contradicts the development kit.
    """
    train, val, devkit_path = (_find(folder, pattern) for pattern in (TRAIN, VAL, DEVKIT))
    if train is None and val is None:
        return None
    for path, what in (
        (train, "*_train.tar"),
        (val, "*_val.tar"),
        (devkit_path, "*devkit*.tar.gz"),
    ):
        if path is None:
            raise ReleaseError(
                f"{folder}: no {what} beside the other archives. Add it and run again."
            )
    devkit = read_devkit(devkit_path)
    ignored: dict[str, int] = {}
    pictures = {
        "train": _list_train(train, devkit, ignored),
        "val": _list_val(val, devkit, ignored),
    }
    return Release(f"official archives ({train.name})", devkit.classes, pictures, ignored)


def _find(folder: Path, pattern: re.Pattern) -> Path | None:
    found = sorted(path for path in folder.iterdir() if pattern.fullmatch(path.name))
    if len(found) > 1:
        names = " and ".join(path.name for path in found[:2])
        raise ReleaseError(f"{folder} holds {names}. Keep the archives of one year in a folder.")
    return found[0] if found else None


def _list_train(path: Path, devkit: DevKit, ignored: dict[str, int]) -> list[Picture]:
    label_of = {entry.wnid: label for label, entry in enumerate(devkit.classes)}
    pictures: list[Picture] = []
    with path.open("rb") as file:
        for class_tar in _members(path, file, 0, path.stat().st_size, ignored):
            wnid, suffix = Path(class_tar.name).stem, Path(class_tar.name).suffix
            if suffix != ".tar" or wnid not in label_of:
                raise ReleaseError(_unexpected_member(path, class_tar.name))
            end = class_tar.offset_data + class_tar.size
            for member in _members(path, file, class_tar.offset_data, end, ignored):
                pictures.append(_picture(path, f"{wnid}.tar/", member, label_of[wnid]))
    return sorted(pictures, key=lambda picture: picture.source)


def _unexpected_member(path: Path, name: str) -> str:
    if Path(name).suffix.lower() in (".jpeg", ".jpg"):
        return f"{path}: holds pictures, not one tar a class. This looks like a validation archive."
    return f"{path}: {name!r} is not the tar of a class in the development kit."


def _list_val(path: Path, devkit: DevKit, ignored: dict[str, int]) -> list[Picture]:
    with path.open("rb") as file:
        members = list(_members(path, file, 0, path.stat().st_size, ignored))
    members.sort(key=lambda member: Path(member.name).name)
    if len(members) != len(devkit.val_labels):
        raise ReleaseError(
            f"{path}: {len(members)} pictures, but the development kit labels "
            f"{len(devkit.val_labels)}.\nNothing was written. Compare the archive's size and MD5 "
            "with the download page."
        )
    return [
        _picture(path, "", member, label)
        for member, label in zip(members, devkit.val_labels, strict=True)
    ]


def _picture(path: Path, prefix: str, member: tarfile.TarInfo, label: int) -> Picture:
    return Picture(prefix + member.name, path, member.offset_data, member.size, label)


def _members(
    path: Path, file: BinaryIO, start: int, end: int, ignored: dict[str, int]
) -> Iterator[tarfile.TarInfo]:
    """Yield the regular files of the tar that lies at `start`..`end` of `file`.

    Raises:
        ReleaseError: it ends early or is damaged.
    """
    file.seek(start)
    position = start
    try:
        # Not closed: closing the TarFile must not close the file it shares.
        tar = tarfile.TarFile(fileobj=file)
        while (member := tar.next()) is not None:
            tar.members.clear()  # a class has 1,300 members, the release 1.3 million
            previous, position = position, tar.offset
            if not previous < position <= end:  # a negative size would lead back for ever
                raise ReleaseError(_ends_early(path, member.name, end))
            is_plain = member.isreg() and not member.issparse()
            if is_plain and (member.size <= MAX_FILE_BYTES or member.name.endswith(".tar")):
                yield member
            elif not member.isdir():
                ignored["tar member that is no plain file"] = (
                    ignored.get("tar member that is no plain file", 0) + 1
                )
    except (tarfile.TarError, OSError) as error:
        raise ReleaseError(f"{path}: damaged at byte {position} ({error}).") from error
    _check_end(path, file, position, end)


def _check_end(path: Path, file: BinaryIO, position: int, end: int) -> None:
    """A tar ends with two blocks of zeros; anything else is a cut or a damaged header."""
    file.seek(position)
    tail = file.read(min(2 * BLOCK, max(0, end - position)))
    if len(tail) < 2 * BLOCK or tail.strip(b"\0"):
        raise ReleaseError(_ends_early(path, f"byte {position}", end))


def _ends_early(path: Path, where: str, end: int) -> str:
    return (
        f"{path}: the archive is cut or damaged at {where} (of {end} bytes).\n"
        "Nothing was written. Download it again, or compare its MD5 with the download page."
    )
