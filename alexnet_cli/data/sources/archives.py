"""The official archives, read in place: a tar of per-class tars, flat tars, the devkit."""

import re
from collections.abc import Sequence
from pathlib import Path

from alexnet_cli.data.sources.devkit import DevKit, read_devkit, read_ground_truth
from alexnet_cli.data.sources.source import Layout, Source, SourceImage, count_ignored
from alexnet_cli.data.sources.tars import image_of, list_members, list_whole_tar
from alexnet_cli.errors import SourceError

# ILSVRC2012_img_train.tar, ILSVRC2010_images_train.tar; the 2012 dogs-only set is *_train_t3.tar.
TRAIN = re.compile(r"ILSVRC\d{4}_(img|images)_train\.tar")
VAL = re.compile(r"ILSVRC\d{4}_(img|images)_val\.tar")
TEST = re.compile(r"ILSVRC\d{4}_(img|images)_test(_v\d+)?\.tar")
TEST_LABELS = re.compile(r"ILSVRC\d{4}_test_ground_truth\.txt")  # published for 2010 alone
# ILSVRC2012_devkit_t12.tar.gz, ILSVRC2010_devkit-1.0.tar.gz, devkit-1.0.tar.gz
DEVKIT = re.compile(r"(ILSVRC\d{4}_)?devkit[-_](t12|\d\.\d)\.(tar\.gz|tgz|tar)")
DOGS = re.compile(r"ILSVRC2012_img_train_t3\.tar")


def read_archives(folder: Path) -> Source | None:
    """List the images of the official archives in `folder`; None if it holds none of them."""
    found = find_archives(folder)
    if not found:
        return None
    for path, what in zip(found, ("*_train.tar", "*_val.tar", "*devkit*.tar.gz"), strict=True):
        if path is None:
            raise SourceError(
                f"{folder}: no {what} beside the other archives.", hint="Add it and run again."
            )
    train, val, devkit_path = (path for path in found if path)
    devkit = read_devkit(devkit_path)
    ignored: dict[str, int] = {}
    images = {
        "train": _list_train(train, devkit, ignored),
        "val": _list_flat(val, devkit.val_labels, "the development kit labels", ignored),
    }
    test, truth = _find(folder, TEST), _find(folder, TEST_LABELS)
    if test and truth:
        labels = read_ground_truth(truth, "test", truth.read_bytes(), devkit.label_of_id)
        images["test"] = _list_flat(test, labels, f"{truth.name} labels", ignored)
    elif test:
        count_ignored(ignored, "test archive without its ground truth")
    return Source(f"official archives ({train.name})", devkit.classes, images, ignored)


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


def _list_train(path: Path, devkit: DevKit, ignored: dict[str, int]) -> list[SourceImage]:
    label_of = {entry.wnid: label for label, entry in enumerate(devkit.classes)}
    images: list[SourceImage] = []
    with path.open("rb") as file:
        for class_tar in list_members(path, file, 0, path.stat().st_size, ignored):
            wnid, suffix = Path(class_tar.name).stem, Path(class_tar.name).suffix
            if suffix.lower() in (".jpeg", ".jpg"):
                raise SourceError(
                    f"{path}: holds images, not one tar per class. "
                    "This looks like a validation archive.",
                    hint="Keep every archive under the name it was published with.",
                )
            if suffix != ".tar" or wnid not in label_of:
                raise SourceError(
                    f"{path}: {class_tar.name!r} is not the tar of a class in the development kit.",
                    hint="Use archives and development kit of the same year.",
                )
            end = class_tar.offset_data + class_tar.size
            for member in list_members(path, file, class_tar.offset_data, end, ignored):
                images.append(image_of(path, f"{wnid}.tar/", member, label_of[wnid]))
    return images


def _list_flat(
    path: Path, labels: Sequence[int], says: str, ignored: dict[str, int]
) -> list[SourceImage]:
    """List a tar of images whose labels are listed in the order of their names."""
    members = sorted(list_whole_tar(path, ignored), key=lambda member: Path(member.name).name)
    if len(members) != len(labels):
        raise SourceError(
            f"{path}: {len(members)} images, but {says} {len(labels)}.",
            hint="Compare the archive's size and MD5 with the download page.",
        )
    return [image_of(path, "", m, label) for m, label in zip(members, labels, strict=True)]


LAYOUT = Layout("archives", "ILSVRC*_train.tar, ILSVRC*_val.tar and the devkit", read_archives)
