"""A prepared dataset on disk: index.json, a compact sample index, and shards read by position.

DATASET/index.json            what was made, from what, and every file's size and SHA-256
DATASET/train.samples.npy     one row a sample: where its JPEG lies, label, number (SAMPLE_DTYPE)
DATASET/train-000000.tar ...  plain WebDataset tars
DATASET/rejected.csv          source, reason, detail of every image that is not in them
DATASET/pixel_stats.npz       written by `alexnet pca`
DATASET/train-FINGERPRINT.raw decoded images, written by `alexnet train --cache raw`
"""

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from alexnet_cli.data.shards.files import ShardFiles, shard_faults
from alexnet_cli.data.shards.images import ShardImages, repair_advice
from alexnet_cli.data.shards.index import INDEX_NAME, FileRecord, Index, Shard, read_index
from alexnet_cli.data.shards.raw_images import RawCache, RawImages
from alexnet_cli.data.shards.tar_layout import BLOCK
from alexnet_cli.errors import DatasetError
from alexnet_cli.recipes.recipe import Recipe
from alexnet_cli.types import ImageClass

_OLDER_FIELDS = [
    ("shard", "<u4"), ("offset", "<u8"), ("length", "<u4"), ("label", "<u4"), ("number", "<u4")
]  # fmt: skip
OLDER_SAMPLE_DTYPE = np.dtype(_OLDER_FIELDS)
SAMPLE_DTYPE = np.dtype([*_OLDER_FIELDS, ("crc32", "<u4")])  # crc32 of the JPEG
MAX_NAMED = 3  # faults in one message


@dataclass(slots=True)
class Split:
    """The samples of one split, addressed like an array.

    Attributes:
        samples: SAMPLE_DTYPE rows in stored order.
        fetch: called with the number of a shard that may not be there yet.
        raw: the decoded images, where they are cached.
        jpegs: reads the samples of the shards.
    """

    name: str
    folder: Path
    shards: tuple[Shard, ...]
    samples: np.ndarray
    image_size: int
    fetch: Callable[[int], None] | None = None
    raw: RawCache | None = None
    jpegs: ShardImages = field(init=False)

    def __post_init__(self) -> None:
        files = ShardFiles(self.folder, self.shards)
        self.jpegs = ShardImages(self.name, files, is_fetched=self.fetch is not None)

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def labels(self) -> np.ndarray:
        """int64 (N,): the labels in stored order."""
        return self.samples["label"].astype(np.int64)

    def keys(self) -> list[str]:
        """Return the WebDataset keys in stored order."""
        return [f"{self.name}-{number:08d}" for number in self.samples["number"].tolist()]

    def make_ready(self, positions: np.ndarray) -> None:
        """Fetch the shards of some samples, where they may not be there yet.

        Raises:
            DatasetError: a shard is not at its URL, or not the one that was indexed.
            MachineError: the network or the disk fails.
        """
        if self.fetch and not self.raw:
            for shard in np.unique(self.samples["shard"][positions]).tolist():
                self.fetch(shard)

    @property
    def images(self) -> ShardImages | RawImages:
        """What reads the images of `rows`, in any thread or process."""
        return self.raw.images if self.raw else self.jpegs

    def rows(self, positions: np.ndarray) -> np.ndarray:
        """Return what `images` needs to read some samples, one row for each."""
        return self.raw.rows(positions) if self.raw else self.samples[positions]

    def jpeg(self, position: int) -> bytes:
        """Return one sample's JPEG bytes, those that prep wrote: their CRC-32 is compared.

        Raises:
            DatasetError: they are others; datasets of earlier versions know no CRC-32.
            MachineError: the disk fails, or the shard changed after it was first read.
        """
        return self.jpegs.jpeg(self.samples[position].item())

    def where(self, position: int) -> str:
        """Return shard and key of one sample, for messages."""
        return self.jpegs.where(self.samples[position].item())


@dataclass(frozen=True, slots=True)
class Dataset:
    """An opened dataset.

    Attributes:
        folder: where its files lie, pixel_stats.npz among them.
        origin: the URL or the tars that it was opened by; empty for a folder.
        streamed: whether its splits are `StreamSplit`s.
    """

    folder: Path
    classes: tuple[ImageClass, ...]
    splits: dict[str, Split]
    image_size: int
    fingerprint: str
    origin: str = ""
    streamed: bool = False

    @property
    def name(self) -> str:
        """What the user called it."""
        return self.origin or str(self.folder)

    def check_crop(self, recipe: Recipe) -> None:
        """Raise a DatasetError if the images are smaller than the recipe's crops."""
        if recipe.crop_size > self.image_size:
            raise DatasetError(
                f"{self.name} has images of {self.image_size} pixels; recipe {recipe.name} "
                f"cuts crops of {recipe.crop_size}.\n"
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
            raise DatasetError(f"{self.name}: no split {name!r} with images. It has: {have}.")
        return split


def open_dataset(folder: Path) -> Dataset:
    """Open a folder made by `alexnet prep`, checking that every shard is there with its size.

    Raises:
        DatasetError: index, sample index and shards do not fit together.
    """
    index = read_index(folder)
    size = index.options["size"]
    samples = {name: read_samples(folder, name, index) for name in index.splits}
    _check_shards(folder, index, samples)
    splits = {
        name: Split(name, folder, split.shards, samples[name], size)
        for name, split in index.splits.items()
    }
    return Dataset(folder, index.classes, splits, size, index.fingerprint())


def _check_shards(folder: Path, index: Index, samples: dict[str, np.ndarray]) -> None:
    faults = [
        fault
        for name, split in index.splits.items()
        for fault in shard_faults(folder, name, split.shards, samples[name])
    ]
    if faults:
        more = f"; {len(faults) - MAX_NAMED} more" if len(faults) > MAX_NAMED else ""
        shown = "; ".join(faults[:MAX_NAMED])
        raise DatasetError(f"{folder / shown}{more}.\n{repair_advice(folder)}")


def samples_name(split: str) -> str:
    """Return the file name of a split's sample index."""
    return f"{split}.samples.npy"


def read_samples(folder: Path, name: str, index: Index) -> np.ndarray:
    """Return the sample index of a split: SAMPLE_DTYPE, without crc32 in earlier datasets.

    Raises:
        DatasetError: it is missing, changed, or does not fit the shards.
    """
    path, split = folder / samples_name(name), index.splits[name]
    remedy = f"Make it again from the shards: alexnet verify {folder} --rebuild"
    try:
        content = path.read_bytes()
        record = index.files.get(path.name)
        if record not in (None, FileRecord.of(content)):
            raise DatasetError(
                f"{path}: changed since prep wrote it; its size or SHA-256 is not the one in "
                f"{INDEX_NAME}.\n{remedy}"
            )
        samples = np.load(io.BytesIO(content), allow_pickle=False)
    except DatasetError:
        raise
    except Exception as error:  # numpy raises many kinds on a damaged header
        raise DatasetError(f"{path}: damaged or missing ({error}).\n{remedy}") from error
    if samples.size != split.written:
        raise DatasetError(
            f"{path}: {samples.size} samples, {INDEX_NAME} says {split.written}.\n{remedy}"
        )
    known = samples.dtype in (SAMPLE_DTYPE, OLDER_SAMPLE_DTYPE) and samples.ndim == 1
    if not known or not _rows_fit(samples, split.shards, len(index.classes)):
        raise DatasetError(f"{path}: its rows do not fit the shards.\n{remedy}")
    return samples


def _rows_fit(samples: np.ndarray, shards: tuple[Shard, ...], num_classes: int) -> bool:
    """Return whether the rows follow the shards, each inside its own, with labels of classes."""
    num_samples = [shard.num_samples for shard in shards]
    if sum(num_samples) != len(samples):
        return False
    num_bytes = np.repeat(np.array([s.num_bytes for s in shards], np.uint64), num_samples)
    if not np.array_equal(samples["shard"], np.repeat(np.arange(len(shards)), num_samples)):
        return False
    offsets, lengths = samples["offset"], samples["length"]  # their sum may be beyond 64 bits
    inside = (offsets >= BLOCK) & (offsets <= num_bytes) & (lengths <= num_bytes - offsets)
    return bool(inside.all() and (samples["label"] < num_classes).all())
