"""A zip, tar or packed tar of class folders; or one for each split, such as train.zip and val.zip.

A zip and a tar are read in place; a packed tar, which can be read from its start only, by way of an
unpacked copy.
"""

import posixpath
import re
import stat
import sys
import tarfile
import zipfile
import zlib
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from alexnet_cli.data.images.decode import MAX_FILE_BYTES
from alexnet_cli.data.sources.archives import TEST, TRAIN, VAL
from alexnet_cli.data.sources.class_list import ClassList
from alexnet_cli.data.sources.codecs import ZIP_DEFLATED, ZIP_STORED
from alexnet_cli.data.sources.folders import read_folders
from alexnet_cli.data.sources.labels import split_of_folder
from alexnet_cli.data.sources.listing import content, folder_names
from alexnet_cli.data.sources.members import UNPACK, Archive, Member, Tree
from alexnet_cli.data.sources.source import Layout, Source, file_stamp
from alexnet_cli.data.sources.staging import StagedFile
from alexnet_cli.errors import SourceError, on_one_line
from alexnet_cli.io.disk import check_room, free_bytes
from alexnet_cli.io.tar import FAULTS, OPENERS, PIECE, DamagedTarError, is_plain_file, read_members

ZIP_MAGIC = b"PK\3\4", b"PK\5\6"  # of an empty one, too
TAR_MAGIC = b"ustar"  # at byte 257
OTHERS = {b"7z\xbc\xaf'\x1c": "7z", b"Rar!": "rar", b"\x28\xb5\x2f\xfd": "zstd"}
SUFFIX = re.compile(r"\.(zip|tar|tgz|tbz2?|txz|tar\.(gz|bz2|xz))$", re.IGNORECASE)
OFFICIAL = (TRAIN, VAL, TEST)
ENCRYPTED = 1  # a flag of a zip member
MS_DOS = 0  # the system of a zip member whose name may have backslashes
MAX_LINK_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Listed:
    """The members of an archive, and the copy to make before they can be read."""

    root: Member
    staged: tuple[StagedFile, ...] = ()


def read_packed(
    source: Path,
    *,
    staging: Path,
    val_fraction: float,
    seed: int,
    labels: Path | None = None,
    classes: ClassList | None = None,
) -> Source | None:
    """List the images of class folders in an archive; None if `source` neither is nor holds one.

    `source` may go on within an archive: food-101.tar.gz/food-101/images.
    """
    archive = archive_of(source)
    if archive is not None:
        listed = [list_archive(archive, staging)]
        root = listed[0].root / source.relative_to(archive)
        kind = f"in {archive.name}"
    else:
        by_split = _archives_of_splits(source)
        if by_split and _is_unpacked(source, by_split):
            return None
        listed = [list_archive(path, staging) for path in by_split.values()]
        root = _joined(source, dict(zip(by_split, listed, strict=True)))
        kind = f"in {', '.join(path.name for path in by_split.values())}"
    if not listed:
        return None
    if not root.is_dir():
        raise SourceError(
            f"{on_one_line(str(source))}: there is no such folder in {archive}.",
            hint=f"The archive holds {content(listed[0].root)}.",
        )
    found = read_folders(root, val_fraction=val_fraction, seed=seed, labels=labels, classes=classes)
    if found is None:
        raise SourceError(
            f"{on_one_line(str(source))}: no class folders; it holds {content(root)}.",
            hint=_advice(archive, root),
        )
    staged = tuple(file for entry in listed for file in entry.staged)
    files = tuple(by_split.values()) if archive is None else ()
    return replace(found, layout=f"{found.layout} {kind}", staged=staged, files=files)


def _is_unpacked(source: Path, by_split: dict[str, Path]) -> bool:
    """Return whether the splits of all archives are in folders beside them, too."""
    beside = {split: name for name in folder_names(source) if (split := split_of_folder(name))}
    packed = {split_of_folder(name): path for name, path in by_split.items()}
    lost = [path.name for split, path in packed.items() if split not in beside]
    if beside and lost:
        raise SourceError(
            f"{source}: {lost[0]} is an archive, but {next(iter(beside.values()))} a folder.",
            hint=f"Unpack {lost[0]} into a folder beside it.",
        )
    return bool(beside)


def _advice(archive: Path | None, root: Member) -> str:
    """Return what to do about an archive without class folders, by what is in it."""
    names = [member.name.lower() for member in root.walk()]
    if archive and any(kind.fullmatch(archive.name) for kind in OFFICIAL):
        return f"Name the folder of the archives: {archive.parent}"
    if any(name.endswith(".tar") for name in names):
        return "Unpack it: prep reads a folder of tars, one for each class."
    if archive and any(name.endswith((".cls", ".json")) for name in names):
        how = "" if archive.suffix.lower() == ".tar" else f"Unpack the samples: gunzip {archive}. "
        return f"{how}Name the folder of the tars of samples: {archive.parent}"
    return (
        "A class is a folder of images. Unpack it and sort the images into classes; to classify "
        "them: alexnet predict FOLDER"
    )


def archive_of(source: Path) -> Path | None:
    """Return the archive that a path names, or goes on within; None if it does neither."""
    for path in (source, *source.parents):
        if path.exists():
            is_one = path.is_file() and (SUFFIX.search(path.name) or _magic(path))
            return path if is_one else None
    return None


def is_read_in_place(archive: Path) -> bool:
    """Return whether the members of an archive can be read without what is before them."""
    return _magic(archive) != "packed tar"


def _magic(path: Path) -> str | None:
    """Return what kind of archive a file is, by its first bytes."""
    with path.open("rb") as file:
        start = file.read(512)
    if start.startswith(ZIP_MAGIC):
        return "zip"
    if any(map(start.startswith, OPENERS)):
        return "packed tar"
    if start[257:].startswith(TAR_MAGIC) or path.suffix.lower() == ".tar":  # of before 1988, too
        return "tar"
    other = next((name for magic, name in OTHERS.items() if start.startswith(magic)), None)
    if other:
        raise SourceError(f"{path}: a {other} file, which is not read.", hint=UNPACK)
    return None


def _archives_of_splits(folder: Path) -> dict[str, Path]:
    """Return the archives in a folder that are named after a split, by that name."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        name = SUFFIX.sub("", path.name)
        if name != path.name and split_of_folder(name) and path.is_file() and _magic(path):
            if name in found:
                raise SourceError(
                    f"{folder} holds {found[name].name} and {path.name}.", hint="Keep one of them."
                )
            found[name] = path
    return found


def _joined(folder: Path, by_split: dict[str, Listed]) -> Member:
    """Return a folder of the splits' folders, each without those around it alone."""
    root = Member(str(folder), None)
    root.entries = {}
    for name, listed in by_split.items():
        top = listed.root
        while (names := folder_names(top)) and len(names) == 1:
            if split_of_folder(names[0]) is None and not folder_names(top / names[0]):
                break  # the only class
            top = top / names[0]
        top.name, top.parent = name, root
        root.entries[name] = top
    return root


def list_archive(path: Path, staging: Path) -> Listed:
    """List the members of an archive.

    Raises:
        SourceError: if it is damaged, encrypted, or packed in a way that is not read.
        MachineError: if the disk has no room for an unpacked copy.
    """
    kind = _magic(path)
    if kind == "zip":
        return Listed(_list_zip(path))
    size, modified = file_stamp(path)
    if kind is None:
        raise SourceError(
            f"{path}: cut or damaged, or neither a zip nor a tar; it has {size:,} bytes.",
            hint="Download or copy it again.",
        )
    copy = staging / f"{path.name}-{size}-{modified}.tar"
    try:
        if kind == "tar":
            return Listed(_list_tar(Archive(path, path, "", partial(path.open, "rb")), None)[0])
        if copy.exists():  # of a prep that was stopped
            archive = Archive(path, copy, "", partial(copy.open, "rb"))
            root, num_bytes = _list_tar(archive, None)
        else:
            archive = Archive(path, copy, "", partial(_open_packed, path))
            root, num_bytes = _list_tar(archive, staging)
    except DamagedTarError as error:
        raise SourceError(f"{path}: {error}.", hint="Download or copy it again.") from error
    return Listed(root, (StagedFile(copy, num_bytes, partial(_unpack, path)),))


def _open_packed(path: Path) -> Any:
    with path.open("rb") as file:
        magic = file.read(8)
    return next(opener for start, opener in OPENERS.items() if magic.startswith(start))(path)


def _unpack(path: Path, output: BinaryIO) -> None:
    with _open_packed(path) as file:
        while content := file.read(PIECE):
            output.write(content)


def _list_tar(archive: Archive, staging: Path | None) -> tuple[Member, int]:
    """Return the members of a tar, and its size unpacked.

    Args:
        staging: folder on whose disk the tar must have room; None if it is on a disk already.
    """
    tree = Tree(archive)
    limit = _check_fits(staging, 0) if staging else sys.maxsize
    with archive.open() as file:
        for header in read_members(file, end=sys.maxsize):
            if (end := header.offset_data + header.size) > limit:
                limit = _check_fits(staging, end)
            _add(tree, header)
        size = file.tell()
        try:
            while content := file.read(PIECE):  # to the checksum
                size += len(content)
                if size > limit:
                    limit = _check_fits(staging, size)
                if content.strip(b"\0"):
                    raise DamagedTarError(f"zeros in place of a header before byte {size:,}")
        except FAULTS as error:
            raise DamagedTarError(f"cut or damaged ({error})") from error
    return tree.root, size


def _check_fits(staging: Path | None, needed: int) -> int:
    """Return the free bytes of the disk of the copies; raise a MachineError if they are less."""
    assert staging is not None
    disk = next(path for path in (staging, *staging.absolute().parents) if path.is_dir())
    advice = "Make room, name a folder on another disk, or unpack it and name that folder."
    check_room(disk, needed, "the unpacked copy of the images needs over", advice)
    return free_bytes(disk)


def _add(tree: Tree, header: tarfile.TarInfo) -> None:
    if header.isdir():
        tree.folder_of(header.name)
        return
    member = tree.add(header.name)
    if member is None:
        return
    if header.islnk():  # another name of a file that is there
        original = tree.root / header.linkname
        member.offset, member.length, member.size = original.offset, original.length, original.size
        member.target = None if original.is_file() else header.linkname
    elif header.issym():
        member.target = posixpath.normpath(posixpath.join(member.parent.inside, header.linkname))
    elif is_plain_file(header) and header.size <= MAX_FILE_BYTES:
        member.offset, member.length, member.size = header.offset_data, header.size, header.size


def _list_zip(path: Path) -> Member:
    tree = Tree(Archive(path, path, "zip", partial(path.open, "rb")))
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                name = info.filename
                if info.create_system == MS_DOS:
                    name = name.replace("\\", "/")
                if name.endswith("/"):
                    tree.folder_of(name)
                    continue
                if info.flag_bits & ENCRYPTED:
                    raise SourceError(
                        f"{path}: {on_one_line(name[:80])} is encrypted.",
                        hint="Unpack it with its password, and name the folder.",
                    )
                if info.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
                    raise SourceError(
                        f"{path}: {on_one_line(name[:80])} is packed by method "
                        f"{info.compress_type}, which is not read.",
                        hint="Unpack it and name the folder.",
                    )
                member = tree.add(name)
                if member is None:
                    continue
                mode = info.external_attr >> 16
                if stat.S_ISLNK(mode) and info.file_size <= MAX_LINK_BYTES:
                    link = archive.read(info).decode(errors="surrogateescape")
                    member.target = posixpath.normpath(posixpath.join(member.parent.inside, link))
                elif stat.S_IFMT(mode) in (0, stat.S_IFREG) and info.file_size <= MAX_FILE_BYTES:
                    member.offset, member.length = info.header_offset, info.compress_size
                    member.size = info.file_size
    except (
        zipfile.BadZipFile,
        OSError,
        EOFError,
        NotImplementedError,
        RuntimeError,
        zlib.error,
    ) as error:
        raise SourceError(
            f"{path}: cut or damaged ({error}).", hint="Download or copy it again."
        ) from error
    return tree.root


LAYOUT = Layout(
    "packed",
    "a zip, tar or tar.gz of train/CLASS and val/CLASS, or of CLASS folders",
    read_packed,
    ("staging", "val_fraction", "seed", "labels", "classes"),
)
