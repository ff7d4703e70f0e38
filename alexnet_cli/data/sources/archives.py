"""The official archives, read in place: a tar of per-class tars, flat tars, the devkit."""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from alexnet_cli.data.sources.devkit import DevKit, read_devkit, read_ground_truth
from alexnet_cli.data.sources.folder_checks import check_classes
from alexnet_cli.data.sources.label_files import find_label_file, label_images
from alexnet_cli.data.sources.labels import WNID
from alexnet_cli.data.sources.listing import class_folders, list_classes, list_flat
from alexnet_cli.data.sources.source import UNLABELED, Layout, Source, SourceImage, count_ignored
from alexnet_cli.data.sources.tars import image_of, list_class_tar, list_images, list_whole_tar
from alexnet_cli.errors import SourceError, UsageError, counted, hint
from alexnet_cli.types import ImageClass

# ILSVRC2012_img_train.tar, ILSVRC2010_images_train.tar; the 2012 dogs-only set is *_train_t3.tar.
TRAIN = re.compile(r"ILSVRC\d{4}_(img|images)_train\.tar")
VAL = re.compile(r"ILSVRC\d{4}_(img|images)_val\.tar")
TEST = re.compile(r"ILSVRC\d{4}_(img|images)_test(_v\d+)?\.tar")
TEST_LABELS = re.compile(r"ILSVRC\d{4}_test_ground_truth\.txt")  # published for 2010 alone
# ILSVRC2012_devkit_t12.tar.gz, ILSVRC2010_devkit-1.0.tar.gz, devkit-1.0.tar.gz
DEVKIT = re.compile(r"(ILSVRC\d{4}_)?devkit[-_](t12|\d\.\d)\.(tar\.gz|tgz|tar)")
# Unpacked, each into a folder.
TRAIN_FOLDER = re.compile(r"(ILSVRC\d{4}_(img|images)_)?train", re.IGNORECASE)
VAL_FOLDER = re.compile(r"(ILSVRC\d{4}_(img|images)_)?val(idation)?", re.IGNORECASE)
DEVKIT_FOLDER = re.compile(r"(ILSVRC\d{4}_)?devkit([-_](t12|\d\.\d))?")
CLASS_TAR = re.compile(rf"{WNID}\.tar")
DOGS = re.compile(r"ILSVRC2012_img_train_t3\.tar")


def read_archives(folder: Path, *, follow_links: bool = False) -> Source | None:
    """List the images of the official archives in `folder`; None if it holds none of them.

    Each part may be unpacked: the training images into class tars or class folders, the validation
    images into a flat folder or class folders, the development kit into a folder.
    """
    parts = _find_parts(folder)
    if parts is None:
        return None
    train, val, kit = parts
    if follow_links and not any(part and part.is_dir() for part in (train, val)):
        raise UsageError(
            f"{folder}: links are followed in folders of images; these are archives.",
            hint=hint("leave_out", option="follow-links"),
        )
    ignored: dict[str, dict[str, int]] = defaultdict(dict)
    notes: list[str] = []
    devkit = read_devkit(kit) if kit else None
    classes = devkit.classes if devkit else _classes_of(train)
    wnids = [entry.wnid for entry in classes]
    images: dict[str, list[SourceImage]] = {"train": [], "val": []}
    if train is None:
        notes.append(f"warning: {folder} has no training images, only those of {val.name}")
    elif train.is_file():
        images["train"] = _list_train(train, wnids, ignored["train"])
    elif tars := class_tars(train):
        images["train"] = _list_class_tars(train, tars, wnids, ignored["train"])
    else:
        if extra := sorted(set(class_folders(train, follow_links=follow_links)) - set(wnids)):
            raise _other_year(train, extra[0])
        images["train"] = list_classes(folder, train.name, wnids, ignored["train"], follow_links)
    images["val"] = _list_val(val, devkit, wnids, ignored["val"], notes, follow_links)
    test, truth = _find(folder, TEST), _find(folder, TEST_LABELS)
    if test and truth and devkit:
        labels = read_ground_truth(truth, "test", truth.read_bytes(), devkit.label_of_id)
        images["test"] = _list_flat(test, labels, f"{truth.name} labels", ignored["test"])
    elif test:
        count_ignored(ignored["test"], "test archive without its ground truth")
    first = train or val
    layout = "official archives" if first.is_file() and val.is_file() else "parts of ILSVRC"
    return Source(f"{layout} ({first.name})", classes, images, ignored, notes=tuple(notes))


def _find_parts(folder: Path) -> tuple[Path | None, Path, Path | None] | None:
    """Return training part, validation part and kit; None if nothing of it is an archive.

    Raises:
        SourceError: if the others are there, but no validation part, or nothing to label it by.
    """
    archives = find_archives(folder)
    if not folder.is_dir():
        return None
    train, val, kit = archives or [None, None, _find(folder, DEVKIT)]
    kit = kit or _find_folder(folder, DEVKIT_FOLDER)
    train_folder = _find_folder(folder, TRAIN_FOLDER)
    train = train or train_folder
    val = val or _find_folder(folder, VAL_FOLDER)
    is_flat = val is not None and val.is_dir() and not class_folders(val)
    has_tars = train is not None and train.is_dir() and bool(class_tars(train))
    if not archives and not kit and (val is None or (val.is_dir() and class_tars(val))):
        return None  # class tars alone are another layout
    by_file = val is not None and find_label_file(val, "val") is not None
    if not archives and not has_tars and not (is_flat and kit and not by_file):
        return None
    is_named = any(TRAIN.fullmatch(path.name) for path in folder.iterdir())  # but a pipe
    by_folder = val is not None and val.is_dir() and not is_flat
    missing = {
        "*_train.tar": train is None and (is_named or (not kit and (by_file or by_folder))),
        "*_val.tar": val is None,
        "*devkit*.tar.gz": not (kit or by_file or by_folder),
    }
    for what, is_missing in missing.items():
        if is_missing:
            labels = ", or a file of the validation labels: LOC_val_solution.csv or val.txt"
            raise SourceError(
                f"{folder}: no {what} beside the other archives.",
                hint=f"Add it{labels if train and 'devkit' in what else ''}, and run again.",
            )
    assert val is not None
    return train, val, kit


def class_tars(folder: Path) -> list[Path]:
    """Return the tars in a folder that are named after a synset."""
    named = sorted(path for path in folder.glob("*.tar") if CLASS_TAR.fullmatch(path.name))
    return [path for path in named if path.is_file()]


def _classes_of(train: Path | None) -> tuple[ImageClass, ...]:
    """Return the classes of the training part itself, where there is no kit."""
    assert train is not None
    if train.is_file():
        with train.open("rb") as file:
            members = list_images(train, file, 0, train.stat().st_size, {})
            wnids = sorted(Path(member.name).stem for member in members)
    else:
        wnids = [path.stem for path in class_tars(train)] or class_folders(train)
    return tuple(ImageClass(wnid, wnid) for wnid in wnids)


def _list_class_tars(
    train: Path, tars: list[Path], wnids: list[str], ignored: dict[str, int]
) -> list[SourceImage]:
    images: list[SourceImage] = []
    for path in tars:
        if path.stem not in wnids:
            raise _other_year(train, path.name)
        images += list_class_tar(path, wnids.index(path.stem), ignored)
    return images


def _list_val(
    val: Path,
    devkit: DevKit | None,
    wnids: list[str],
    ignored: dict[str, int],
    notes: list[str],
    follow_links: bool,
) -> list[SourceImage]:
    """List the validation images, labeled by their folders, the kit or a file beside them."""
    if val.is_dir() and class_folders(val, follow_links=follow_links):
        check_classes(val.parent, val.name, wnids, follow_links)
        return list_classes(val.parent, val.name, wnids, ignored, follow_links)
    if val.is_file() and devkit:
        return _list_flat(val, devkit.val_labels, "the development kit labels", ignored)
    if val.is_file():
        images = [image_of(val, "", member, UNLABELED) for member in list_whole_tar(val, ignored)]
    else:
        images = list_flat(val.parent, val.name, ignored, follow_links)
    if devkit:
        images.sort(key=lambda image: image.name)
        _check_count(val, len(images), devkit.val_labels, "the development kit labels")
        return [replace(i, label=n) for i, n in zip(images, devkit.val_labels, strict=True)]
    file = find_label_file(val, "val")
    assert file is not None  # one of the three is there
    notes.append(f"labels of {val}: {file}")
    return label_images(images, file, wnids, ignored)[0]


def find_archives(folder: Path) -> list[Path | None]:
    """Return training archive, validation archive and kit, None for one that is not there.

    The list is empty without one of the two archives.
    """
    if not folder.is_dir():
        return []
    train, val, devkit = (_find(folder, pattern) for pattern in (TRAIN, VAL, DEVKIT))
    if train is None and (dogs := _find(folder, DOGS)):
        raise SourceError(
            f"{dogs} has the 120 dogs of task 3 only.",
            hint="Download ILSVRC2012_img_train.tar (138 GB).",
        )
    return [] if train is None and val is None else [train, val, devkit]


def _find(folder: Path, pattern: re.Pattern) -> Path | None:
    named = sorted(path for path in folder.iterdir() if pattern.fullmatch(path.name))
    found = [path for path in named if path.is_file()]  # opening a pipe would block
    if len(found) > 1:
        names = " and ".join(path.name for path in found[:2])
        raise SourceError(f"{folder} holds {names}.", hint="Keep the archives of one year there.")
    return found[0] if found else None


def _find_folder(folder: Path, pattern: re.Pattern) -> Path | None:
    found = sorted(p for p in folder.iterdir() if pattern.fullmatch(p.name) and p.is_dir())
    return found[0] if found else None


def _other_year(path: Path, name: str) -> SourceError:
    return SourceError(
        f"{path}: {name!r} is no class in the development kit.",
        hint="Use archives and development kit of the same year.",
    )


def _list_train(path: Path, wnids: list[str], ignored: dict[str, int]) -> list[SourceImage]:
    label_of = {wnid: label for label, wnid in enumerate(wnids)}
    images: list[SourceImage] = []
    with path.open("rb") as file:
        for class_tar in list_images(path, file, 0, path.stat().st_size, ignored):
            wnid, suffix = Path(class_tar.name).stem, Path(class_tar.name).suffix
            if suffix.lower() in (".jpeg", ".jpg"):
                raise SourceError(
                    f"{path}: holds images, not one tar per class. "
                    "This looks like a validation archive.",
                    hint="Keep every archive under the name it was published with.",
                )
            if suffix != ".tar" or wnid not in label_of:
                raise _other_year(path, class_tar.name)
            end = class_tar.offset_data + class_tar.size
            for member in list_images(path, file, class_tar.offset_data, end, ignored):
                images.append(image_of(path, f"{wnid}.tar/", member, label_of[wnid]))
    return images


def _list_flat(
    path: Path, labels: Sequence[int], says: str, ignored: dict[str, int]
) -> list[SourceImage]:
    """List a tar of images whose labels are listed in the order of their names."""
    members = sorted(list_whole_tar(path, ignored), key=lambda member: Path(member.name).name)
    _check_count(path, len(members), labels, says)
    return [image_of(path, "", m, label) for m, label in zip(members, labels, strict=True)]


def _check_count(path: Path, count: int, labels: Sequence[int], says: str) -> None:
    if count != len(labels):
        raise SourceError(
            f"{path}: {counted(count, 'image')}, but {says} {len(labels)}.",
            hint="Compare the archive's size and MD5 with the download page.",
        )


LAYOUT = Layout(
    "archives",
    "ILSVRC*_train.tar, ILSVRC*_val.tar and the devkit",
    read_archives,
    ("follow_links",),
)
