"""A prepared dataset on disk: index.json, a compact sample index, and memory-mapped shards.

DATASET/index.json            what was made, from what, and every shard's size, count and SHA-256
DATASET/train.samples.npy     one row a sample: shard, offset, length, label, number (SAMPLE_DTYPE)
DATASET/train-000000.tar ...  plain WebDataset tars
DATASET/rejected.csv          source, reason, detail of every picture that is not in them
DATASET/pixel_stats.npz       written by `alexnet pca`
"""

import hashlib
import json
import mmap
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from alexnet_cli.data.synsets import ImageClass
from alexnet_cli.errors import DatasetError
from alexnet_cli.recipe import Recipe

FORMAT = 1
INDEX_NAME = "index.json"
SAMPLE_DTYPE = np.dtype(
    [("shard", "<u4"), ("offset", "<u8"), ("length", "<u4"), ("label", "<u4"), ("number", "<u4")]
)


@dataclass(frozen=True, slots=True)
class Shard:
    """One tar as the index knows it."""

    name: str
    num_samples: int
    num_bytes: int
    sha256: str


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
    """

    options: dict
    source: dict
    classes: tuple[ImageClass, ...]
    splits: dict[str, SplitIndex]
    tool: str
    format: int = FORMAT

    def fingerprint(self) -> str:
        """Return 16 hex digits that change with any picture, label or class."""
        content = [asdict(entry) for entry in self.classes]
        content += [s.sha256 for split in self.splits.values() for s in split.shards]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]

    def to_json(self) -> str:
        """Return the text of index.json."""
        return json.dumps({**asdict(self), "fingerprint": self.fingerprint()}, indent=1)


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
    if index.fingerprint() != content.get("fingerprint"):
        raise DatasetError(f"{path}: edited since it was written; its fingerprint no longer fits.")
    return index


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
    return Index(content["options"], content["source"], classes, splits, content["tool"])


@dataclass(slots=True)
class Split:
    """The samples of one split, addressed like an array.

    Attributes:
        samples: SAMPLE_DTYPE rows in stored order.
    """

    name: str
    folder: Path
    shards: tuple[Shard, ...]
    samples: np.ndarray
    image_size: int
    _maps: dict[int, memoryview] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def labels(self) -> np.ndarray:
        """int64 (N,): the labels in stored order."""
        return self.samples["label"].astype(np.int64)

    def keys(self) -> list[str]:
        """Return the WebDataset keys in stored order."""
        return [f"{self.name}-{number:08d}" for number in self.samples["number"].tolist()]

    def jpeg(self, position: int) -> memoryview:
        """Return one sample's JPEG bytes, without a copy."""
        shard, offset, length, _, _ = self.samples[position].item()
        content = self._maps.get(shard)
        if content is None:
            content = self._maps[shard] = self._map(self.folder / self.shards[shard].name)
        return content[offset : offset + length]

    def where(self, position: int) -> str:
        """Return shard and key of one sample, for messages."""
        shard, _, _, _, number = self.samples[position].item()
        return f"{self.folder / self.shards[shard].name}: sample {self.name}-{number:08d}"

    def _map(self, path: Path) -> memoryview:
        with path.open("rb") as file:
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


@dataclass(frozen=True, slots=True)
class Dataset:
    """An opened dataset folder."""

    folder: Path
    classes: tuple[ImageClass, ...]
    splits: dict[str, Split]
    image_size: int
    fingerprint: str

    def check_crop(self, recipe: Recipe) -> None:
        """Raise a DatasetError if the pictures are smaller than the recipe's patches."""
        if recipe.crop_size > self.image_size:
            raise DatasetError(
                f"{self.folder} has pictures of {self.image_size} pixels; recipe {recipe.name} "
                f"cuts patches of {recipe.crop_size}.\n"
                "Make larger ones: alexnet prep SOURCE --size 256"
            )

    def split(self, name: str) -> Split:
        """Return a split that has samples.

        Raises:
            DatasetError: there is none of that name, or it is empty.
        """
        split = self.splits.get(name)
        if split is None or not len(split):
            have = ", ".join(n for n, s in self.splits.items() if len(s)) or "none"
            raise DatasetError(f"{self.folder}: no split {name!r} with pictures. It has: {have}.")
        return split


def open_dataset(folder: Path) -> Dataset:
    """Open a folder made by `alexnet prep`, checking that every shard is there with its size.

    Raises:
        DatasetError: index, sample index and shards do not fit together.
    """
    index = read_index(folder)
    size = index.options["size"]
    splits = {name: _open_split(folder, name, split, size) for name, split in index.splits.items()}
    return Dataset(folder, index.classes, splits, size, index.fingerprint())


def _open_split(folder: Path, name: str, split: SplitIndex, image_size: int) -> Split:
    for shard in split.shards:
        path = folder / shard.name
        found = path.stat().st_size if path.is_file() else None
        if found != shard.num_bytes:
            what = "missing" if found is None else f"{found} bytes"
            raise DatasetError(
                f"{path}: {what}, index.json says {shard.num_bytes}.\n{_remedy(folder)}"
            )
    path = folder / f"{name}.samples.npy"
    try:
        samples = np.load(path, allow_pickle=False)
    except Exception as error:  # numpy raises many kinds on a damaged header
        raise DatasetError(f"{path}: damaged or missing ({error}).\n{_remedy(folder)}") from error
    if samples.dtype != SAMPLE_DTYPE or len(samples) != split.written:
        raise DatasetError(f"{path}: {len(samples)} samples, index.json says {split.written}.")
    if not _rows_fit(samples, split.shards):
        raise DatasetError(f"{path}: its rows do not fit the shards.\n{_remedy(folder)}")
    return Split(name, folder, split.shards, samples, image_size)


def _rows_fit(samples: np.ndarray, shards: tuple[Shard, ...]) -> bool:
    """Return whether the rows follow the shards, each inside its own."""
    num_samples = [shard.num_samples for shard in shards]
    num_bytes = np.repeat([shard.num_bytes for shard in shards], num_samples)
    if not np.array_equal(samples["shard"], np.repeat(np.arange(len(shards)), num_samples)):
        return False
    return bool((samples["offset"] + samples["length"] <= num_bytes).all())
