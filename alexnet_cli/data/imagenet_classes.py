"""The 1,000 classes of ILSVRC-2012 to 2017: WordNet ids and the words people use for them.

The wnids and words are WordNet's, as ImageNet's challenge lists them, sorted by wnid. That is the
label order of prep, of torchvision and of Caffe.
"""

from collections.abc import Sequence
from functools import cache
from importlib import resources

from alexnet_cli.errors import UsageError, did_you_mean
from alexnet_cli.types import ImageClass

FILE_NAME = "imagenet_classes.tsv"


@cache
def imagenet_classes() -> tuple[ImageClass, ...]:
    """Return the classes in label order."""
    text = resources.files("alexnet_cli.data").joinpath(FILE_NAME).read_text("ascii")
    rows = (line.split("\t") for line in text.splitlines())
    return tuple(ImageClass(wnid, words) for wnid, words in rows)


@cache
def _words() -> dict[str, str]:
    return {entry.wnid: entry.name for entry in imagenet_classes()}


def shown_name(wnid: str, name: str) -> str:
    """Return the words to show for a class: its name, or ImageNet's where that is only its wnid.

    Class folders named by wnid leave datasets and models without words; the files keep what they
    have, and only what is shown changes. A class without any words is shown by its wnid.
    """
    return name if name.strip() and name != wnid else _words().get(wnid, wnid)


def find_class(classes: Sequence[tuple[str, str]], wanted: str) -> int:
    """Return the label of a class named by its wnid, its name, or one of its words.

    Raises:
        UsageError: if there is no such class, or several.
    """
    text = wanted.casefold()

    def words(wnid: str, name: str) -> list[str]:
        name = shown_name(wnid, name).casefold()
        return [wnid.casefold(), name, *(word.strip() for word in name.split(","))]

    found = [label for label, entry in enumerate(classes) if text in words(*entry)]
    if len(found) == 1:
        return found[0]
    usual = "Name it as predict shows it, or by its wnid."
    if found:
        some = ", ".join(classes[label][0] for label in found[:3])
        raise UsageError(f"class {wanted!r}: several have this name ({some}).", hint=usual)
    known = (word for entry in classes for word in words(*entry))
    raise UsageError(f"class {wanted!r}: there is none.", hint=did_you_mean(text, known, usual))
