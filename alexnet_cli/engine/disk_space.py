"""Will it fit? Asked before any work, because a disk that fills up stops prep hours later.

A sample of pictures is made as prep would make them, and their mean size is taken for all. For
256-pixel pictures of ImageNet at quality 90 that is about 24 kB a picture, 32 GB in all.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from statistics import mean

from alexnet_cli.data.images import to_jpeg, to_square
from alexnet_cli.data.shards import ShardTask
from alexnet_cli.errors import ImageError, MachineError

NUM_SAMPLES = 32
BLOCK = 512
TAR_BYTES = 5 * BLOCK + BLOCK // 2  # three headers, label and note, and what fills the last block
INDEX_BYTES = 200  # a row of the sample index, and of the record that prep works with
MARGIN = 1.05


def check_space(folder: Path, tasks: list[ShardTask]) -> None:
    """Raise a MachineError if the shards still to be made do not fit on the disk."""
    num_pictures = sum(len(task.pictures) for task in tasks)
    if not num_pictures:
        return
    free = shutil.disk_usage(folder).free
    size = tasks[0].size
    if free > num_pictures * (3 * size * size + TAR_BYTES + INDEX_BYTES):
        return  # enough even for pictures that no JPEG makes smaller
    needed = int(MARGIN * num_pictures * (_picture_bytes(tasks) + TAR_BYTES + INDEX_BYTES))
    if needed > free:
        raise MachineError(
            f"{folder}: the shards still to be made need about {_gigabytes(needed)}, "
            f"{_gigabytes(free)} are free.\n"
            "Nothing was begun; finished shards are kept. Make room, or try all the same: --force"
        )


def _picture_bytes(tasks: list[ShardTask]) -> float:
    """Return the mean size of some pictures' JPEGs."""
    sizes = list(_sample_sizes(tasks))
    fallback = 3 * tasks[0].size ** 2 / 8  # 24 kB for 256 pixels
    return mean(sizes) if sizes else fallback


def _sample_sizes(tasks: list[ShardTask]) -> Iterator[int]:
    step = max(1, len(tasks) // NUM_SAMPLES)
    each = max(1, NUM_SAMPLES // len(tasks))
    for task in tasks[::step]:
        for picture in task.pictures[:each]:
            try:
                yield len(to_jpeg(to_square(picture.read(), task.size), task.quality))
            except ImageError:
                continue


def _gigabytes(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:,.1f} GB" if num_bytes >= 1e8 else f"{num_bytes / 1e6:,.1f} MB"
