"""How many images each class of a dataset has in each split."""

from dataclasses import dataclass

import numpy as np

from alexnet_cli.data.imagenet_classes import shown_name
from alexnet_cli.data.shards.dataset import Dataset


@dataclass(frozen=True, slots=True)
class ClassCount:
    """One class of a dataset.

    Attributes:
        images: their number in each split, by its name.
    """

    wnid: str
    name: str
    images: dict[str, int]


def count_classes(dataset: Dataset) -> list[ClassCount]:
    """Count the images of every class, in label order."""
    counts = {
        name: np.bincount(split.labels, minlength=len(dataset.classes)).tolist()
        for name, split in dataset.splits.items()
    }
    return [
        ClassCount(
            entry.wnid,
            shown_name(entry.wnid, entry.name),
            {name: of_split[label] for name, of_split in counts.items()},
        )
        for label, entry in enumerate(dataset.classes)
    ]
