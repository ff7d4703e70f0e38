"""Whether folders are classes: refuses and notes what was taken for one and is none."""

import re
import shlex

from alexnet_cli.data.sources.class_list import composed, shown, twin_of
from alexnet_cli.data.sources.labels import split_of_folder
from alexnet_cli.data.sources.listing import class_folders, content, folder_names, holds_images
from alexnet_cli.data.sources.members import Member, Place
from alexnet_cli.data.sources.source import SourceImage
from alexnet_cli.errors import SourceError, counted, hint, on_one_line, some_names

# Names that folders of images have, in lower case, beside others of boxes, masks and lists.
IMAGE_FOLDERS = ("images", "image", "imgs", "img", "jpegimages", "photos", "pictures", "data")
ANNOTATIONS = ("labels", "label", "annotations", "annotation", "masks", "mask", "boxes", "xml")
MASK = re.compile(r"(.+)[-_. ](?:mask|masks|seg|segmentation)(?:_\d+)?\.[a-z0-9]+", re.IGNORECASE)


def refuse_annotations(root: Place, wnids: list[str]) -> None:
    """Raise a SourceError if folders of images and of their boxes or masks are no classes."""
    names = {wnid.lower() for wnid in wnids}
    flat = [w for w in wnids if w.lower() in IMAGE_FOLDERS and not folder_names(root / w)]
    if flat and names & set(ANNOTATIONS) and len(names) <= 4:
        raise SourceError(
            f"{root} holds the folders {some_names(wnids)}: images with boxes or masks, without "
            "one class for each image.",
            hint=hint("labels", folder=root / "CLASS", images=_unpacked(root / flat[0])),
        )


def refuse_unlabeled(root: Place, splits: dict[str, str]) -> None:
    """Raise a SourceError if a split holds images without any label."""
    for name in splits.values():
        if holds_images(root / name):
            raise SourceError(
                f"{root / name}: images, but no class folders, so they have no labels.",
                hint=hint("labels", folder=root / name / "CLASS", images=_unpacked(root / name)),
            )


def _unpacked(folder: Place) -> str:
    """Return a folder as other commands take it."""
    return f"{folder.name}, once unpacked" if isinstance(folder, Member) else str(folder)


def check_depth(images: list[SourceImage], root: Place, wnids: list[str], notes: list[str]) -> None:
    """Compare how deep the images are with what the folders were taken for.

    Raises:
        SourceError: if folders taken for classes are splits, or hold the classes.
    """
    _check_names_of_masks(images, root, notes)
    inner, has_flat = _folders_for_classes(images, wnids)
    if not inner:
        return
    all_names = [name for found in inner.values() for name in found]
    if any(map(split_of_folder, all_names)):
        has_classes = any(image.name.count("/") > 1 for image in images)
        raise _splits_below_classes(root, inner, has_classes)
    kinds = {name.lower() for name in all_names}
    if kinds & set(ANNOTATIONS) and kinds <= {*IMAGE_FOLDERS, *ANNOTATIONS}:
        raise SourceError(
            f"{root}: each class holds the folders {some_names(sorted(set(all_names)))}, and "
            "masks or boxes are no images of it.",
            hint="Move the folders of masks or boxes out of the classes.",
        )
    wnid, found = min(inner.items(), key=lambda item: item[0].lower() not in IMAGE_FOLDERS)
    if len(all_names) > len(set(all_names)) or (not has_flat and len(wnids) > len(inner) == 1):
        raise SourceError(
            f"{root / wnid} was taken for a class, but holds no images, only the folders "
            f"{some_names(sorted(found))}.",
            hint=f"Name the folder of the classes: {root / wnid}; or call such folders train and "
            "val.",
        )
    notes.append(
        f"warning: {root / wnid} holds only folders ({some_names(sorted(found))}); their images "
        f"were taken for the class {wnid!r}"
    )


def _folders_for_classes(
    images: list[SourceImage], wnids: list[str]
) -> tuple[dict[str, set[str]], bool]:
    """Return the folders in each class without images of its own, where they may be classes.

    Also whether other classes hold images. The one folder that every class holds, such as `images`
    in Tiny ImageNet, is looked into.
    """
    names = [image.name for image in images]
    while True:
        inner: dict[str, set[str]] = {}
        flat: set[str] = set()
        for image, name in zip(images, names, strict=True):
            first, slash, _ = name.partition("/")
            wnid = wnids[image.label]
            if slash:
                inner.setdefault(wnid, set()).add(first)
            else:
                flat.add(wnid)
        deep = {wnid: found for wnid, found in sorted(inner.items()) if wnid not in flat}
        all_names = {name for found in deep.values() for name in found}
        if len(all_names) > 1 or any(map(split_of_folder, all_names)):
            return deep, bool(flat)
        if flat or not deep:
            return {}, bool(flat)
        names = [name.partition("/")[2] for name in names]


def _splits_below_classes(
    root: Place, inner: dict[str, set[str]], has_classes: bool
) -> SourceError:
    """Return the error of folders taken for classes that hold splits, or are beside such."""
    wnid = next(wnid for wnid, names in inner.items() if any(map(split_of_folder, names)))
    inside = sorted(inner[wnid])
    split = next(name for name in inside if split_of_folder(name))
    return SourceError(
        f"{root / wnid} was taken for a class, but holds no images, only "
        f"{', '.join(f'{name}/' for name in inside[:5])}.",
        hint=f"Name the folder of the splits: {root / wnid}"
        if len(inner) == 1 or has_classes
        else f"Move them, so that {split}/ holds the classes: {root / split / wnid}",
    )


def _check_names_of_masks(images: list[SourceImage], root: Place, notes: list[str]) -> None:
    """Note images that are named like the masks of others: 1.png and 1_mask.png."""
    named = (image for image in images if "mask" in (low := image.name.lower()) or "seg" in low)
    masks = [(image, match[1]) for image in named if (match := MASK.fullmatch(image.name))]
    if masks:
        others = {image.parent + image.name.rpartition(".")[0] for image in images}
        masks = [(image, stem) for image, stem in masks if image.parent + stem in others]
    if masks:
        which = counted(len(masks), f"image of {root} is", f"images of {root} are")
        notes.append(
            f"warning: {which} named like masks of others and read as images, the first "
            f"{on_one_line(masks[0][0].source)}; to leave them out, move them"
        )


def check_classes(
    folder: Place,
    split: str,
    wnids: list[str],
    follow_links: bool = False,
    train: str = "train",
) -> list[str]:
    """Return the classes of a held-out split that train writes in another Unicode form.

    Raises:
        SourceError: if the split has no classes, or one that train lacks.
    """
    found = class_folders(folder / split, follow_links=follow_links)
    names = set(wnids)
    forms = {composed(wnid) for wnid in wnids}
    others = [name for name in found if name not in names]
    if extra := [name for name in others if composed(name) not in forms]:
        twin = twin_of(extra[0], wnids)
        but = f", which has {shown(twin)}" if twin else ""
        raise SourceError(
            f"{folder / split}: class {shown(extra[0])} is not in {folder / train}{but} "
            f"({len(extra)} such).",
            hint=f"If they are one class, rename one: mv {_quoted(folder / split / extra[0])} "
            f"{_quoted(folder / split / twin)}"
            if twin
            else f"Remove it, or add its images to {folder / train}.",
        )
    if wnids and not found:
        raise SourceError(
            f"{folder / split}: no class folders; it holds {content(folder / split)}.",
            hint="Sort its images into classes, or put a file of names and classes beside it: "
            f"{folder / split}.csv"
            if holds_images(folder / split)
            else "Add its class folders, or remove it.",
        )
    return others


def _quoted(path: Place) -> str:
    return shlex.quote(on_one_line(str(path)))
