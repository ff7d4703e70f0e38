"""A prepared dataset on disk: index.json, a compact sample index, and shards read by position.

DATASET/index.json            what was made, from what, and every file's size and SHA-256
DATASET/train.samples.npy     one row per sample: position of its JPEG, label, number (SAMPLE_DTYPE)
DATASET/train-000000.tar ...  plain WebDataset tars
DATASET/rejected.csv          source, reason, detail of every image that is not in them
DATASET/pixel_stats.npz       written by `alexnet pca`
DATASET/train-FINGERPRINT.raw decoded images, a cache that training can use
"""

import io
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from alexnet_cli.data.pixel_stats import load_pixel_stats
from alexnet_cli.data.shards.images import RawImages, ShardImages
from alexnet_cli.data.shards.index import (
    INDEX_NAME,
    FileRecord,
    Index,
    Shard,
    SplitIndex,
    read_index,
)
from alexnet_cli.data.shards.sample import Sample
from alexnet_cli.data.shards.tar_layout import BLOCK
from alexnet_cli.errors import (
    DatasetError,
    counted,
    did_you_mean,
    hint,
    on_one_line,
    require_package,
)
from alexnet_cli.io.thread_map import thread_map
from alexnet_cli.recipes.recipe import Recipe
from alexnet_cli.types import USUAL_RULES, DecodeRules, ImageClass, PixelStats

if TYPE_CHECKING:
    from alexnet_cli.data.torch_dataset import TorchSplit

SAMPLE_DTYPE = np.dtype([
    ("shard", "<u4"), ("offset", "<u8"), ("length", "<u4"), ("label", "<u4"), ("number", "<u4"),
    ("crc32", "<u4"),  # of the JPEG
])  # fmt: skip
MAX_NAMED = 3  # faults in one message
NUM_THREADS = 16  # that check shards; on a network disk each waits for its answer


@dataclass(slots=True, eq=False, repr=False)
class Split(Sequence[Sample]):
    """The samples of one split: a sequence of `Sample`s, whose arrays the loaders read.

    Attributes:
        classes: of the dataset.
        samples: SAMPLE_DTYPE rows in stored order.
        fetch: called with a shard that may not be in the cache yet.
        raw: the decoded images, if they are cached.
        jpegs: reads the samples of the shards.
    """

    name: str
    folder: Path
    shards: tuple[Shard, ...]
    samples: np.ndarray
    image_size: int
    fetch: Callable[[Shard], None] | None = None
    classes: tuple[ImageClass, ...] = ()
    raw: RawImages | None = None
    jpegs: ShardImages = field(init=False)

    def __post_init__(self) -> None:
        self.jpegs = ShardImages(self.name, self.folder, self.shards, self.fetch is not None)

    def __repr__(self) -> str:
        return f"<{self.name} of {self.folder}, {len(self)} samples>"

    def __len__(self) -> int:
        return len(self.samples)

    @overload
    def __getitem__(self, position: int) -> Sample: ...

    @overload
    def __getitem__(self, position: slice) -> list[Sample]: ...

    def __getitem__(self, position: int | slice) -> Sample | list[Sample]:
        if isinstance(position, slice):
            return [self[i] for i in range(*position.indices(len(self)))]
        position = operator.index(position)
        row = self.samples[position].item()  # numpy raises the IndexError
        position %= len(self)
        self.fetch_shards_of(np.array([position]))
        _, _, _, label, number, _ = row
        name = self.classes[label].name if self.classes else str(label)
        return Sample(f"{self.name}-{number:08d}", self.jpegs.jpeg(row), label, name)

    def as_torch(self, transform: Callable[[Any], Any] | None = None) -> "TorchSplit":
        """Return the split as a `torch.utils.data.Dataset` of pairs of image and label.

        Args:
            transform: called with each image as Pillow's; by default images are uint8 (3, H, W).

        Raises:
            MachineError: if torch is not installed.
        """
        require_package("torch")
        from alexnet_cli.data.torch_dataset import TorchSplit

        return TorchSplit(self, transform)

    @property
    def labels(self) -> np.ndarray:
        """int64 (N,): the labels in stored order."""
        return self.samples["label"].astype(np.int64)

    def keys(self) -> list[str]:
        """Return the WebDataset keys in stored order."""
        return [f"{self.name}-{number:08d}" for number in self.samples["number"].tolist()]

    def fetch_shards_of(self, positions: np.ndarray) -> None:
        """Fetch the shards of some samples, if they are not in the cache yet."""
        if self.fetch and not self.raw:
            for shard in np.unique(self.samples["shard"][positions]).tolist():
                self.fetch(self.shards[shard])

    @property
    def images(self) -> ShardImages | RawImages:
        """What reads the images of `rows`, in any thread or process."""
        return self.raw or self.jpegs

    def rows(self, positions: np.ndarray) -> np.ndarray:
        """Return what `images` needs to read some samples, one row for each."""
        return (self.raw.rows if self.raw else self.samples)[positions]

    def pixels(self, positions: np.ndarray) -> np.ndarray:
        """Return some images, uint8 RGB (N, H, W, 3).

        Raises:
            DatasetError, MachineError: if they are damaged or cannot be read.
        """
        images = np.empty((len(positions), self.image_size, self.image_size, 3), np.uint8)
        self.fetch_shards_of(positions)
        self.images.read_into(self.rows(positions), images)
        return images

    def jpeg(self, position: int) -> bytes:
        """Return the JPEG of one sample."""
        return self.jpegs.jpeg(self.samples[position].item())


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Dataset:
    """An opened dataset.

    Attributes:
        folder: where its files are, pixel_stats.npz among them.
        name: the folder, URL or tars that it was opened from.
        splits: `Split`s, or `StreamSplit`s if it is streamed.
    """

    folder: Path
    classes: tuple[ImageClass, ...]
    splits: dict[str, Any]
    image_size: int
    fingerprint: str
    name: str
    streamed: bool = False
    rules: DecodeRules = USUAL_RULES

    def __repr__(self) -> str:
        splits = ", ".join(f"{name} of {len(split)}" for name, split in self.splits.items())
        return f"<{self.name}, {len(self.classes)} classes, {splits}>"

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of the splits, as over those of a dict."""
        return iter(self.splits)

    def load_pixel_stats(self) -> PixelStats:
        """Read pixel_stats.npz."""
        make = hint("pca_of_tars", tars=self.name) if self.streamed else None
        return load_pixel_stats(
            self.folder, self.fingerprint, make or f"Make it: alexnet pca {self.name}"
        )

    def check_crop(self, recipe: Recipe) -> None:
        """Raise a DatasetError if the images are smaller than the recipe's crops."""
        if recipe.crop_size > self.image_size:
            raise DatasetError(
                f"{self.name} has images of {self.image_size} pixels; recipe {recipe.name} "
                f"cuts crops of {recipe.crop_size}.",
                hint=hint("prep_larger", size=256),
            )

    def __getitem__(self, name: str) -> Split:
        """Return a split: `dataset["val"][0].image`; errors are those of `split`."""
        return self.split(name)

    def split(self, name: str) -> Split:
        """Return a split that has samples.

        Raises:
            DatasetError: if there is no such split, or it is empty.
        """
        split = self.splits.get(name)
        if split is None or not len(split):
            have = [other for other, samples in self.splits.items() if len(samples)]
            raise DatasetError(
                f"{self.name}: no split {name!r} with images. It has: {', '.join(have) or 'none'}.",
                hint=did_you_mean(name, have) or None,
            )
        return split


def open_dataset(folder: Path) -> Dataset:
    """Open a folder made by `alexnet prep`, checking that every shard is there with its size.

    Raises:
        DatasetError: if index, sample index and shards do not fit together.
    """
    index = read_index(folder)
    samples = {name: read_samples(folder, name, index) for name in index.splits}
    _check_shards(folder, index, samples)
    return dataset_of(folder, index, samples)


def dataset_of(
    folder: Path,
    index: Index,
    samples: dict[str, np.ndarray],
    url: str = "",
    fetch: Callable[[Shard], None] | None = None,
) -> Dataset:
    """Return the dataset of an index and the sample index of each split."""
    size = index.options["size"]
    splits = {
        name: Split(name, folder, split.shards, samples[name], size, fetch, index.classes)
        for name, split in index.splits.items()
    }
    name = url or str(folder)
    rules = DecodeRules.from_json(index.options)
    return Dataset(folder, index.classes, splits, size, index.fingerprint(), name, rules=rules)


def _check_shards(folder: Path, index: Index, samples: dict[str, np.ndarray]) -> None:
    faults = [
        fault
        for name, split in index.splits.items()
        for fault in shard_faults(folder, name, split.shards, samples[name])
    ]
    if faults:
        more = f"; {len(faults) - MAX_NAMED} more" if len(faults) > MAX_NAMED else ""
        shown = "; ".join(faults[:MAX_NAMED])
        raise DatasetError(f"{folder / shown}{more}.", hint=hint("repair_dataset", folder=folder))


def shard_faults(
    folder: Path, split: str, shards: Sequence[Shard], samples: np.ndarray
) -> list[str]:
    """Return one text per shard that is missing, has another size or begin, or is not in the index.

    Args:
        samples: rows of the sample index, in stored order.
    """
    ends = np.cumsum([shard.num_samples for shard in shards], dtype=np.int64).tolist()
    firsts = [
        samples[end - shard.num_samples :][:1] for shard, end in zip(shards, ends, strict=True)
    ]
    pairs = list(zip(shards, firsts, strict=True))
    faults = thread_map(lambda pair: _shard_fault(folder, split, *pair), pairs, NUM_THREADS)
    known = {shard.name for shard in shards}
    extra = sorted({path.name for path in folder.glob(f"{split}-*.tar")} - known)
    return [*filter(None, faults), *(f"{name}: {INDEX_NAME} does not know it" for name in extra)]


def _shard_fault(folder: Path, split: str, shard: Shard, first: np.ndarray) -> str:
    path = folder / shard.name
    found = path.stat().st_size if path.is_file() else None
    if found != shard.num_bytes:
        what = "missing" if found is None else f"{found} bytes"
        return f"{shard.name}: {what}, {INDEX_NAME} says {shard.num_bytes}"
    if not shard.num_samples:
        return ""
    with path.open("rb", buffering=0) as file:
        file.seek(int(first["offset"][0]) - BLOCK)
        name = file.read(BLOCK)[:100].rstrip(b"\0").decode("latin-1")
    expected = f"{split}-{first['number'][0]:08d}.jpg"
    return "" if name == expected else f"{shard.name}: begins with {name!a}, not {expected}"


def samples_name(split: str) -> str:
    """Return the file name of a split's sample index."""
    return f"{split}.samples.npy"


def read_samples(folder: Path, name: str, index: Index) -> np.ndarray:
    """Return the sample index of a split: SAMPLE_DTYPE (N,).

    Raises:
        DatasetError: if it is missing, changed, or does not fit the shards.
    """
    path = folder / samples_name(name)
    try:
        content = path.read_bytes()
        if index.files.get(path.name) != FileRecord.of(content):
            fault = f"changed since prep wrote it; its size or SHA-256 differs from {INDEX_NAME}"
        else:
            samples = np.load(io.BytesIO(content), allow_pickle=False)
            fault = _samples_fault(samples, index.splits[name], len(index.classes))
    except Exception as error:  # numpy raises many kinds on a damaged header
        raise _damaged(path, f"damaged or missing ({on_one_line(str(error))})") from error
    if fault:
        raise _damaged(path, fault)
    return samples


def _damaged(path: Path, fault: str) -> DatasetError:
    return DatasetError(f"{path}: {fault}.", hint=hint("rebuild_samples", folder=path.parent))


def _samples_fault(samples: np.ndarray, split: SplitIndex, num_classes: int) -> str:
    """Return what is wrong unless the rows follow the shards, each inside its own."""
    if samples.size != split.written:
        return f"{counted(samples.size, 'sample')}, {INDEX_NAME} says {split.written}"
    num_samples = [shard.num_samples for shard in split.shards]
    if samples.dtype == SAMPLE_DTYPE and samples.shape == (sum(num_samples),):
        num_bytes = np.repeat(np.array([s.num_bytes for s in split.shards], np.uint64), num_samples)
        in_order = samples["shard"] == np.repeat(np.arange(len(num_samples)), num_samples)
        offsets, lengths = samples["offset"], samples["length"]  # their sum may exceed 64 bits
        inside = (offsets >= BLOCK) & (offsets <= num_bytes) & (lengths <= num_bytes - offsets)
        if (in_order & inside & (samples["label"] < num_classes)).all():
            return ""
    return "its rows do not fit the shards"
