"""Classes and their numbers: a label is a position in the sorted wnids, never a devkit id.

Reads the development kit of ILSVRC (meta.mat and the validation ground truth), whose own ids follow
another order: taken for labels they permute every class.
"""

from dataclasses import dataclass
from pathlib import Path

from alexnet_cli.data.sources.meta_mat import MetaError, read_leaves
from alexnet_cli.errors import SourceError
from alexnet_cli.io.tar import TAR_FAULTS, read_small_tar

MEMBERS = ("meta.mat", "validation_ground_truth.txt")  # endings of their names
MAX_MEMBER_BYTES = 1 << 26


@dataclass(frozen=True, slots=True)
class ImageClass:
    """One class: its wnid (or folder name) and the words people use for it."""

    wnid: str
    name: str


@dataclass(frozen=True, slots=True)
class DevKit:
    """What a development kit knows.

    Attributes:
        classes: the leaf synsets in sorted-wnid order; positions are labels.
        label_of_id: the label of each id that the kit's own files use for a class.
        val_labels: the label of each validation image, in file-name order.
    """

    classes: tuple[ImageClass, ...]
    label_of_id: dict[int, int]
    val_labels: tuple[int, ...]


def read_devkit(path: Path) -> DevKit:
    """Read `ILSVRC2012_devkit_t12.tar.gz` or its 2010 counterpart, in memory.

    Raises:
        SourceError: a part is missing, damaged or contradicts another.
    """
    meta, ground_truth = _read_members(path)
    wnid_of_id, words = _read_synsets(path, meta)
    wnids = sorted(words)
    label_of_wnid = {wnid: label for label, wnid in enumerate(wnids)}
    label_of_id = {number: label_of_wnid[wnid] for number, wnid in wnid_of_id.items()}
    val_labels = read_ground_truth(path, "validation", ground_truth, label_of_id)
    return DevKit(tuple(ImageClass(wnid, words[wnid]) for wnid in wnids), label_of_id, val_labels)


def read_ground_truth(
    path: Path, split: str, text: bytes, label_of_id: dict[int, int]
) -> tuple[int, ...]:
    """Return the labels that a ground truth file lists, one id of the kit a line.

    Raises:
        SourceError: a line is no such id.
    """
    try:
        return tuple(label_of_id[int(line)] for line in text.split())
    except (KeyError, ValueError) as error:
        raise SourceError(
            f"{path}: the {split} ground truth has {error}, which is no class id of meta.mat."
        ) from error


def _read_members(path: Path) -> tuple[bytes, bytes]:
    try:
        found = read_small_tar(path, _ending, MAX_MEMBER_BYTES)
    except TAR_FAULTS as error:
        why = str(error).split("\n")[0].rstrip(":")
        raise SourceError(f"{path}: not a readable development kit ({why}).") from error
    for ending in MEMBERS:
        if not found.get(ending):
            raise SourceError(f"{path}: no *{ending} inside. Download the development kit again.")
    return found[MEMBERS[0]], found[MEMBERS[1]]


def _ending(name: str) -> str | None:
    return next((ending for ending in MEMBERS if name.endswith(ending)), None)


def _read_synsets(path: Path, meta: bytes) -> tuple[dict[int, str], dict[str, str]]:
    """Return wnid by devkit id, and words by wnid, of the leaf synsets (those with images)."""
    try:
        leaves = read_leaves(meta)
    except MetaError as error:
        raise SourceError(f"{path}: meta.mat is damaged ({error}).") from error
    wnid_of_id = {number: wnid for number, wnid, _ in leaves}
    words_of = {wnid: words for _, wnid, words in leaves}
    if len(words_of) != len(leaves) or len(wnid_of_id) != len(leaves):
        raise SourceError(f"{path}: meta.mat names a class twice.")
    return wnid_of_id, words_of
