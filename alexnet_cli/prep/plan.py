"""Which pictures go into which shard: decided by the release and the options alone."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alexnet_cli.data.images.resize import IMAGE_SIZE, JPEG_QUALITY
from alexnet_cli.data.shards.writer import ShardTask
from alexnet_cli.data.sources.detect import Release

SHARD_SIZE = 1000


@dataclass(frozen=True, slots=True)
class PrepOptions:
    """Everything that decides the bytes of the shards."""

    size: int = IMAGE_SIZE
    quality: int = JPEG_QUALITY
    shard_size: int = SHARD_SIZE
    seed: int = 0
    val_fraction: float = 0.0


def plan_shards(release: Release, folder: Path, options: PrepOptions) -> list[ShardTask]:
    """Return the tasks that make all shards of a release.

    The training pictures are shuffled once, by the seed, so that a plain stream of the shards is
    well mixed; the others keep their order.
    """
    tasks = []
    for split in release.pictures:
        pictures = release.pictures[split]
        if split == "train":
            order = np.random.default_rng([options.seed, 0x5A4D]).permutation(len(pictures))
            pictures = [pictures[i] for i in order]
        for position, start in enumerate(range(0, len(pictures), options.shard_size)):
            part = tuple(pictures[start : start + options.shard_size])
            wnids = tuple(release.classes[picture.label].wnid for picture in part)
            tasks.append(
                ShardTask(
                    folder, split, position, start, part, wnids, options.size, options.quality
                )
            )
    return tasks
