"""Class folders: `train/CLASS/*` with `val/CLASS/*` and `test/CLASS/*`, or `CLASS/*` alone."""

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from alexnet_cli.data.sources.class_list import (
    ClassList,
    distinct,
    in_class_order,
    look_alikes,
    order_in_words,
    shown,
)
from alexnet_cli.data.sources.folder_checks import (
    check_classes,
    check_depth,
    refuse_annotations,
    refuse_unlabeled,
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
from alexnet_cli.data.sources.listing import (
    class_folders,
    folder_names,
    list_classes,
    list_files,
    list_flat,
)
from alexnet_cli.data.sources.members import Member, Place, scan
from alexnet_cli.data.sources.source import (
    NO_TEST_LABEL,
    Layout,
    Source,
    SourceImage,
    count_ignored,
    split_off_val,
)
from alexnet_cli.data.sources.split_folders import (
    class_root,
    find_split_folders,
    note_splits_beside,
    only_folder_of_folders,
)
from alexnet_cli.errors import SourceError, UsageError, counted, hint, some_names
from alexnet_cli.types import ImageClass


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
    root = only_folder_of_folders(folder) or folder
    listing = _Listing(root, labels, follow_links, classes)
    if root != folder:
        listing.notes.append(f"{root} is read, the only folder in {folder}")
    splits = find_split_folders(root, listing.notes)
    splits = {split: class_root(root, name, listing.notes) for split, name in splits.items()}
    if splits:
        _check_options(folder, splits, val_fraction)
        layout = listing.add_splits(splits)
    else:
        layout = listing.add_one_set(val_fraction, seed)
    if not listing.wnids:
        refuse_unlabeled(root, splits)
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
            refuse_annotations(self.root / name, class_folders(self.root / name))
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
            refuse_annotations(self.root, self.wnids)
            listed = list_classes(self.root, "", self.wnids, ignored, self.follow_links)
            self._check_folders(listed)
            check_depth(listed, self.root, self.wnids, self.notes)
            note_splits_beside(self.root, self.notes)
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


def _label_file(folder: Place, split: str, labels: Path | None) -> Place | None:
    """Return the file with the labels of a split, None if they are those of its folders."""
    return (labels or find_label_file(folder, split)) if _is_flat(folder) else None


def _is_flat(folder: Place) -> bool:
    """Return whether a split has no class folders; Tiny ImageNet's val has one named images."""
    return folder_names(folder) in ([], ["images"])


def count_unlabeled(folder: Place, ignored: dict[str, int], count: int | None = None) -> str:
    """Count the images of a flat test set, which has no labels; return a line about them."""
    if count is None:
        count = len(list_files(folder, ignored))
    count_ignored(ignored, NO_TEST_LABEL, count)
    left_out = counted(count, "image without a label is", "images without labels are")
    where = "unpack them first" if isinstance(folder, Member) else f"alexnet predict {folder}"
    return f"{folder}: {left_out} left out; to classify them: {where}"


LAYOUT = Layout(
    "folders",
    "train/CLASS with val/CLASS or test/CLASS folders, or CLASS folders",
    read_folders,
    ("val_fraction", "seed", "follow_links", "labels", "classes"),
)
