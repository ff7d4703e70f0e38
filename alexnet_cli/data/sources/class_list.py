"""What the classes are called, in label order: the user's list, and what images say beside it."""

import json
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from alexnet_cli.errors import SourceError, hint, on_one_line
from alexnet_cli.types import ImageClass

NAMES_FILES = ("classes.txt", "classes.json")
WNID = r"n\d{8}"
WNID_AND_WORDS = re.compile(rf"({WNID})[\s,;:]*(.*)")  # n01440764 tench, Tinca tinca
NUMBERED = re.compile(r"([0-9]{1,9})[\s,;:]+(\S.*)")  # 0 tench, or 1 001.Black_footed_Albatross
MAX_FILE_BYTES = 1 << 26
FROM_1 = "Labels count from 0, and these seem to count from 1: subtract 1 from each."


def composed(name: str) -> str:
    """Return a name in composed Unicode form; the forms look alike, and systems change them."""
    return unicodedata.normalize("NFC", name)


def distinct(names: Iterable[str]) -> list[str]:
    """Return names in one of their Unicode forms each."""
    return list({composed(name): name for name in sorted(names, reverse=True)}.values())


def normal_name(text: str) -> str:
    """Return a name as names of classes are compared: without case, underscores, Unicode form."""
    return " ".join(composed(text).casefold().replace("_", " ").split())


def in_class_order(names: Iterable[str]) -> list[str]:
    """Return names of classes in label order: numbers by number, anything else as text."""
    names = sorted(names)
    return sorted(names, key=int) if are_numbers(names) else names


def order_in_words(names: list[str]) -> str:
    """Return what may surprise of names in label order; "" if nothing does."""
    as_text, by_number = sorted(names), sorted(names, key=_by_number)
    if as_text == by_number:
        return ""
    label = next(n for n, name in enumerate(as_text) if name != by_number[n])
    if names == as_text:
        return (
            f"warning: classes are in the order of texts: label {label} is {names[label]}, and "
            f"{by_number[label]} comes after it"
        )
    return (
        f"classes are in the order of their numbers: label {label} is {names[label]}, not "
        f"{as_text[label]} as in the order of texts"
    )


def _by_number(name: str) -> tuple[str, int, str]:
    """Return the order of names that are alike but for a number at their end."""
    match = re.fullmatch(r"(.*?)([0-9]{1,18})", name)
    return (match[1], int(match[2]), name) if match else (name, -1, name)


def label_of(text: str, wnids: list[str], origin: object) -> int:
    """Return the label of a text that is a class's name, or its position.

    Where the names themselves are numbers, a number is a name, whatever zeros it begins with.

    Raises:
        SourceError: if there is no such class; `origin` is the file that has the text.
    """
    for name in (text, text.partition(" ")[0]):  # boxes follow in Kaggle's file
        if name in wnids:
            return wnids.index(name)
    is_number, has_numbers = are_numbers([text]), are_numbers(wnids)
    if is_number and has_numbers:
        same = [label for label, wnid in enumerate(wnids) if int(wnid) == int(text)]
    else:
        same = [label for label, wnid in enumerate(wnids) if composed(wnid) == composed(text)]
    if len(same) == 1:
        return same[0]
    if is_number and not has_numbers and int(text) < len(wnids):
        return int(text)
    twin = twin_of(text, wnids)
    if not wnids:
        advice = "Add training images."
    elif text == str(len(wnids)):
        advice = FROM_1
    elif is_number and has_numbers:
        advice = f"These classes are numbers, from {wnids[0]} to {wnids[-1]}: write those."
    else:
        advice = f"A class is a name, such as {wnids[0]!r}, or its position in sorted order from 0."
    raise SourceError(
        f"{origin}: class {shown(text[:80])} is none of the {len(wnids)} training classes"
        f"{f'; there is {shown(twin)}' if twin else ''}.",
        hint=advice,
    )


def are_numbers(names: Iterable[str]) -> bool:
    """Return whether all names are numbers, such as 0 or 007."""
    return all(re.fullmatch(r"[0-9]{1,18}", name) for name in names)


def shown(name: str) -> str:
    """Return a name as a message shows it beside one that may look the same."""
    points = " ".join(f"U+{ord(c):04X}" for c in name if not c.isascii())
    return f"{on_one_line(name)!r}" + (f" ({points})" if points else "")


def twin_of(name: str, names: Iterable[str]) -> str | None:
    """Return the name that looks like another one, or is the same number."""
    key = _look(name)
    return next((other for other in names if _look(other) == key), None)


def look_alikes(names: Iterable[str]) -> tuple[str, str] | None:
    """Return the first two names that look alike, or are the same number; None if none do."""
    seen: dict[str, str] = {}
    for name in names:
        if (twin := seen.setdefault(_look(name), name)) != name:
            return twin, name
    return None


def _look(name: str) -> str:
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    if are_numbers([text]):
        return str(int(text))
    return "".join(c for c in text if c.isalnum()) or name


@dataclass(frozen=True, slots=True)
class ClassList:
    """The names of classes in label order.

    Attributes:
        names: each a wnid, words, or a wnid and words.
        origin: where they come from, for people.
    """

    names: tuple[str, ...]
    origin: str
    _labels: dict[str, set[int]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        for label, name in enumerate(self.names):
            wnid, words = split_wnid(name)
            for text in (wnid, words, *words.split(",")):
                if normal := normal_name(text):
                    self._labels.setdefault(normal, set()).add(label)

    def classes(self) -> tuple[ImageClass, ...]:
        """Return the classes if every name begins with a wnid, otherwise none."""
        parts = [split_wnid(name) for name in self.names]
        if not all(wnid for wnid, _ in parts):
            return ()
        return tuple(ImageClass(wnid, words or wnid) for wnid, words in parts)

    def folders(self, found: Iterable[str]) -> list[str]:
        """Return the name of each class's folder in label order; some may not be there.

        Folders that are numbers count from 0, or from 1 if the last is the number of classes.

        Raises:
            SourceError: if a folder is no class of the list, or two are the same.
        """
        folders = in_class_order(found)
        numbers = bool(folders) and are_numbers(folders)
        from_1 = numbers and int(folders[0]) > 0 and int(folders[-1]) == len(self.names)
        first = 1 if from_1 else 0
        by_label: dict[int, str] = {}
        for folder in folders:
            labels = {int(folder) - first} if numbers else self.labels_of(folder)
            label = min(labels, default=len(self.names))
            if len(labels) > 1 or label >= len(self.names):
                what = f"has the name of {len(labels)}" if len(labels) > 1 else "is none"
                raise SourceError(
                    f"{self.origin}: class {shown(folder)} {what} of its "
                    f"{len(self.names)} classes.",
                    hint="A line is the name of a class; numbered folders are its position from 0.",
                )
            if by_label.setdefault(label, folder) != folder:
                raise SourceError(
                    f"{self.origin}: {shown(by_label[label])} and {shown(folder)} are names of "
                    f"one class, {self.names[label]!r}."
                )
        return [
            by_label.get(label, str(label + first) if numbers else split_wnid(name)[0] or name)
            for label, name in enumerate(self.names)
        ]

    def named(self, folders: list[str]) -> tuple[ImageClass, ...]:
        """Return the classes whose folders, in label order, have these names."""
        parts = [split_wnid(name) for name in self.names]
        return tuple(
            ImageClass(wnid or folder, words or wnid)
            for (wnid, words), folder in zip(parts, folders, strict=True)
        )

    def labels_of(self, text: str) -> set[int]:
        """Return the labels of the classes that a text names: by wnid, words or one synonym."""
        return self._labels.get(normal_name(text), set())

    def check(self, label: int, says: str, text: str, where: str) -> None:
        """Raise a SourceError if an image with this label is called by another class's name.

        Args:
            says: what of the image has the text.
            where: names the image.
        """
        named = self.labels_of(text)
        own = split_wnid(self.names[label])[0]
        is_other = own and own != text if re.fullmatch(WNID, text) else named
        if label in named or not is_other:
            return
        found = f"; {on_one_line(text)!r} is label {min(named)} there" if named else ""
        raise SourceError(
            f"{where}: {says} says {on_one_line(text)!r}, but its label is {label}, which is "
            f"{on_one_line(self.names[label])!r} in {self.origin}{found}.",
            kept="Nothing was written.",
            hint=FROM_1 if label - 1 in named else hint("name_class_list"),
        )


def list_of(classes: Iterable[ImageClass]) -> ClassList:
    """Return the list that gave classes their names."""
    names = (f"{c.wnid} {c.name}" if split_wnid(c.wnid)[0] else c.name for c in classes)
    return ClassList(tuple(names), "the dataset's index")


def split_wnid(name: str) -> tuple[str, str]:
    """Return the wnid that a name begins with, if any, and its words."""
    match = WNID_AND_WORDS.fullmatch(name)
    return (match[1], match[2]) if match else ("", name)


def named_class(name: str) -> ImageClass:
    """Return the class that a name of a list means; without a wnid its name is its wnid too."""
    wnid, words = split_wnid(name)
    return ImageClass(wnid or words, words or wnid)


def names_beside(folder: Path) -> ClassList | None:
    """Return the names in a file in the folder of the images, if there is one."""
    path = next((folder / name for name in NAMES_FILES if (folder / name).is_file()), None)
    return read_class_list(path) if path else None


def read_class_list(path: Path) -> ClassList:
    """Read the name of each class, one per line or as JSON in any of the usual forms.

    Lines may begin with the numbers of the classes, from 0 or 1. The forms of JSON are a list, or
    an object: `{"0": ["n01440764", "tench"]}`, `{"0": "tench"}` or `{"tench": 0}`.

    Raises:
        SourceError: if it cannot be read, has no names, or one wnid twice.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise SourceError(f"{path}: over {MAX_FILE_BYTES >> 20} MB, no list of classes.")
        text = path.read_text(encoding="utf-8-sig")
        names = _names_in(json.loads(text)) if path.suffix == ".json" else _names_of_lines(text)
    except (OSError, ValueError, RecursionError) as error:
        why = on_one_line(getattr(error, "strerror", None) or str(error))
        raise SourceError(f"{path}: not readable ({why}).") from error
    if not names:
        raise SourceError(
            f"{path}: not a list of class names in label order.",
            hint="Write one name per line; the first is that of label 0.",
        )
    if "" in names:
        raise SourceError(f"{path}: the name of label {names.index('')} is empty.")
    _check_different(path, [split_wnid(name)[0] for name in names])
    return ClassList(tuple(names), str(path))


def _names_of_lines(text: str) -> list[str]:
    names = [line.strip() for line in text.rstrip().splitlines()]
    numbered = [match for name in names if (match := NUMBERED.fullmatch(name))]
    by_number = {int(match[1]): match[2] for match in numbered}
    numbers = sorted(by_number)
    if names and numbers in ([*range(len(names))], [*range(1, len(names) + 1)]):
        return [by_number[number] for number in numbers]
    return names


def _names_in(content: object) -> list[str]:
    """Return the names in a JSON list or object, none if it is neither."""
    if isinstance(content, dict):
        if all(type(label) is int for label in content.values()):
            content = {str(label): name for name, label in content.items()}
        by_number = [content.get(str(label)) for label in range(len(content))]
        content = [" ".join(map(str, n)) if isinstance(n, list) else n for n in by_number]
    if isinstance(content, list) and all(isinstance(name, str) for name in content):
        return [name.strip() for name in content]
    return []


def _check_different(path: Path, wnids: Iterable[str]) -> None:
    seen: dict[str, int] = {}
    for label, wnid in enumerate(wnids):
        if wnid and seen.setdefault(wnid, label) != label:
            raise SourceError(f"{path}: {wnid} is the name of labels {seen[wnid]} and {label}.")
