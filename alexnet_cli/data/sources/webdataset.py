"""WebDataset tars of other people: KEY.jpg with KEY.cls or KEY.json, split by the tars' names.

Read in place. Members' names are never used as paths.
"""

import re
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from alexnet_cli.data.sources.class_list import ClassList, names_beside
from alexnet_cli.data.sources.labels import SPLITS, LabeledClasses, list_labeled, split_of_folder
from alexnet_cli.data.sources.samples import (
    ADD_LABEL,
    FILE,
    MAX_NOTE_BYTES,
    NO_LABEL,
    Sample,
    key_and_extension,
    kind_of,
    read_notes,
    samples_of,
)
from alexnet_cli.data.sources.source import (
    NO_TEST_LABEL,
    Layout,
    Source,
    SourceImage,
    count_ignored,
)
from alexnet_cli.data.sources.tars import list_members
from alexnet_cli.errors import SourceError, counted, hint, some_names

PEEK = 1000  # members


def read_webdataset(folder: Path, *, classes: ClassList | None = None) -> Source | None:
    """List the samples of the tars in `folder`; None if no tar is named after a split.

    The names of the classes are `classes`, or those in a file beside the tars.
    """
    if not folder.is_dir():
        return None
    matches = ((path, FILE.fullmatch(path.name)) for path in sorted(folder.iterdir()))
    files = [
        (SPLITS[match["split"].lower()], path)
        for path, match in matches
        if match and path.is_file() and not _holds_class_folders(path)
    ]
    if not files:
        return None
    labels = LabeledClasses(classes or names_beside(folder))
    layout = f"WebDataset ({files[0][1].name}, ...)"
    source = list_labeled(layout, files, partial(_list_samples, labels), labels)
    return replace(source, notes=tuple(_gaps([path.name for _, path in files])))


def _gaps(names: list[str]) -> Iterator[str]:
    """Yield a warning for each series of numbered tars of which some are not there."""
    series: dict[tuple[str, str], dict[int, str]] = {}
    for name in names:
        if match := re.fullmatch(r"(.*?)([0-9]{1,18})(\D*)", name):
            series.setdefault((match[1], match[3]), {})[int(match[2])] = name
    for numbers in series.values():
        lost = max(numbers) - min(numbers) + 1 - len(numbers)
        if lost:
            first = next(n for n in sorted(numbers) if n + 1 not in numbers)
            yield (
                f"warning: {counted(lost, 'tar is', 'tars are')} missing, the first after "
                f"{numbers[first]}"
            )


def _holds_class_folders(path: Path) -> bool:
    """Return whether train.tar and the like hold class folders, not samples, by its beginning."""
    if split_of_folder(path.stem) is None:
        return False
    with path.open("rb") as file:
        members = list_members(path, file, 0, path.stat().st_size, {})
        names = [(member.name, None) for member in islice(members, PEEK)]
    found = [sample for sample in samples_of(names, str(path)) if sample.image]
    return any("/" in s.key for s in found) and not any(s.notes for s in found)


def _list_samples(
    labels: LabeledClasses, split: str, path: Path, ignored: dict[str, int]
) -> list[SourceImage]:
    images = []
    with path.open("rb") as file:
        members = list_members(path, file, 0, path.stat().st_size, ignored)
        for sample in samples_of(((m.name, m) for m in members), str(path)):
            for reason, count in sample.passed_over.items():
                count_ignored(ignored, reason, count)
            if sample.image is None:
                continue
            name, image = sample.image
            where = f"{path}: {sample.key[:80]!r}"
            contents = {kind: _read_note(file, note) for kind, note in sample.notes.items()}
            notes = read_notes(contents, name, where)
            if notes.label is None and split == "test":
                count_ignored(ignored, NO_TEST_LABEL)
                continue
            if notes.label is None:
                raise _unlabeled(path, sample, where)
            label = labels.add(split, notes.label, notes.wnid, where, notes.said)
            offset = image.offset_data
            parent = f"{path.name}/"
            images.append(SourceImage(notes.name, path, offset, image.size, label, parent))
    return images


def _unlabeled(path: Path, sample: Sample, where: str) -> SourceError:
    """Return the error for a sample without a label, by all members of the tar with its key."""
    with path.open("rb") as file:
        names = [m.name for m in list_members(path, file, 0, path.stat().st_size, {})]
    own = [name for name in names if key_and_extension(name)[0] == sample.key]
    apart = {kind_of(name) for name in own} - sample.notes.keys()
    if apart & {"cls", "json"}:
        return SourceError(
            f"{where}: its label is not beside its image.",
            hint=hint("sort_tar", path=path, new=f"sorted-{path.name}"),
        )
    if "/" in sample.key and not sample.notes:
        advice = f"If its folders are the classes, name the tar itself: {path}"
        return SourceError(f"{where}: {NO_LABEL}", hint=advice)
    found = some_names([name.rpartition("/")[2] for name in own])
    return SourceError(f"{where}: {NO_LABEL}", hint=f"It has {found}. {ADD_LABEL}")


def _read_note(file: BinaryIO, member: tarfile.TarInfo) -> bytes:
    file.seek(member.offset_data)
    return file.read(min(member.size, MAX_NOTE_BYTES))


LAYOUT = Layout("webdataset", "train-*.tar with jpg and cls", read_webdataset, ("classes",))
