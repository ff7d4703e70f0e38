"""Which files and folders a folder holds, on a disk or in an archive, and which are passed over."""

import os
from collections import Counter
from contextlib import suppress
from pathlib import Path

from alexnet_cli.data.shards.index import INDEX_COPY
from alexnet_cli.data.shards.writer import RECORDS
from alexnet_cli.data.sources.class_list import composed, shown
from alexnet_cli.data.sources.members import LEADS_OUT, LINK, Member, Place, scan
from alexnet_cli.data.sources.source import UNLABELED, SourceImage, count_ignored
from alexnet_cli.errors import SourceError, hint
from alexnet_cli.io.folder_lock import LOCK_NAME

# Left by file managers, notebooks and disks, in lower case; never a class, never an image.
CLUTTER = (
    "__macosx",
    "thumbs.db",
    "desktop.ini",
    "@eadir",
    "$recycle.bin",
    "system volume information",
    "lost+found",
)
IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".avif", ".heic", ".heif"),
)
# What a dataset of prep has, finished or not, and what a run has.
OWN_MARKS = (INDEX_COPY, RECORDS, LOCK_NAME, "last.safetensors")
# Of texts beside images: captions, boxes, metadata. Every other file is taken for an image.
NOTE_SUFFIXES = (
    *(".txt", ".json", ".jsonl", ".xml", ".csv", ".tsv"),
    *(".md", ".yaml", ".yml", ".html"),
)
NOTE = "note beside the images"
HIDDEN = "hidden file"
LEADS_NOWHERE = "symbolic link that leads nowhere"


def holds_images(folder: Place) -> bool:
    """Return whether a folder itself holds images, by their names."""
    with scan(folder) as entries:
        return any(e.name.lower().endswith(IMAGE_SUFFIXES) and not _is_folder(e) for e in entries)


def list_flat(
    root: Place, name: str, ignored: dict[str, int], follow_links: bool
) -> list[SourceImage]:
    """List the images in one folder, and in folders in it, without labels."""
    folder = root / name
    inside = "images" if class_folders(folder) == ["images"] else ""
    if inside:
        class_folders(folder, ignored)
    parent = f"{Path(name, inside)}/" if name or inside else ""
    files = list_files(folder / inside, ignored, follow_links=follow_links)
    check_links(folder, ignored)
    return [_image(own, place, length, UNLABELED, parent) for own, place, length in files]


def _image(name: str, place: Place, length: int, label: int, parent: str) -> SourceImage:
    if isinstance(place, Path):
        return SourceImage(name, place, -1, length, label, parent)
    archive = place.archive
    assert archive is not None
    return SourceImage(name, archive.data, place.offset, place.length, label, parent, archive.codec)


def class_folders(
    folder: Place, ignored: dict[str, int] | None = None, *, follow_links: bool = False
) -> list[str]:
    """Return the sorted names of folders that can be classes; count other entries as ignored."""
    wnids = []
    top = _real(folder)
    with scan(folder) as entries:
        for entry in entries:
            is_folder = _is_folder(entry)
            reason = _reason_to_ignore(entry, top, follow_links, set())
            if not reason and is_folder:
                wnids.append(entry.name)
                continue
            if reason == LEADS_OUT and not is_folder and _is_on_disk(entry):
                reason = LINK
            elif not reason and entry.is_symlink() and not Path(entry.name).suffix:
                reason = LEADS_NOWHERE
            if ignored is not None:
                count_ignored(ignored, reason or "file beside the class folders")
    return sorted(wnids)


def folder_names(folder: Place) -> list[str]:
    """Return the sorted names of all folders but clutter, of linked ones too."""
    with scan(folder) as entries:
        return sorted(e.name for e in entries if _is_folder(e) and not is_clutter(e.name))


def check_links(folder: Place, ignored: dict[str, int]) -> None:
    """Raise a SourceError if links to images or classes were counted, but not followed."""
    if isinstance(folder, Member):
        if count := ignored.get(LEADS_OUT):
            link = next(m for m in folder.walk() if m.reason_to_ignore(folder.path) == LEADS_OUT)
            raise SourceError(
                f"{folder}: {count:,} links lead out of it, such as {link.name} -> {link.target}.",
                hint="Unpack it where what they lead to is, and name the folder.",
            )
        return
    if count := ignored.get(LEADS_NOWHERE):
        path = next(p for p in sorted(folder.rglob("*")) if p.is_symlink() and not p.exists())
        raise SourceError(
            f"{folder}: {count:,} links lead nowhere, such as {path} -> {path.readlink()}.",
            hint="Fetch what they lead to, or remove them.",
        )
    if count := ignored.get(LEADS_OUT):
        path = next(p for p in sorted(folder.rglob("*")) if p.is_symlink() and p.exists())
        raise SourceError(
            f"{folder}: {count:,} links to images or folders lead out of it and were not "
            f"followed, such as {path} -> {path.readlink()}.",
            hint=hint("follow_links"),
        )


def list_classes(
    folder: Place,
    split: str,
    wnids: list[str],
    ignored: dict[str, int],
    follow_links: bool = False,
) -> list[SourceImage]:
    """List the images in `folder/split/WNID`, or in `folder/WNID` if `split` is ""."""
    images = []
    found: dict[str, str] = {}  # by name in composed form
    for name in class_folders(folder / split, ignored, follow_links=follow_links):
        if (twin := found.setdefault(composed(name), name)) != name:
            raise SourceError(
                f"{folder / split}: {shown(twin)} and {shown(name)} are the same name.",
                hint="Move their images into one folder.",
            )
    top = _real(folder / split)
    for label, wnid in enumerate(wnids):
        if composed(wnid) not in found:
            continue
        own = found[composed(wnid)]
        parent = f"{Path(split, own).as_posix()}/"
        for name, place, length in list_files(folder / split / own, ignored, top, follow_links):
            images.append(_image(name, place, length, label, parent))
    check_links(folder / split, ignored)
    return images


def list_files(
    root: Place,
    ignored: dict[str, int],
    top: str | None = None,
    follow_links: bool = False,
    unlisted: list[Path] | None = None,
) -> list[tuple[str, Place, int]]:
    """Return (name below root, place, size) of every plain file, and of every broken link.

    Notes, which are texts beside the images, are counted as ignored.

    Args:
        top: the real path of the folder whose files are all listed; by default `root`.
        follow_links: follow links that lead out of it, to each file once.
        unlisted: folders that cannot be listed are added to it; None: they are errors.
    """
    files: list[tuple[str, Place, int]] = []
    waiting: list[str | Member] = [root if isinstance(root, Member) else str(root)]
    top = top or _real(root)
    seen = {_real(root)}
    start = len(str(root)) + 1
    while waiting:
        folder = waiting.pop()
        try:
            with scan(folder) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
        except OSError:
            if unlisted is None:
                raise
            unlisted.append(Path(str(folder)))
            continue
        for entry in listed:
            if reason := _reason_to_ignore(entry, top, follow_links, seen):
                count_ignored(ignored, reason)
            elif _is_folder(entry):
                waiting.append(entry.path if _is_on_disk(entry) else entry)
            elif is_note(entry.name):
                count_ignored(ignored, NOTE)
            else:
                place = Path(entry.path) if _is_on_disk(entry) else entry
                files.append((entry.path[start:].replace(os.sep, "/"), place, _size(entry)))
    return files


def list_image_files(folder: Path, ignored: dict[str, int]) -> list[Path]:
    """Return the sorted files below a folder as prep finds them; folders it cannot list, too.

    Links that lead out of the folder are followed, to each file once.
    """
    unlisted: list[Path] = []
    files = list_files(folder, ignored, follow_links=True, unlisted=unlisted)
    return sorted([Path(str(place)) for _, place, _ in files] + unlisted)


def _reason_to_ignore(
    entry: os.DirEntry | Member, top: str, follow_links: bool, seen: set[str]
) -> str | None:
    is_folder = _is_folder(entry)
    is_link = entry.is_symlink()
    if is_folder and not is_link and _is_on_disk(entry) and is_own_output(entry.path):
        return "dataset or run of alexnet"
    if is_clutter(entry.name):
        return "hidden folder" if is_folder else HIDDEN
    if is_folder and entry.name.lower().endswith(IMAGE_SUFFIXES):
        return "folder named like an image"
    if isinstance(entry, Member):
        return entry.reason_to_ignore(top)
    if is_link and not Path(entry.path).exists():
        return None  # a broken link, or a link to itself; prep rejects it
    target = os.path.realpath(entry.path) if is_link or follow_links else ""
    if is_link and _is_listed(Path(target), top):
        return LINK
    if is_link and not follow_links:
        return LEADS_OUT
    if not is_folder and not entry.is_file():
        return "not a plain file"
    if target in seen:
        return LINK
    if target:
        seen.add(target)
    return None


def is_own_output(folder: str, *, or_holds: bool = True) -> bool:
    """Return whether a folder is a dataset, finished or not, or a run, or holds only such."""
    if any(os.path.lexists(f"{folder}/{mark}") for mark in OWN_MARKS):
        return True
    if not or_holds:
        return False
    found = False
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if not entry.is_dir() or not is_own_output(entry.path, or_holds=False):
                return False
            found = True
    return found


def _is_listed(path: Path, top: str) -> bool:
    """Return whether a file or folder is below `top`, in no hidden folder as of git-annex."""
    return path.is_relative_to(top) and not any(map(is_clutter, path.relative_to(top).parts))


def content(folder: Place) -> str:
    """Return what a folder holds, in numbers."""
    kinds: Counter[str] = Counter()
    for path in folder.iterdir():
        if path.is_symlink():
            kinds["links"] += 1
        elif path.is_dir():
            kinds["folders"] += 1
        else:
            kinds[f"*{path.suffix.lower()}" if path.suffix else "files without suffix"] += 1
    return ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common(5)) or "nothing"


def _real(folder: Place) -> str:
    return folder.path if isinstance(folder, Member) else os.path.realpath(folder)


def _is_on_disk(entry: os.DirEntry | Member) -> bool:
    return not isinstance(entry, Member)


def _is_folder(entry: os.DirEntry | Member) -> bool:
    if entry.is_symlink() and _is_on_disk(entry):
        return Path(entry.path).is_dir()
    return entry.is_dir()


def _size(entry: os.DirEntry | Member) -> int:
    try:
        return entry.stat().st_size
    except OSError:
        return 0  # removed meanwhile, or a broken link


def is_note(name: str) -> bool:
    """Return whether a file is a text beside images, by its name."""
    return name.lower().endswith(NOTE_SUFFIXES)


def is_clutter(name: str) -> bool:
    """Return whether a name is one that file managers leave behind, and not an image's."""
    if name.startswith(".") and not name.startswith("._"):
        return not name.lower().endswith(IMAGE_SUFFIXES)
    return name.startswith("._") or name.lower() in CLUTTER
