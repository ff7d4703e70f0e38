"""What prep is asked to make, and which images go into which shard."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from alexnet_cli.data.images.resize import IMAGE_SIZE, JPEG_QUALITY
from alexnet_cli.data.remote.tar_set import TarSet
from alexnet_cli.data.shards.writer import ShardTask
from alexnet_cli.data.sources.source import Source
from alexnet_cli.types import DecodeRules

SHARD_SIZE = 1000


@dataclass(frozen=True, slots=True)
class PrepOptions:
    """Everything that decides the bytes of the shards."""

    size: int = IMAGE_SIZE
    quality: int = JPEG_QUALITY
    shard_size: int = SHARD_SIZE
    seed: int = 0
    val_fraction: float = 0.0
    apply_orientation: bool = False
    gray_bits: int | None = None

    @property
    def rules(self) -> DecodeRules:
        return DecodeRules(self.apply_orientation, self.gray_bits)

    def to_json(self) -> dict:
        """Return the options as index.json records them, without the usual rules of decoding."""
        unused = set(asdict(self.rules)) - set(self.rules.to_json())
        return {name: value for name, value in asdict(self).items() if name not in unused}


@dataclass(frozen=True, slots=True)
class PrepRequest:
    """One dataset to make."""

    source: Path | TarSet  # a file or folder; or tars at URLs, which are fetched into `folder`
    folder: Path  # of the dataset
    options: PrepOptions = PrepOptions()
    layout: str | None = None  # of the source, a key of `LAYOUTS`; None to recognize it
    workers: int | None = None  # number of processes; None for one per core
    scheduler: str | None = None  # address of a Dask scheduler, whose workers make the shards
    check_md5: bool = False  # compare the official archives with their published MD5 first
    labels: Path | None = None  # file of image names and classes, for images in no class folders
    classes: Path | None = None  # file of class names in label order
    columns: str | None = None  # of parquet files: "image=NAME,label=NAME"
    follow_links: bool = False  # follow links that lead out of a folder of classes
    allow_empty_class: bool = False  # keep a class without a training image, and its number
    force: bool = False  # begin even if the disk looks too small


def plan_shards(source: Source, folder: Path, options: PrepOptions) -> list[ShardTask]:
    """Return the tasks that make all shards of a source.

    The training images are shuffled once, by the seed, so that reading the shards in order is well
    mixed; the others keep their order. Source and options alone decide the plan.
    """
    tasks = []
    for split in source.images:
        images = source.images[split]
        if split == "train":
            order = np.random.default_rng([options.seed, 0x5A4D]).permutation(len(images))
            images = [images[i] for i in order]
        for position, start in enumerate(range(0, len(images), options.shard_size)):
            part = tuple(images[start : start + options.shard_size])
            wnids = tuple(source.classes[image.label].wnid for image in part)
            tasks.append(
                ShardTask(
                    folder,
                    split,
                    position,
                    start,
                    part,
                    wnids,
                    options.size,
                    options.quality,
                    options.rules,
                )
            )
    return tasks
