"""The development kit of ILSVRC: classes, and the labels of the validation images.

A label is a position in the sorted wnids. The kit's own ids follow another order: taken for labels
they permute every class.
"""

from dataclasses import dataclass
from pathlib import Path

from alexnet_cli.data.sources.meta_mat import MetaError, read_leaves
from alexnet_cli.errors import SourceError
from alexnet_cli.io.tar import DamagedTarError, read_small_tar
from alexnet_cli.types import ImageClass

META, GROUND_TRUTH = "meta.mat", "validation_ground_truth.txt"  # endings of their names
MAX_MEMBER_BYTES = 1 << 26
DOWNLOAD_AGAIN = "Download the development kit again."


@dataclass(frozen=True, slots=True)
class DevKit:
    """The content of a development kit."""

    classes: tuple[ImageClass, ...]  # the leaf synsets in sorted-wnid order
    label_of_id: dict[int, int]  # by the ids that the kit's own files use
    val_labels: tuple[int, ...]  # of the validation images, in file-name order


def read_devkit(path: Path) -> DevKit:
    """Read `ILSVRC2012_devkit_t12.tar.gz` or its 2010 counterpart, in memory."""
    try:
        found = read_small_tar(path, _ending, MAX_MEMBER_BYTES)
    except DamagedTarError as error:
        raise SourceError(
            f"{path}: not a readable development kit ({error}).", hint=DOWNLOAD_AGAIN
        ) from error
    for ending in (META, GROUND_TRUTH):
        if not found.get(ending):
            raise SourceError(f"{path}: no *{ending} inside.", hint=DOWNLOAD_AGAIN)
    try:
        leaves = read_leaves(found[META])
    except MetaError as error:
        raise SourceError(f"{path}: meta.mat is damaged ({error}).", hint=DOWNLOAD_AGAIN) from error
    words = {wnid: text for _, wnid, text in leaves}
    label_of_wnid = {wnid: label for label, wnid in enumerate(sorted(words))}
    label_of_id = {number: label_of_wnid[wnid] for number, wnid, _ in leaves}
    if not len(words) == len(label_of_id) == len(leaves):
        raise SourceError(f"{path}: meta.mat names a class twice.", hint=DOWNLOAD_AGAIN)
    val_labels = read_ground_truth(path, "validation", found[GROUND_TRUTH], label_of_id)
    classes = tuple(ImageClass(wnid, words[wnid]) for wnid in label_of_wnid)
    return DevKit(classes, label_of_id, val_labels)


def _ending(name: str) -> str | None:
    return next((ending for ending in (META, GROUND_TRUTH) if name.endswith(ending)), None)


def read_ground_truth(
    path: Path, split: str, text: bytes, label_of_id: dict[int, int]
) -> tuple[int, ...]:
    """Return the labels that a ground truth file lists, one id of the kit per line."""
    try:
        return tuple(label_of_id[int(line)] for line in text.split())
    except (KeyError, ValueError) as error:
        raise SourceError(
            f"{path}: the {split} ground truth has {error}, which is no class id of meta.mat.",
            hint=DOWNLOAD_AGAIN,
        ) from error
