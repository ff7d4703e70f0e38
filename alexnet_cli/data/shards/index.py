"""DATASET/index.json: what was made, from what, and every file's size, count and SHA-256."""

import hashlib
import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path

from alexnet_cli.errors import DatasetError
from alexnet_cli.io.atomic import write_bytes
from alexnet_cli.types import ImageClass

FORMAT = 1
INDEX_NAME = "index.json"
INDEX_COPY = ".index.json"  # its bytes once more, for the day it is lost
REJECTED_NAME = "rejected.csv"
MAX_SIDE = 4096  # pixels
MAX_COUNT = 1 << 50
_PLAIN_NAME = re.compile(r"[a-z]+(-\d{6,}\.tar)?")


@dataclass(frozen=True, slots=True)
class Shard:
    """One tar as the index knows it."""

    name: str
    num_samples: int
    num_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class FileRecord:
    """A file beside the shards as the index knows it."""

    num_bytes: int
    sha256: str

    @classmethod
    def of(cls, content: bytes) -> "FileRecord":
        """Return the record of a file with this content."""
        return cls(len(content), hashlib.sha256(content).hexdigest())


@dataclass(frozen=True, slots=True)
class SplitIndex:
    """One split: found = written + rejected."""

    found: int
    written: int
    rejected: int
    shards: tuple[Shard, ...]

    def counts(self) -> dict[str, int]:
        """Return found, written, rejected and the number of shards, as commands report them."""
        return {
            "found": self.found,
            "written": self.written,
            "rejected": self.rejected,
            "shards": len(self.shards),
        }


@dataclass(frozen=True, slots=True)
class Index:
    """The content of index.json.

    Attributes:
        options: what prep was asked for (size, quality, shard size, seed, ...).
        source: the release's layout and fingerprint.
        files: sample indexes and rejected.csv by name; empty in datasets of earlier versions.
    """

    options: dict
    source: dict
    classes: tuple[ImageClass, ...]
    splits: dict[str, SplitIndex]
    tool: str
    format: int = FORMAT
    files: dict[str, FileRecord] = field(default_factory=dict)

    def fingerprint(self) -> str:
        """Return 16 hex digits that change with any image, label or class."""
        content = [asdict(entry) for entry in self.classes]
        content += [s.sha256 for split in self.splits.values() for s in split.shards]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]

    def to_json(self) -> str:
        """Return the text of index.json."""
        content = {**asdict(self), "fingerprint": self.fingerprint()}
        return json.dumps({**content, "checksum": _checksum(content)}, indent=1)


def write_index(folder: Path, index: Index) -> None:
    """Write DATASET/index.json, and before it its copy."""
    for name in (INDEX_COPY, INDEX_NAME):
        write_bytes(folder / name, index.to_json().encode())


def read_index(folder: Path, name: str = INDEX_NAME) -> Index:
    """Read and check DATASET/index.json, or its copy.

    Raises:
        DatasetError: it is missing, damaged, edited, or of a newer format.
    """
    path = folder / name
    if not path.is_file():
        if (folder / INDEX_COPY).is_file():
            raise DatasetError(f"{path}: missing.\n{_remedy(folder)}")
        raise DatasetError(
            f"{folder}: no {INDEX_NAME}, so no dataset. Make one: alexnet prep SOURCE {folder}"
        )
    try:
        content = json.loads(path.read_text())
        if content["format"] > FORMAT:
            raise DatasetError(
                f"{path}: format {content['format']}, made by {content['tool']}. Update alexnet."
            )
        index = _parse_index(content)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DatasetError(f"{path}: damaged ({error}).\n{_remedy(folder)}") from error
    checksum = content.pop("checksum", None)  # earlier versions wrote none
    whole = checksum in (None, _checksum(content))
    if index.fingerprint() != content.get("fingerprint") or not whole:
        raise DatasetError(
            f"{path}: edited since it was written; its fingerprint no longer fits.\n"
            f"{_remedy(folder)}"
        )
    return index


def _checksum(content: dict) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _remedy(folder: Path) -> str:
    if (folder / INDEX_COPY).is_file():
        return f"Put its copy back: alexnet verify {folder} --rebuild"
    return f"Remove {folder} and run alexnet prep again."


def _parse_index(content: dict) -> Index:
    splits = {
        name: SplitIndex(**{**split, "shards": tuple(Shard(**shard) for shard in split["shards"])})
        for name, split in content["splits"].items()
    }
    classes = tuple(ImageClass(**entry) for entry in content["classes"])
    files = {name: FileRecord(**entry) for name, entry in content.get("files", {}).items()}
    index = Index(
        content["options"], content["source"], classes, splits, content["tool"], files=files
    )
    _check_values(index)
    return index


def _check_values(index: Index) -> None:
    """Raise a ValueError for a name that leads elsewhere or a number that cannot be one."""
    shards = [shard for split in index.splits.values() for shard in split.shards]
    names = [*index.splits, *(shard.name for shard in shards)]
    if bad := [name for name in names if not _PLAIN_NAME.fullmatch(name)]:
        raise ValueError(f"{bad[0]!a} is no file name of prep's")
    sizes = [(1, MAX_SIDE, index.options["size"])]
    sizes += [(0, MAX_COUNT, number) for s in shards for number in (s.num_samples, s.num_bytes)]
    sizes += [(0, MAX_COUNT, split.written) for split in index.splits.values()]
    for low, high, number in sizes:
        if type(number) is not int or not low <= number <= high:
            raise ValueError(f"{number!a} is no size or count")
