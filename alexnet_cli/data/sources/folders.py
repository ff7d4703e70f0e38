"""Class folders: `train/CLASS/*` with `val/CLASS/*` and `test/CLASS/*`, or `CLASS/*` alone."""

import os
import re
import shlex
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from alexnet_cli.data.shards.index import INDEX_COPY
from alexnet_cli.data.shards.writer import RECORDS
from alexnet_cli.data.sources.class_list import (
    ClassList,
    composed,
    distinct,
    in_class_order,
    look_alikes,
    order_in_words,
    shown,
    twin_of,
)
from alexnet_cli.data.sources.label_files import (
    contradicts,
    find_label_file,
    has_classes,
    label_images,
    names_any,
    note_of_splits,
    read_words,
)
from alexnet_cli.data.sources.labels import (
    SPLIT_NAMES,
    SPLIT_PATTERN,
    SPLITS,
    split_of_folder,
    words_of,
)
from alexnet_cli.data.sources.members import LEADS_OUT, LINK, Member, Place, scan
from alexnet_cli.data.sources.source import (
    NO_TEST_LABEL,
    UNLABELED,
    Layout,
    Source,
    SourceImage,
    count_ignored,
    split_off_val,
)
from alexnet_cli.errors import SourceError, UsageError, hint, on_one_line, some_names
from alexnet_cli.io.folder_lock import LOCK_NAME
from alexnet_cli.types import ImageClass

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
# Names that folders of images have, in lower case, beside others of boxes, masks and lists.
IMAGE_FOLDERS = ("images", "image", "imgs", "img", "jpegimages", "photos", "pictures", "data")
ANNOTATIONS = ("labels", "label", "annotations", "annotation", "masks", "mask", "boxes", "xml")
MASK = re.compile(r"(.+)[-_. ](?:mask|masks|seg|segmentation)(?:_\d+)?\.[a-z0-9]+", re.IGNORECASE)
PART = re.compile(rf"(?P<split>{SPLIT_PATTERN})[-_. ]?(x|p|part)?[-_. ]?\d*", re.IGNORECASE)
NOTE = "note beside the images"
HIDDEN = "hidden file"
LEADS_NOWHERE = "symbolic link that leads nowhere"


def read_folders(
    folder: Place,
    *,
    val_fraction: float,
    seed: int,
    follow_links: bool = False,
    labels: Path | None = None,
    classes: ClassList | None = None,
) -> Source | None:
    """List the images of class folders on a disk or in an archive, None if there are none.

    A class is a folder; its label is the position of its name in sorted order, in that of `classes`
    if they are given. A split without class folders has its labels in a file: `labels`, or one
    beside it.
    """
    if not folder.is_dir():
        return None
    root = _only_folder_of_folders(folder) or folder
    listing = _Listing(root, labels, follow_links, classes)
    if root != folder:
        listing.notes.append(f"{root} is read, the only folder in {folder}")
    splits = _split_folders(root, listing.notes)
    splits = {split: _class_root(root, name, listing.notes) for split, name in splits.items()}
    if splits:
        _check_options(folder, splits, val_fraction)
        layout = listing.add_splits(splits)
    else:
        layout = listing.add_one_set(val_fraction, seed)
    if not listing.wnids:
        _refuse_unlabeled(root, splits)
        return None
    if twins := look_alikes(listing.wnids):
        first, second = map(shown, twins)
        listing.notes.append(f"warning: {first} and {second} look alike and are two classes")
    if len(listing.wnids) == 1:
        place = root.name if splits else root
        listing.notes.append(f"warning: a single class, {place}/{listing.wnids[0]}")
    images, ignored = listing.images, listing.ignored
    files: tuple[Path, ...] = ()
    if isinstance(root, Path):  # others are in an archive, which is the file
        names = splits.values() or listing.wnids
        files = (
            (root,) if listing.has_label_files and not splits else tuple(root / n for n in names)
        )
        files += tuple(root / name for name in folder_names(root))  # a note names the others
    notes = tuple(listing.notes)
    return Source(layout, listing.classes(), images, ignored, notes=notes, files=files)


@dataclass(slots=True)
class _Listing:
    """The images of class folders, or of folders with a file of labels, while they are listed."""

    root: Place
    labels: Path | None
    follow_links: bool
    listed: ClassList | None
    images: dict[str, list[SourceImage]] = field(default_factory=lambda: {"train": [], "val": []})
    ignored: dict[str, dict[str, int]] = field(default_factory=lambda: defaultdict(dict))
    notes: list[str] = field(default_factory=list)
    wnids: list[str] = field(default_factory=list)
    has_label_files: bool = False

    def add_splits(self, splits: dict[str, str]) -> str:
        """List every split; return what the layout is called."""
        files = {
            split: _label_file(self.root / name, split, self.labels)
            for split, name in splits.items()
        }
        self.has_label_files = any(files.values())
        if self.labels and not self.has_label_files:
            raise UsageError(
                f"{self.root}: its images are in class folders, which are their labels.",
                hint=hint("leave_out", option="labels"),
            )
        in_folders = [name for split, name in splits.items() if not files[split]]
        has_train = splits.get("train") in in_folders and not self.listed
        self._number_classes([splits["train"]] if has_train else in_folders)
        for name in in_folders:
            _refuse_annotations(self.root / name, class_folders(self.root / name))
        for split, name in splits.items():
            if file := files[split]:
                self._add_labeled(split, name, file)
            else:
                self._add_class_folders(split, name, splits.get("train", ""))
        found = [
            splits[split] if files[split] else f"{splits[split]}/CLASS"
            for split, listed in self.images.items()
            if listed
        ]
        return " and ".join(found) + " folders"

    def _add_labeled(self, split: str, name: str, file: Place) -> None:
        """List a folder whose labels are in a file; a test set may have none."""
        ignored = self.ignored[split]
        flat = list_flat(self.root, name, ignored, self.follow_links)
        if split == "test" and not (names_any(file, flat) and has_classes(file)):
            self.notes.append(count_unlabeled(self.root / name, ignored, len(flat)))
            return
        self.images[split], self.wnids = label_images(
            flat, file, self.wnids or None, ignored, self.listed
        )
        self.notes.append(f"labels of {self.root / name}: {file}")
        self.notes += filter(None, [note_of_splits(file)])

    def _add_class_folders(self, split: str, name: str, train: str) -> None:
        """List a split whose folders are its classes; a flat test set has no labels."""
        folder = self.root / name
        if split == "test" and _is_flat(folder) and "images" not in self.wnids:
            self.notes.append(count_unlabeled(folder, self.ignored[split]))
            return
        if split != "train":
            for twin in check_classes(self.root, name, self.wnids, self.follow_links, train):
                self.notes.append(f"{folder / twin} is the class of the same name in {train}/")
        listed = list_classes(self.root, name, self.wnids, self.ignored[split], self.follow_links)
        check_depth(listed, folder, self.wnids, self.notes)
        if self.wnids and not listed and split != "test":
            raise SourceError(
                f"{folder}: no image was found in its class folders.",
                hint="Add its images, or remove it.",
            )
        self.images[split] = listed

    def add_one_set(self, val_fraction: float, seed: int) -> str:
        """List images that are not split, and split them; return what the layout is called."""
        ignored = self.ignored["train"]
        name, file = ("", self.labels) if self.labels else self._only_labeled()
        if file:
            flat = list_flat(self.root, name, ignored, self.follow_links)
            listed, self.wnids = label_images(flat, file, None, ignored, self.listed)
            layout = f"images with {file.name}"
            self.notes += filter(None, [note_of_splits(file)])
        else:
            self._number_classes([""])
            _refuse_annotations(self.root, self.wnids)
            listed = list_classes(self.root, "", self.wnids, ignored, self.follow_links)
            self._check_folders(listed)
            check_depth(listed, self.root, self.wnids, self.notes)
            _note_splits_beside(self.root, self.notes)
            layout = "CLASS folders"
        self.images = split_off_val(listed, val_fraction, seed)
        return layout

    def _check_folders(self, images: list[SourceImage]) -> None:
        """Compare folders taken for classes with what a table beside them says of their images.

        Raises:
            SourceError: if it names no folder, and the folders differ in a number only.
        """
        with scan(self.root) as entries:
            names = sorted(e.name for e in entries if e.name.lower().endswith((".csv", ".tsv")))
        for name in names:
            if contradicts(self.root / name, images, self.wnids):
                what = (
                    f"{self.root / name} names these images, but not the folders that they are in"
                )
                if (
                    len(self.wnids) > 1
                    and len({wnid.rstrip("0123456789") for wnid in self.wnids}) == 1
                ):
                    raise SourceError(
                        f"{what}, which differ in a number only: {some_names(self.wnids)}.",
                        hint=hint("labels_of_parts", file=self.root / name),
                    )
                self.notes.append(f"warning: {what}, which were taken for the classes")

    def _only_labeled(self) -> tuple[str, Place | None]:
        """Return the only folder of images, by its name, and a file of their labels beside it."""
        names = folder_names(self.root)
        if len(names) <= 1:
            name = names[0] if names else ""
            folder = self.root / name
            file = None if folder_names(folder) else find_label_file(folder, "train")
            if file and names_any(file, list_flat(self.root, name, {}, self.follow_links)):
                self.notes.append(f"labels of {folder}: {file}")
                self.has_label_files = True
                return name, file
        return "", None

    def _number_classes(self, names: list[str]) -> None:
        """Take the class folders of some splits as the classes."""
        found = (class_folders(self.root / n, follow_links=self.follow_links) for n in names)
        folders = distinct(set().union(*found))
        if self.listed and folders:
            self.wnids = self.listed.folders(folders)
            return
        self.wnids = in_class_order(folders)
        if note := order_in_words(self.wnids):
            self.notes.append(note)

    def classes(self) -> tuple[ImageClass, ...]:
        """Return the classes with their names."""
        if self.listed:
            return self.listed.named(self.wnids)
        words = read_words(self.root) if self.has_label_files else {}
        return tuple(ImageClass(wnid, words.get(wnid, wnid)) for wnid in self.wnids)


def _check_options(folder: Place, splits: dict[str, str], val_fraction: float) -> None:
    if val_fraction and "train" in splits:
        raise UsageError(
            f"{folder}: {splits['train']}/ is there, so no share of the images is kept for "
            "validation.",
            hint=hint("leave_out", option="val-fraction"),
        )


def _refuse_annotations(root: Place, wnids: list[str]) -> None:
    """Raise a SourceError if folders of images and of their boxes or masks are no classes."""
    names = {wnid.lower() for wnid in wnids}
    flat = [w for w in wnids if w.lower() in IMAGE_FOLDERS and not folder_names(root / w)]
    if flat and names & set(ANNOTATIONS) and len(names) <= 4:
        raise SourceError(
            f"{root} holds the folders {some_names(wnids)}: images with boxes or masks, without "
            "one class for each image.",
            hint=hint("labels", folder=root / "CLASS", images=_unpacked(root / flat[0])),
        )


def _refuse_unlabeled(root: Place, splits: dict[str, str]) -> None:
    """Raise a SourceError if a split holds images without any label."""
    for name in splits.values():
        if _holds_images(root / name):
            raise SourceError(
                f"{root / name}: images, but no class folders, so they have no labels.",
                hint=hint("labels", folder=root / name / "CLASS", images=_unpacked(root / name)),
            )


def _unpacked(folder: Place) -> str:
    """Return a folder as other commands take it."""
    return f"{folder.name}, once unpacked" if isinstance(folder, Member) else str(folder)


def _only_folder_of_folders(folder: Place) -> Place | None:
    """Return the folder below that holds several folders, if nothing is beside it on the way."""
    names = folder_names(folder)
    if isinstance(folder, Path):
        names = [name for name in names if not is_own_output(str(folder / name))]
    if len(names) != 1 or split_of_folder(names[0]):
        return None
    child = folder / names[0]
    inner = folder_names(child)
    if not inner or _holds_images(child):
        return None
    deeper = _only_folder_of_folders(child)
    return child if deeper is None and (len(inner) > 1 or split_of_folder(inner[0])) else deeper


def _holds_images(folder: Place) -> bool:
    with scan(folder) as entries:
        return any(e.name.lower().endswith(IMAGE_SUFFIXES) and not _is_folder(e) for e in entries)


def _split_folders(root: Place, notes: list[str]) -> dict[str, str]:
    """Return the name of each split's folder; none if all folders are classes.

    A folder is one of a split if it is named like one and holds folders, or is beside one that is.
    """
    names = folder_names(root)
    named: dict[str, list[str]] = {}
    for name in names:
        if split := split_of_folder(name):
            named.setdefault(split, []).append(name)
    named = named or _named_alike(names) or _named_in_parts(root, names)
    if not named:
        return {}
    splits = {split: min(named[split], key=_rank) for split in SPLIT_NAMES if split in named}
    others = [name for name in names if name not in splits.values()]
    unnamed = [name for name in others if not split_of_folder(name)]
    with_folders = [name for name in splits.values() if folder_names(root / name)]
    if not with_folders and list(splits) == ["train"] and unnamed:
        notes.append(f"warning: {root / splits['train']} holds no folders: taken for a class")
        return {}
    if "train" not in splits and unnamed:
        held_out = next(iter(splits.values()))
        raise SourceError(
            f"{root}: {held_out}/ is named like a split, but is beside {some_names(unnamed)}, "
            "and there is no train/.",
            hint=f"Move the class folders into {root / 'train'}; if {held_out} is a class, rename "
            "it.",
        )
    for name in others:
        notes.append(f"warning: {root / name} is not read; the splits are {_in_words(splits)}")
    return splits


def _named_alike(names: list[str]) -> dict[str, list[str]]:
    """Return the folders of splits whose names differ in nothing else: seg_train, seg_test."""
    alike: dict[tuple[str, ...], dict[str, list[str]]] = {}
    for name in names:
        words = words_of(name)
        found = [word for word in words if word in SPLITS]
        if len(found) == 1:
            rest = tuple(word for word in words if word != found[0])
            alike.setdefault(rest, {}).setdefault(SPLITS[found[0]], []).append(name)
    return next((named for named in alike.values() if "train" in named and len(named) > 1), {})


def _named_in_parts(root: Place, names: list[str]) -> dict[str, list[str]]:
    """Return the folders of splits with a number or letter: train.X1, val.X; test1.

    Raises:
        SourceError: if a split is in several.
    """
    found: dict[str, list[str]] = {}
    for name in names:
        if match := PART.fullmatch(name):
            found.setdefault(SPLITS[match["split"].lower()], []).append(name)
    if "train" not in found:
        return {}
    for split, parts in found.items():
        if len(parts) > 1:
            raise SourceError(
                f"{root}: {split} is in {len(parts)} folders: {some_names(parts)}.",
                hint=f"Move what they hold into one folder, {root / split}.",
            )
    return found


def _class_root(root: Place, name: str, notes: list[str]) -> str:
    """Return the path below `root` of the folder of a split's classes; a note names another."""
    inner = _only_folder_of_folders(root / name)
    if inner is None:
        return name
    notes.append(f"{inner} is read, the only folder in {root / name}")
    return str(inner)[len(str(root)) + 1 :]


def _rank(name: str) -> tuple[int, bool]:
    """Return the order in which folders of one split are preferred."""
    names = list(SPLITS)
    return names.index(name.lower()) if name.lower() in names else len(names), name != name.lower()


def _in_words(splits: dict[str, str]) -> str:
    return ", ".join(f"{name}/" for name in splits.values())


def _label_file(folder: Place, split: str, labels: Path | None) -> Place | None:
    """Return the file with the labels of a split, None if they are those of its folders."""
    return (labels or find_label_file(folder, split)) if _is_flat(folder) else None


def _is_flat(folder: Place) -> bool:
    """Return whether a split has no class folders; Tiny ImageNet's val has one named images."""
    return folder_names(folder) in ([], ["images"])


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


def count_unlabeled(folder: Place, ignored: dict[str, int], count: int | None = None) -> str:
    """Count the images of a flat test set, which has no labels; return a line about them."""
    if count is None:
        count = len(list_files(folder, ignored))
    count_ignored(ignored, NO_TEST_LABEL, count)
    where = "unpack them first" if isinstance(folder, Member) else f"alexnet predict {folder}"
    return f"{folder}: {count:,} images without labels are left out; to classify them: {where}"


def _image(name: str, place: Place, length: int, label: int, parent: str) -> SourceImage:
    if isinstance(place, Path):
        return SourceImage(name, place, -1, length, label, parent)
    archive = place.archive
    assert archive is not None
    return SourceImage(name, archive.data, place.offset, place.length, label, parent, archive.codec)


def _note_splits_beside(root: Place, notes: list[str]) -> None:
    """Note the other splits beside a folder of classes that is one split itself."""
    root = root.resolve()
    if split_of_folder(root.name):
        for name in folder_names(root.parent):
            if split_of_folder(name) and name != root.name:
                notes.append(
                    f"warning: {root.parent / name} is not read; to read both, name {root.parent}"
                )


def check_depth(images: list[SourceImage], root: Place, wnids: list[str], notes: list[str]) -> None:
    """Compare how deep the images are with what the folders were taken for.

    Raises:
        SourceError: if folders taken for classes are splits, or hold the classes.
    """
    _check_names_of_masks(images, root, notes)
    names = [image.name for image in images]
    while True:
        inner: dict[str, set[str]] = {}  # folders within a class that has no image of its own
        flat: set[str] = set()
        for image, name in zip(images, names, strict=True):
            first, slash, _ = name.partition("/")
            wnid = wnids[image.label]
            if slash:
                inner.setdefault(wnid, set()).add(first)
            else:
                flat.add(wnid)
        deep = {wnid: found for wnid, found in sorted(inner.items()) if wnid not in flat}
        if not deep:
            return
        all_names = [name for found in deep.values() for name in found]
        if len(set(all_names)) > 1 or split_of_folder(all_names[0]):
            break
        if flat:
            return
        # Such as the folder `images` in every class of Tiny ImageNet: look into it.
        names = [name.partition("/")[2] for name in names]
    if any(map(split_of_folder, all_names)):
        wnid = next(w for w, names in deep.items() if any(map(split_of_folder, names)))
        inside = sorted(deep[wnid])
        split = next(name for name in inside if split_of_folder(name))
        has_classes = any(image.name.count("/") > 1 for image in images)
        better = (
            f"Name the folder of the splits: {root / wnid}"
            if len(deep) == 1 or has_classes
            else f"Move them, so that {split}/ holds the classes: {root / split / wnid}"
        )
        raise SourceError(
            f"{root / wnid} was taken for a class, but holds no images, only "
            f"{', '.join(f'{name}/' for name in inside[:5])}.",
            hint=better,
        )
    kinds = {name.lower() for name in all_names}
    if kinds & set(ANNOTATIONS) and kinds <= {*IMAGE_FOLDERS, *ANNOTATIONS}:
        raise SourceError(
            f"{root}: each class holds the folders {some_names(sorted(set(all_names)))}, and "
            "masks or boxes are no images of it.",
            hint="Move the folders of masks or boxes out of the classes.",
        )
    wnid, found = min(deep.items(), key=lambda item: item[0].lower() not in IMAGE_FOLDERS)
    if len(all_names) > len(set(all_names)) or (not flat and len(wnids) > len(deep) == 1):
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


def _check_names_of_masks(images: list[SourceImage], root: Place, notes: list[str]) -> None:
    """Note images that are named like the masks of others: 1.png and 1_mask.png."""
    named = (image for image in images if "mask" in (low := image.name.lower()) or "seg" in low)
    masks = [(image, match[1]) for image in named if (match := MASK.fullmatch(image.name))]
    if masks:
        others = {image.parent + image.name.rpartition(".")[0] for image in images}
        masks = [(image, stem) for image, stem in masks if image.parent + stem in others]
    if masks:
        notes.append(
            f"warning: {len(masks):,} images of {root} are named like masks of others and are read "
            f"as images, the first {on_one_line(masks[0][0].source)}; to leave them out, move them"
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
            if _holds_images(folder / split)
            else "Add its class folders, or remove it.",
        )
    return others


def _quoted(path: Place) -> str:
    return shlex.quote(on_one_line(str(path)))


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


LAYOUT = Layout(
    "folders",
    "train/CLASS with val/CLASS or test/CLASS folders, or CLASS folders",
    read_folders,
    ("val_fraction", "seed", "follow_links", "labels", "classes"),
)
