"""A prepared dataset on disk: index.json, a compact sample index, and memory-mapped shards.

DATASET/index.json            what was made, from what, and every file's size and SHA-256
DATASET/train.samples.npy     one row a sample: where its JPEG lies, label, number (SAMPLE_DTYPE)
DATASET/train-000000.tar ...  plain WebDataset tars
DATASET/rejected.csv          source, reason, detail of every picture that is not in them
DATASET/pixel_stats.npz       written by `alexnet pca`
"""

import io
import mmap
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from alexnet_cli.data.index import INDEX_NAME, FileRecord, Index, Shard, SplitIndex, read_index
from alexnet_cli.data.synsets import ImageClass
from alexnet_cli.errors import DatasetError
from alexnet_cli.recipe import Recipe

_OLDER_FIELDS = [
    ("shard", "<u4"), ("offset", "<u8"), ("length", "<u4"), ("label", "<u4"), ("number", "<u4")
]  # fmt: skip
OLDER_SAMPLE_DTYPE = np.dtype(_OLDER_FIELDS)
SAMPLE_DTYPE = np.dtype([*_OLDER_FIELDS, ("crc32", "<u4")])  # crc32 of the JPEG


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
        shard, offset, length = self.samples[position].item()[:3]
        content = self._maps.get(shard)
        if content is None:
            content = self._maps[shard] = self._map(self.folder / self.shards[shard].name)
        return content[offset : offset + length]

    def where(self, position: int) -> str:
        """Return shard and key of one sample, for messages."""
        shard, number = (self.samples[name][position] for name in ("shard", "number"))
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
    for split in index.splits.values():
        _check_shards(folder, split)
    splits = {
        name: Split(name, folder, split.shards, read_samples(folder, name, index), size)
        for name, split in index.splits.items()
    }
    return Dataset(folder, index.classes, splits, size, index.fingerprint())


def _check_shards(folder: Path, split: SplitIndex) -> None:
    for shard in split.shards:
        path = folder / shard.name
        found = path.stat().st_size if path.is_file() else None
        if found != shard.num_bytes:
            what = "missing" if found is None else f"{found} bytes"
            raise DatasetError(
                f"{path}: {what}, index.json says {shard.num_bytes}.\n{_repair(folder)}"
            )


def samples_name(split: str) -> str:
    """Return the file name of a split's sample index."""
    return f"{split}.samples.npy"


def read_samples(folder: Path, name: str, index: Index) -> np.ndarray:
    """Return the sample index of a split: SAMPLE_DTYPE, without crc32 in earlier datasets.

    Raises:
        DatasetError: it is missing, changed, or does not fit the shards.
    """
    path, split = folder / samples_name(name), index.splits[name]
    try:
        content = path.read_bytes()
        record = index.files.get(path.name)
        if record not in (None, FileRecord.of(content)):
            raise DatasetError(
                f"{path}: changed since prep wrote it; its size or SHA-256 is not the one in "
                f"{INDEX_NAME}.\n{_repair(folder)}"
            )
        samples = np.load(io.BytesIO(content), allow_pickle=False)
    except DatasetError:
        raise
    except Exception as error:  # numpy raises many kinds on a damaged header
        raise DatasetError(f"{path}: damaged or missing ({error}).\n{_repair(folder)}") from error
    known = samples.dtype in (SAMPLE_DTYPE, OLDER_SAMPLE_DTYPE)
    if not known or len(samples) != split.written:
        raise DatasetError(f"{path}: {len(samples)} samples, index.json says {split.written}.")
    if not _rows_fit(samples, split.shards):
        raise DatasetError(f"{path}: its rows do not fit the shards.\n{_repair(folder)}")
    return samples


def _repair(folder: Path) -> str:
    return f"Rebuild what is damaged: alexnet verify {folder} --repair SOURCE"


def _rows_fit(samples: np.ndarray, shards: tuple[Shard, ...]) -> bool:
    """Return whether the rows follow the shards, each inside its own."""
    num_samples = [shard.num_samples for shard in shards]
    num_bytes = np.repeat([shard.num_bytes for shard in shards], num_samples)
    if not np.array_equal(samples["shard"], np.repeat(np.arange(len(shards)), num_samples)):
        return False
    return bool((samples["offset"] + samples["length"] <= num_bytes).all())
