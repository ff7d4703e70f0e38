"""Which output of a network each class of a dataset means: the same, a subset, or another order.

A wnid or the name of a folder says which class is meant; a number does not, because the folders of
another dataset may be numbered otherwise. Numbers are only taken for the same if both have the same
list of classes.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path

import numpy as np

from alexnet_cli.data.imagenet_classes import shown_name
from alexnet_cli.data.shards.dataset import Dataset
from alexnet_cli.data.sources.class_list import (
    WNID,
    are_numbers,
    named_class,
    normal_name,
    read_class_list,
)
from alexnet_cli.errors import CheckpointError, DatasetError, hint, on_one_line
from alexnet_cli.types import ImageClass


@dataclass(frozen=True, slots=True)
class ClassMap:
    """The output of a network that each class of a dataset means.

    Attributes:
        outputs: label of the network's output for each class of the dataset, in label order.
        classes: of all outputs of the network, in label order.
        matched_by: "order" if both have the same list of classes; otherwise "wnid", "name" or
            "wnid and name".
    """

    outputs: tuple[int, ...]
    classes: tuple[ImageClass, ...]
    matched_by: str

    @property
    def is_subset(self) -> bool:
        """Whether the network knows classes that the dataset does not have."""
        return len(self.outputs) < len(self.classes)

    def labels(self, labels: np.ndarray) -> np.ndarray:
        """Return the network's labels, int64 (N,), for labels of the dataset."""
        return np.array(self.outputs, np.int64)[labels]


def same_classes(classes: Sequence[ImageClass]) -> ClassMap:
    """Return the map of a network and a dataset with the same list of classes."""
    return ClassMap(tuple(range(len(classes))), tuple(classes), "order")


def first_difference(mine: Sequence[str], theirs: Sequence[str]) -> tuple[int, str, str] | None:
    """Return the first label at which two lists of wnids differ, and both wnids."""
    pairs = zip_longest(mine, theirs, fillvalue="none")
    return next(((label, a, b) for label, (a, b) in enumerate(pairs) if a != b), None)


def map_classes(model: str, model_classes: Sequence[tuple[str, str]], dataset: Dataset) -> ClassMap:
    """Find the output of a network that each class of a dataset means.

    Args:
        model: name of the network, for messages.
        model_classes: (wnid, name) of its outputs in label order.

    Raises:
        CheckpointError: if the network does not know a class, two classes mean the same output,
            or a name may mean several.
    """
    outputs = tuple(ImageClass(wnid, name) for wnid, name in model_classes)
    if _is_same_list(outputs, dataset.classes):
        return same_classes(outputs)
    finder = _Finder(outputs)
    found = [finder.find(entry) for entry in dataset.classes]
    _check_known(model, dataset, [not labels for labels, _ in found])
    _check_unambiguous(model, outputs, dataset, [labels for labels, _ in found])
    labels = [labels[0] for labels, _ in found]
    _check_distinct(model, outputs, dataset, labels)
    matched_by = " and ".join(sorted({how for _, how in found}, reverse=True))
    return ClassMap(tuple(labels), outputs, matched_by)


def _is_same_list(outputs: Sequence[ImageClass], classes: Sequence[ImageClass]) -> bool:
    """Return whether two lists are the same; numbers are not, if their names contradict them."""
    if first_difference([c.wnid for c in outputs], [c.wnid for c in classes]):
        return False
    return not any(
        are_numbers([a.wnid]) and _is_named(a) and _is_named(b) and not _share_a_name(a, b)
        for a, b in zip(outputs, classes, strict=True)
    )


def _is_named(entry: ImageClass) -> bool:
    return entry.name != entry.wnid


def _texts(entry: ImageClass) -> list[str]:
    """Return the texts that say in words which class is meant; ImageNet's for its wnids."""
    if re.fullmatch(WNID, entry.wnid) or are_numbers([entry.wnid]):
        name = shown_name(entry.wnid, entry.name)
        return [name] if name != entry.wnid else []
    return [entry.name, entry.wnid] if _is_named(entry) else [entry.name]


def _synonyms(texts: Iterable[str]) -> set[str]:
    """Return the words between commas; case, underscores and hyphens make no difference."""
    words = (word for text in texts for word in text.split(","))
    return {normal_name(word.replace("-", " ")) for word in words} - {""}


def _share_a_name(a: ImageClass, b: ImageClass) -> bool:
    return bool(_synonyms(_texts(a)) & _synonyms(_texts(b)))


class _Finder:
    """The outputs of a network by wnid, by whole name and by synonym."""

    def __init__(self, outputs: Sequence[ImageClass]):
        self.outputs = outputs
        self.by_wnid: dict[str, list[int]] = defaultdict(list)
        self.by_text: dict[str, list[int]] = defaultdict(list)
        self.by_synonym: dict[str, list[int]] = defaultdict(list)
        for label, entry in enumerate(outputs):
            if not are_numbers([entry.wnid]):
                self.by_wnid[entry.wnid].append(label)
            for text in _texts(entry):
                self.by_text[text].append(label)
            for word in _synonyms(_texts(entry)):
                self.by_synonym[word].append(label)

    def find(self, entry: ImageClass) -> tuple[list[int], str]:
        """Return the outputs that a class may mean, and by what; none if it is unknown."""
        if entry.wnid in self.by_wnid:
            return self.by_wnid[entry.wnid], "wnid"
        texts = _texts(entry)
        whole = self._allowed(entry, (n for text in texts for n in self.by_text.get(text, ())))
        if whole:
            return whole, "name"
        words = _synonyms(texts)
        return self._allowed(
            entry, (n for word in words for n in self.by_synonym.get(word, ()))
        ), "name"

    def _allowed(self, entry: ImageClass, labels: Iterable[int]) -> list[int]:
        """Return labels once, without those whose wnid says that another class is meant."""
        has_wnid = re.fullmatch(WNID, entry.wnid)
        return sorted(
            {
                label
                for label in labels
                if not (has_wnid and re.fullmatch(WNID, self.outputs[label].wnid))
            }
        )


def _check_known(model: str, dataset: Dataset, unknown: list[bool]) -> None:
    labels = [label for label, is_unknown in enumerate(unknown) if is_unknown]
    if not labels:
        return
    first = dataset.classes[labels[0]]
    if are_numbers([first.wnid]) and not _is_named(first):
        advice = hint("name_classes" if dataset.streamed else "class_names")
        problem = (
            f"{dataset.name}: its classes are numbers, which do not say what class "
            f"{first.wnid} is called in {model}"
        )
    else:
        advice = hint("known_classes")
        problem = (
            f"{dataset.name}: classes unknown to {model}: {len(labels)} of {len(unknown)}, first "
            f"{labels[0]}, {_shown(first)}"
        )
    raise CheckpointError(f"{problem}.", hint=advice)


def _check_unambiguous(
    model: str, outputs: Sequence[ImageClass], dataset: Dataset, found: list[list[int]]
) -> None:
    several = [label for label, labels in enumerate(found) if len(labels) > 1]
    if not several:
        return
    first = several[0]
    choice = " or ".join(f"{n} ({outputs[n].wnid})" for n in found[first][:3])
    raise CheckpointError(
        f"{dataset.name}: classes that may mean several of {model}: {len(several)} of "
        f"{len(found)}, first {first}, {_shown(dataset.classes[first])}: {on_one_line(choice)}.",
        hint=hint("class_names"),
    )


def _check_distinct(
    model: str, outputs: Sequence[ImageClass], dataset: Dataset, labels: list[int]
) -> None:
    first_of: dict[int, int] = {}
    doubles = [
        (first_of[output], label, output)
        for label, output in enumerate(labels)
        if first_of.setdefault(output, label) != label
    ]
    if not doubles:
        return
    a, b, output = doubles[0]
    raise CheckpointError(
        f"{dataset.name}: classes that mean the same as another: {len(doubles)} of {len(labels)}, "
        f"first {b}, {_shown(dataset.classes[b])}, as {a}, {_shown(dataset.classes[a])}: both are "
        f"class {output} of {model}, {_shown(outputs[output])}.",
        hint=hint("known_classes"),
    )


def _shown(entry: ImageClass) -> str:
    name = shown_name(entry.wnid, entry.name)
    return on_one_line(f"{entry.wnid} ({name})" if name != entry.wnid else name)


def with_class_names(dataset: Dataset, path: Path) -> Dataset:
    """Return a dataset whose classes are called what a file says.

    Line n, counted from 0, names the class whose folder is the number n; if the folders are not
    all numbers, the class of label n. Numbers count from 1 if the last is the number of lines. A
    line is a name, or a wnid and a name.

    Raises:
        SourceError: if the file is not a list of names.
        DatasetError: if it does not have a name for every class, or contradicts a class.
    """
    names = [named_class(name) for name in read_class_list(path).names]
    classes = dataset.classes
    if are_numbers(entry.wnid for entry in classes):
        lines = [int(entry.wnid) for entry in classes]
        if min(lines) > 0 and max(lines) == len(names):
            lines = [line - 1 for line in lines]
    elif len(names) == len(classes):
        lines = list(range(len(classes)))
    else:
        raise DatasetError(f"{path}: {len(names)} names for the {len(classes)} of {dataset.name}.")
    lines_of = {word: n for n, named in enumerate(names) for word in _synonyms(_texts(named))}
    found = []
    for entry, line in zip(classes, lines, strict=True):
        if line >= len(names):
            raise DatasetError(
                f"{path}: no name for class {entry.wnid} of {dataset.name}; the file names the "
                f"classes 0 to {len(names) - 1}.",
                hint="The first line is the name of class 0, not of class 1.",
            )
        named = names[line]
        is_elsewhere = any(word in lines_of for word in _synonyms(_texts(entry)))
        if _contradict(entry, named) or (is_elsewhere and not _share_a_name(entry, named)):
            raise DatasetError(
                f"{path}: class {line} is {_shown(named)}, in {dataset.name} it is {_shown(entry)}."
            )
        found.append(named)
    return replace(dataset, classes=tuple(found))


def _contradict(entry: ImageClass, named: ImageClass) -> bool:
    """Return whether a class has a wnid or words of its own that are not those of a file."""
    both_wnids = all(re.fullmatch(WNID, c.wnid) for c in (entry, named))
    if both_wnids:
        return entry.wnid != named.wnid
    has_words = _is_named(entry) and bool(_texts(entry))
    return has_words and bool(_texts(named)) and not _share_a_name(entry, named)
