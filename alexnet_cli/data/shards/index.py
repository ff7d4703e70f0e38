"""DATASET/index.json: what was made, from what, and every file's size, count and SHA-256."""

import hashlib
import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path

from alexnet_cli.errors import DatasetError, Hint, hint, on_one_line
from alexnet_cli.io.atomic import write_bytes
from alexnet_cli.types import ImageClass

FORMAT = 1
INDEX_NAME = "index.json"
INDEX_COPY = ".index.json"  # a copy that replaces a lost or damaged index
REJECTED_NAME = "rejected.csv"
MAX_SIDE = 4096  # pixels
MAX_COUNT = 1 << 50
_PLAIN_NAME = re.compile(r"[a-z]+(-\d{6,}\.tar)?")


@dataclass(frozen=True, slots=True)
class Shard:
    """The record of one tar."""

    name: str
    num_samples: int
    num_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class FileRecord:
    """The record of a file beside the shards."""

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
        """Return the counts that commands report."""
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
        source: the layout and fingerprint of the source.
        files: sample indexes and rejected.csv by name.
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
        content: list[object] = [asdict(entry) for entry in self.classes]
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
        DatasetError: if it is missing, damaged, edited, or of a newer format.
    """
    path = folder / name
    if not path.is_file():
        if (folder / INDEX_COPY).is_file():
            raise DatasetError(f"{path}: missing.", hint=_remedy(folder))
        is_source = folder.is_dir() and any(not e.name.startswith(".") for e in folder.iterdir())
        names = f"{folder} DATASET" if is_source else f"SOURCE {folder}"
        raise DatasetError(
            f"{folder}: no {INDEX_NAME}, so no dataset.", hint=f"Make one: alexnet prep {names}"
        )
    try:
        content = json.loads(path.read_bytes())
        if content["format"] > FORMAT:
            raise DatasetError(
                f"{path}: format {content['format']}, made by {content['tool']}.",
                hint="Update alexnet.",
            )
        index = _parse_index(content)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        why = on_one_line(str(error))
        raise DatasetError(f"{path}: damaged ({why}).", hint=_remedy(folder)) from error
    if content.pop("checksum", None) != _checksum(content):
        raise DatasetError(
            f"{path}: edited since it was written; its checksum does not match.",
            hint=_remedy(folder),
        )
    return index


def _checksum(content: dict) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _remedy(folder: Path) -> str | Hint:
    if (folder / INDEX_COPY).is_file():
        return hint("restore_index", folder=folder)
    return f"Remove {folder} and run alexnet prep again."


def _parse_index(content: dict) -> Index:
    """Return the index in a JSON object; raises ValueError, KeyError or TypeError if it is none."""
    splits = {
        name: SplitIndex(**{**split, "shards": tuple(Shard(**shard) for shard in split["shards"])})
        for name, split in content["splits"].items()
    }
    classes = tuple(ImageClass(**entry) for entry in content["classes"])
    files = {name: FileRecord(**entry) for name, entry in content["files"].items()}
    shards = [shard for split in splits.values() for shard in split.shards]
    for name in (*splits, *(shard.name for shard in shards)):
        if not _PLAIN_NAME.fullmatch(name):
            raise ValueError(f"{name!a} is no file name of prep's")
    counts = [n for shard in shards for n in (shard.num_samples, shard.num_bytes)]
    counts += [split.written for split in splits.values()]
    sizes = [(1, MAX_SIDE, content["options"]["size"]), *((0, MAX_COUNT, n) for n in counts)]
    for low, high, number in sizes:
        if type(number) is not int or not low <= number <= high:
            raise ValueError(f"{number!a} is no size or count")
    origin = content["options"], content["source"]
    return Index(*origin, classes, splits, content["tool"], files=files)
