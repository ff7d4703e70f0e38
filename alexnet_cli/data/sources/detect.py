"""Recognizes the layout of a source and lists its images. Nothing is moved or written."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from alexnet_cli.data.sources import (
    archives,
    cifar,
    folders,
    kaggle,
    packed,
    parquet,
    synset_tars,
    webdataset,
)
from alexnet_cli.data.sources.class_list import ClassList
from alexnet_cli.data.sources.ilsvrc2012 import check_labels, check_md5, warn_of_counts
from alexnet_cli.data.sources.labels import SPLITS, base_name, split_name, split_of_folder
from alexnet_cli.data.sources.listing import IMAGE_SUFFIXES, content, is_clutter, is_own_output
from alexnet_cli.data.sources.samples import FILE
from alexnet_cli.data.sources.source import Layout, Source, SourceOptions
from alexnet_cli.errors import Hint, SourceError, UsageError, hint, on_one_line, some_names
from alexnet_cli.io.disk import fault_in_words, is_ours
from alexnet_cli.io.progress import SILENT, Progress
from alexnet_cli.types import ImageClass

# In the order in which they are tried.
MODULES = (archives, kaggle, parquet, webdataset, cifar, synset_tars, packed, folders)
LAYOUTS: dict[str, Layout] = {module.LAYOUT.name: module.LAYOUT for module in MODULES}
# pipe:COMMAND and https://HOST as pathlib leaves them
URL = re.compile(r"-|(pipe|file|fd|data):.*|[a-z][a-z0-9+.-]*:/.*", re.IGNORECASE | re.DOTALL)
# Why an option is refused by a layout that does not take it.
UNUSABLE = {
    "val_fraction": "the layout {!r} has its own splits.",
    "follow_links": "links are followed in class folders; this is the layout {!r}.",
    "labels": "the layout {!r} has labels of its own.",
    "classes": "the layout {!r} names its own classes.",
    "columns": "columns are those of parquet files; this is the layout {!r}.",
}
NAME_A_FOLDER = "Name the folder that holds the archives or classes."


def read_source(source: Path, options: SourceOptions, progress: Progress = SILENT) -> Source:
    """List every image of `source`, whatever its layout.

    Raises:
        SourceError: if the source has no known layout, is damaged, or its labels are permuted.
        UsageError: if an option or the source does not exist or does not fit the layout.
    """
    with _source_errors(source):
        _check_source(source, options.layout)
        if options.check_md5:
            _check_md5(source, options.layout, progress)
        if (archive := packed.archive_of(source)) and not packed.is_read_in_place(archive):
            progress.say(f"{archive} is packed, so it is read to its end to list its images")
        layout, found = _recognize(source, options)
        for name, problem in UNUSABLE.items():
            if getattr(options, name) and name not in layout.options:
                raise UsageError(
                    f"{source}: {problem.format(layout.name)}",
                    hint=hint("leave_out", option=name.replace("_", "-")),
                )
        found = replace(found, classes=tuple(map(_as_text, found.classes)))
        _check_not_empty(source, found)
        check_labels(found)
        if options.classes:
            _check_names(found, options.classes)
        unread = _unread_beside(source, found, "" if options.layout else layout.name)
        found = replace(found, notes=(*found.notes, *unread))
    for note in found.notes:
        progress.say(note)
    warn_of_counts(found, progress)
    return found


def _recognize(source: Path, options: SourceOptions) -> tuple[Layout, Source]:
    for layout in [LAYOUTS[options.layout]] if options.layout else LAYOUTS.values():
        found = layout.read(source, **{name: getattr(options, name) for name in layout.options})
        if found is not None:
            return layout, found
    if options.layout:
        raise SourceError(
            f"{source}: not the layout {layout.name!r}, which needs {layout.needs}.",
            hint="Name the folder that has it, or another layout.",
        )
    if not source.is_dir():
        is_image = source.suffix.lower() in IMAGE_SUFFIXES
        advice = f"To classify an image: alexnet predict {source}" if is_image else NAME_A_FOLDER
        raise SourceError(f"{source} is not a folder.", hint=advice)
    raise SourceError(
        f"{source}: no archives and no class folders, nor another layout that prep reads; "
        f"it holds {content(source)}.",
        hint=_advice(source),
    )


def _advice(folder: Path) -> str | Hint:
    """Return what to do about a folder without a known layout, by what is in it."""
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    for name in names:
        if copy := re.fullmatch(r"(.+?)( - Copy| copy| ?\(\d+\))(\.[a-z.]+)", name, re.IGNORECASE):
            return f"{name} is named like a browser's copy; rename it: {copy[1]}{copy[3]}"
        if name.lower().endswith((".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip")):
            if FILE.fullmatch(name.lower().removesuffix(".gz")):
                return (
                    f"If it holds samples, unpack it (gunzip {name}); else name it: {folder / name}"
                )
            return f"Name the archive: {folder / name}"
        if name.lower().endswith(".parquet"):
            return (
                "Parquet files are named after their split, such as train.parquet, or are in a "
                f"folder named so; this is {name}."
            )
        if name.lower().endswith(".tar"):
            return (
                "Tars of samples are named after their split, such as train-000000.tar and "
                f"val-000000.tar; this is {name}."
            )
    inner = [path for path in folder.iterdir() if split_of_folder(path.name) and path.is_dir()]
    if tars := sorted(tar for path in inner for tar in path.glob("*.tar")):
        return (
            f"Tars of samples are in one folder, named after their split: move {tars[0]} to "
            f"{folder / f'{tars[0].parent.name}-{tars[0].name}'}, and the others alike."
        )
    if any(name.lower().endswith(IMAGE_SUFFIXES) for name in names):
        return hint("unlabeled_images", folder=folder, above=folder.resolve().parent)
    return hint("name_layout", layouts="|".join(LAYOUTS))


def _check_not_empty(source: Path, found: Source) -> None:
    if not any(found.images.values()):
        passed = ", ".join(f"{count:,} {reason}" for reason, count in found.ignored.items())
        raise SourceError(
            f"{source}: read as {found.layout}, but no image was found"
            + (f"; passed over: {passed}." if passed else "."),
            hint=hint("name_layout", layouts="|".join(LAYOUTS)),
        )


def _unread_beside(source: Path, found: Source, layout: str) -> list[str]:
    """Return a warning that names the folders and archives in `source` that are not read.

    Args:
        layout: the one that was recognized; "" if the user chose it.

    Raises:
        SourceError: if they hold train or val, nothing of that was found, and the user did not
            choose what to read.
    """
    if not source.is_dir() or not found.files or source in found.files:
        return []
    read = {path.relative_to(source).parts[0] for path in found.files}
    names = []
    for entry in sorted(source.iterdir()):
        if entry.name in read or is_clutter(entry.name):
            continue
        split = _split_of_entry(entry)
        if split and entry.is_symlink() and not entry.exists():
            raise SourceError(
                f"{entry} is a link that leads nowhere, to {entry.readlink()}.",
                hint="Fetch what it leads to, or remove it.",
            )
        if not _may_hold_images(entry):
            continue
        names.append(entry.name)
        if layout and split in ("train", "val") and not found.images.get(split):
            raise SourceError(
                f"{source}: read as {found.layout}, but its {split} images seem to be in "
                f"{entry.name}, which is not of that layout.",
                hint=hint("one_layout", layout=layout),
            )
    return [f"warning: not read, though beside: {some_names(names)}"] if names else []


def _split_of_entry(path: Path) -> str | None:
    """Return the split that a folder, tar, parquet file or archive is named after."""
    if match := FILE.fullmatch(path.name) or parquet.FILE.fullmatch(path.name):
        return SPLITS[match["split"].lower()]
    return split_of_folder(packed.SUFFIX.sub("", path.name))


def _may_hold_images(path: Path) -> bool:
    """Return whether a path is an archive, or a folder that is neither empty nor our own."""
    if path.is_dir():
        return not is_own_output(str(path)) and any(path.iterdir())
    return bool(packed.SUFFIX.search(path.name)) or path.suffix.lower() == ".parquet"


def _check_names(found: Source, listed: ClassList) -> None:
    """Raise a SourceError for the first image whose name has another wnid than the list."""
    seen = set()
    for images in found.images.values():
        for image in images:
            _, wnid = split_name(base_name(image.name))
            if wnid and (image.label, wnid) not in seen:
                seen.add((image.label, wnid))
                listed.check(image.label, "its name", wnid, on_one_line(image.source))


def _as_text(entry: ImageClass) -> ImageClass:
    """Escape what is not UTF-8 in a class's names; models and tables hold them as text."""
    wnid, name = (
        text.encode(errors="backslashreplace").decode() for text in (entry.wnid, entry.name)
    )
    return ImageClass(wnid, name)


@contextmanager
def _source_errors(source: Path) -> Iterator[None]:
    """Complete the errors about a source, and turn faults of its disk into such errors."""
    try:
        yield
    except SourceError as error:
        kept = error.kept or "Nothing was written."
        advice = error.hint or "Correct or replace it, then run the same command again."
        raise error.replaced(kept=kept, hint=advice) from error.__cause__
    except BrokenPipeError:  # of our output, not of the source
        raise
    except OSError as error:
        if is_ours(error):
            raise
        raise SourceError(
            f"{fault_in_words(error, source)}, so the images cannot be listed.",
            kept="Nothing was written.",
            hint="Make it readable and run the same command again.",
        ) from error


def _check_source(source: Path, layout: str | None) -> None:
    if layout is not None and layout not in LAYOUTS:
        raise UsageError(f"layout {layout!r}: there are {', '.join(LAYOUTS)}.")
    if source.exists() or packed.archive_of(source):
        return
    if URL.fullmatch(str(source)):
        raise UsageError(
            f"{source}: not supported.", kept="Nothing was fetched or run.", hint="Name a folder."
        )
    raise SourceError(f"{source} does not exist.", hint=NAME_A_FOLDER)


def _check_md5(source: Path, layout: str | None, progress: Progress) -> None:
    found = archives.find_archives(source) if layout in (None, archives.LAYOUT.name) else []
    if not found:
        raise UsageError(
            f"{source}: MD5s are known of the official archives only; there are none.",
            hint=hint("leave_out", option="check-md5"),
        )
    check_md5([path for path in found if path is not None], progress)
