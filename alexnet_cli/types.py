"""Small values that several packages share."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ImageClass:
    """One class: its wnid (or folder name) and the words people use for it."""

    wnid: str
    name: str
