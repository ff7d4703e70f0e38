"""Samples of WebDataset tars that others made: their members, labels and names.

The same rules apply to `alexnet prep` and to tars that are streamed. Members' names are never used
as paths.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Generic, TypeVar

from alexnet_cli.data.images.decode import MAX_FILE_BYTES
from alexnet_cli.data.sources.labels import SPLIT_PATTERN, base_name, split_name
from alexnet_cli.data.sources.listing import HIDDEN, IMAGE_SUFFIXES, NOTE_SUFFIXES, is_clutter
from alexnet_cli.errors import SourceError, on_one_line

# train-000000.tar, imagenet1k-validation-07.tar, but not ILSVRC2012_img_train_t3.tar
FILE = re.compile(rf"(?!ILSVRC)(.*[-_])?(?P<split>{SPLIT_PATTERN})([-_.].*)?\.tar", re.IGNORECASE)
IMAGES = tuple(suffix[1:] for suffix in IMAGE_SUFFIXES)
NOTES = ("cls", "json", "txt")
# Of texts that are no part of a sample without an image.
BESIDE = ("", *(suffix[1:] for suffix in NOTE_SUFFIXES if suffix != ".json"))
BESIDE_SAMPLES = "file beside the samples"
NO_IMAGE = "sample without an image"
SECOND_IMAGE = "another image of a sample"
NO_LABEL = "no label in .cls, .json or .txt."
ADD_LABEL = "Add one; the members of a sample must be neighbors: sort the tar by name."
MAX_IMAGE_BYTES = MAX_FILE_BYTES
MAX_NOTE_BYTES = 1 << 20
MAX_SAID = 200  # characters of a class's name
# In the .json of a sample, in the order in which they are compared with a list of classes.
CLASS_KEYS = (
    *("wnid", "synset", "synset_id", "class_id", "class", "class_name", "classname"),
    *("label_name", "label_text", "category", "name"),
)
NUMBER = r"-?[0-9]{1,18}"
# In the .json, for a whole number.
NUMBER_KEYS = ("label", "cls", "class", "class_id", "class_index", "label_id", "target")


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Sample(Generic[T]):
    """The members of a tar that make one sample.

    Attributes:
        image: name and content of its image, None if it has none.
        notes: content of its other members that are read, by extension.
        passed_over: number of things in it that are not read, by reason.
    """

    key: str
    image: tuple[str, T] | None
    notes: dict[str, T]
    passed_over: dict[str, int]


@dataclass(frozen=True, slots=True)
class SampleNotes:
    """What the members beside an image say.

    Attributes:
        label: a number or the name of a class; None if there is none, or it is -1.
        name: the image's own file name, which the .json may have kept.
        wnid: the WordNet ID in the .json or the name.
        said: what may be names of its class, each after what says it; the name's wnid among them.
    """

    label: int | str | None
    name: str
    wnid: str | None
    said: tuple[tuple[str, str], ...] = ()


def key_and_extension(name: str) -> tuple[str, str]:
    """Split a member's name at the first dot of its base name, as webdataset does."""
    folder, slash, base = name.rpartition("/")
    stem, _, extension = base.partition(".")
    return folder + slash + stem, extension.lower()


def kind_of(name: str) -> str:
    """Return the last extension of a member's name, in lower case."""
    return name.rpartition("/")[2].rpartition(".")[2].lower() if "." in name else ""


def samples_of(members: Iterable[tuple[str, T]], where: str) -> Iterator[Sample[T]]:
    """Yield the samples of a tar's members, given by name: neighbors with the same key.

    A key ends at the first dot. If names have more dots than that, and what precedes the last one
    has an image and a label of its own, that is the key: img.0001.jpg, img.0001.cls.

    Raises:
        SourceError: if a member is there twice; `where` names the tar.
    """
    num_hidden = 0

    def is_member(member: tuple[str, T]) -> bool:
        nonlocal num_hidden
        is_hidden = is_clutter(member[0].rpartition("/")[2])
        num_hidden += is_hidden
        return not is_hidden

    for key, group in groupby(
        filter(is_member, members), key=lambda member: key_and_extension(member[0])[0]
    ):
        found: dict[str, T] = {}
        for name, content in group:
            if name in found:
                raise SourceError(f"{where}: duplicate member {name[:80]!a} in one sample.")
            if _ends_before(name, key, found):
                yield _sample(next(iter(found)).rpartition(".")[0], found)
                found = {}
            found[name] = content
        yield _sample(key, found)
    if num_hidden:
        yield Sample("", None, {}, {HIDDEN: num_hidden})


def _ends_before(name: str, key: str, found: Mapping[str, T]) -> bool:
    """Return whether the members found are a whole sample, with another stem than a name."""
    stems = {other.rpartition(".")[0] for other in found}
    kinds = {kind_of(other) for other in found}
    return (
        len(stems) == 1
        and not stems & {key, name.rpartition(".")[0]}
        and not kinds.isdisjoint(IMAGES)
        and not kinds.isdisjoint(NOTES)
    )


def _sample(key: str, members: Mapping[str, T]) -> Sample[T]:
    by_depth = sorted(members, key=lambda name: key_and_extension(name)[1].count("."))
    images = [name for name in by_depth if kind_of(name) in IMAGES]
    notes = {kind_of(n): members[n] for n in reversed(by_depth) if kind_of(n) in NOTES}
    passed_over = {SECOND_IMAGE: len(images) - 1} if len(images) > 1 else {}
    if not images:
        is_sample = any(kind_of(name) not in BESIDE for name in members)
        passed_over = {NO_IMAGE: 1} if is_sample else {BESIDE_SAMPLES: len(members)}
    return Sample(key, (images[0], members[images[0]]) if images else None, notes, passed_over)


def read_notes(notes: Mapping[str, bytes], member: str, where: str) -> SampleNotes:
    """Return what the notes of a sample say.

    Args:
        notes: contents of the members beside the image, by extension.
        member: name of the image's member.
        where: tar and key, for errors.

    Raises:
        SourceError: if the .json cannot be read, or a label is no whole number and no name.
    """
    about = _read_json(notes.get("json"), where)
    kept = next((about[k] for k in ("filename", "source") if isinstance(about.get(k), str)), "")
    name, wnid = split_name(base_name(kept) or base_name(member))
    said = [("its name", split_name(base_name(member))[1] or ""), ("its name", wnid or "")]
    said += [("its .json", about[key]) for key in CLASS_KEYS if isinstance(about.get(key), str)]
    if isinstance(about.get("wnid"), str):
        wnid = about["wnid"]
    caption = notes.get("txt", b"")[: 4 * MAX_SAID].decode("utf-8", "replace").strip()
    said.append(("its .txt", caption))
    return SampleNotes(
        _read_label(notes, about, where),
        name,
        wnid,
        tuple((says, text) for says, text in dict.fromkeys(said) if 0 < len(text) <= MAX_SAID),
    )


def _read_json(content: bytes | None, where: str) -> dict:
    if content is None:
        return {}
    try:
        about = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{where}: its .json cannot be read ({str(error)[:80]}).") from error
    return about if isinstance(about, dict) else {}


def _read_label(notes: Mapping[str, bytes], about: dict, where: str) -> int | str | None:
    """Return the label in .cls, else in .json, else in a .txt that is only digits.

    A text in .cls, or as the label in .json, is the name of a class.

    Raises:
        SourceError: if .cls and .json have different numbers, or it is no number and no name.
    """
    whole = (about[key] for key in NUMBER_KEYS if type(about.get(key)) is int)
    label = about["label"] if about.get("label") is not None else next(whole, None)
    if "cls" in notes:
        other, label = label, notes["cls"][: 4 * MAX_SAID].decode("utf-8", "replace").strip()
        texts = [str(each) for each in (other, label)]
        both = {int(text) for text in texts if re.fullmatch(NUMBER, text)} - {-1}
        if len(both) > 1 and about.get("label") is not None:  # other keys may count otherwise
            raise SourceError(
                f"{where}: label {label} in its .cls, but {other} in its .json.",
                hint="Correct one of them, or leave it out.",
            )
    if label is None and re.fullmatch(rb"\s*\d{1,9}\s*", notes.get("txt", b"")):
        label = notes["txt"].decode("ascii").strip()
    if label is None:
        return None
    if re.fullmatch(NUMBER, str(label)):
        return None if int(label) == -1 else int(label)
    if isinstance(label, str) and label.isprintable() and re.search(r"[^\W\d_]", label):
        return label
    raise SourceError(
        f"{where}: label {on_one_line(str(label)[:20])!r} is not a whole number.",
        hint="A label is the position of the class in the list of classes, from 0, or its name.",
    )
