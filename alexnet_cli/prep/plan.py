"""Which images go into which shard: decided by the release and the options alone."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alexnet_cli.data.images.resize import IMAGE_SIZE, JPEG_QUALITY
from alexnet_cli.data.shards.writer import ShardTask
from alexnet_cli.data.sources.source import Source

SHARD_SIZE = 1000


@dataclass(frozen=True, slots=True)
class PrepOptions:
    """Everything that decides the bytes of the shards."""

    size: int = IMAGE_SIZE
    quality: int = JPEG_QUALITY
    shard_size: int = SHARD_SIZE
    seed: int = 0
    val_fraction: float = 0.0


def plan_shards(release: Source, folder: Path, options: PrepOptions) -> list[ShardTask]:
    """Return the tasks that make all shards of a release.

    The training images are shuffled once, by the seed, so that a plain stream of the shards is
    well mixed; the others keep their order.
    """
    tasks = []
    for split in release.images:
        images = release.images[split]
        if split == "train":
            order = np.random.default_rng([options.seed, 0x5A4D]).permutation(len(images))
            images = [images[i] for i in order]
        for position, start in enumerate(range(0, len(images), options.shard_size)):
            part = tuple(images[start : start + options.shard_size])
            wnids = tuple(release.classes[image.label].wnid for image in part)
            tasks.append(
                ShardTask(
                    folder, split, position, start, part, wnids, options.size, options.quality
                )
            )
    return tasks
