"""Samples of WebDataset tars that others made: their members, labels and names.

The same rules apply to `alexnet prep` and to tars that are streamed. Members' names are never used
as paths.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from alexnet_cli.data.images.decode import MAX_FILE_BYTES
from alexnet_cli.data.sources.labels import SPLITS, base_name, split_name
from alexnet_cli.errors import SourceError

# train-000000.tar, imagenet1k-validation-07.tar, but not ILSVRC2012_img_train_t3.tar
FILE = re.compile(rf"(?!ILSVRC)(.*[-_])?(?P<split>{'|'.join(SPLITS)})([-_.].*)?\.tar")
IMAGES = ("jpg", "jpeg", "png", "webp")
NOTES = ("cls", "json", "txt")
MAX_IMAGE_BYTES = MAX_FILE_BYTES
MAX_NOTE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class SampleNotes:
    """What the members beside an image say.

    Attributes:
        label: None if there is none, or it is -1.
        name: the image's own file name, which the .json may have kept.
        wnid: the WordNet ID in the .json or the name.
    """

    label: int | None
    name: str
    wnid: str | None


def key_and_extension(name: str) -> tuple[str, str]:
    """Split a member's name at the first dot of its base name, as webdataset does."""
    folder, slash, base = name.rpartition("/")
    stem, _, extension = base.partition(".")
    return folder + slash + stem, extension.lower()


def read_notes(notes: Mapping[str, bytes], member: str, where: str) -> SampleNotes:
    """Return what the notes of a sample say.

    Args:
        notes: contents of the members beside the image, by extension.
        member: name of the image's member.
        where: tar and key, for errors.

    Raises:
        SourceError: if the .json cannot be read, or a label is not a whole number.
    """
    about = _read_json(notes.get("json"), where)
    kept = next((about[k] for k in ("filename", "source") if isinstance(about.get(k), str)), "")
    name, wnid = split_name(base_name(kept) or base_name(member))
    if isinstance(about.get("wnid"), str):
        wnid = about["wnid"]
    return SampleNotes(_read_label(notes, about, where), name, wnid)


def _read_json(content: bytes | None, where: str) -> dict:
    if content is None:
        return {}
    try:
        about = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{where}: its .json cannot be read ({str(error)[:80]}).") from error
    return about if isinstance(about, dict) else {}


def _read_label(notes: Mapping[str, bytes], about: dict, where: str) -> int | None:
    """Return the label in .cls, else in .json, else in a .txt that is only digits."""
    label = about.get("label")
    if "cls" in notes:
        label = notes["cls"][:20].decode("ascii", "replace").strip()
    if label is None and re.fullmatch(rb"\s*\d{1,9}\s*", notes.get("txt", b"")):
        label = notes["txt"].decode("ascii").strip()
    if label is None:
        return None
    if isinstance(label, bool | float) or not re.fullmatch(r"-?\d+", str(label)):
        raise SourceError(f"{where}: label {str(label)[:20]!r} is not a whole number.")
    return None if int(label) == -1 else int(label)
