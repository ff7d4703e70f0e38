"""DATASET/index.json: what was made, from what, and every file's size, count and SHA-256."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from alexnet_cli.data.synsets import ImageClass
from alexnet_cli.errors import DatasetError

FORMAT = 1
INDEX_NAME = "index.json"
REJECTED_NAME = "rejected.csv"


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
        """Return 16 hex digits that change with any picture, label or class."""
        content = [asdict(entry) for entry in self.classes]
        content += [s.sha256 for split in self.splits.values() for s in split.shards]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]

    def to_json(self) -> str:
        """Return the text of index.json."""
        content = {**asdict(self), "fingerprint": self.fingerprint()}
        return json.dumps({**content, "checksum": _checksum(content)}, indent=1)


def read_index(folder: Path) -> Index:
    """Read and check DATASET/index.json.

    Raises:
        DatasetError: it is missing, damaged, edited, or of a newer format.
    """
    path = folder / INDEX_NAME
    if not path.is_file():
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
    except (ValueError, KeyError, TypeError, AttributeError) as error:
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
    return f"Remove {folder} and run alexnet prep again."


def _parse_index(content: dict) -> Index:
    if not isinstance(content["options"]["size"], int):
        raise TypeError("size is no number")
    splits = {
        name: SplitIndex(**{**split, "shards": tuple(Shard(**shard) for shard in split["shards"])})
        for name, split in content["splits"].items()
    }
    classes = tuple(ImageClass(**entry) for entry in content["classes"])
    files = {name: FileRecord(**entry) for name, entry in content.get("files", {}).items()}
    return Index(
        content["options"], content["source"], classes, splits, content["tool"], files=files
    )
