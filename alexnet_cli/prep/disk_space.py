"""Will it fit? Asked before any work, because a disk that fills up stops prep hours later.

A sample of images is made as prep would make them, and their mean size is taken for all. For
256-pixel images of ImageNet at quality 90 that is about 24 kB an image, 32 GB in all.
"""

from collections.abc import Iterator
from pathlib import Path
from statistics import mean

from alexnet_cli.data.images.resize import to_jpeg, to_square
from alexnet_cli.data.shards.tar_layout import BLOCK
from alexnet_cli.data.shards.writer import ShardTask
from alexnet_cli.errors import ImageError, MachineError
from alexnet_cli.io.disk import (
    FULL,
    advice_on,
    check_room,
    fault_in_words,
    free_bytes,
    size_in_words,
)

NUM_SAMPLES = 32
TAR_BYTES = 5 * BLOCK + BLOCK // 2  # three headers, label and note, and what fills the last block
INDEX_BYTES = 200  # a row of the sample index, and of the record that prep works with
MARGIN = 1.05


def check_space(folder: Path, tasks: list[ShardTask], num_copied: int = 0) -> None:
    """Refuse to begin if the shards still to be made do not fit on the disk.

    Args:
        num_copied: bytes of images to be copied there while prep is at work.

    Raises:
        MachineError: they do not.
    """
    num_images = sum(len(task.images) for task in tasks)
    if not num_images:
        return
    largest = 3 * tasks[0].size ** 2 + TAR_BYTES + INDEX_BYTES  # of what no JPEG makes smaller
    if free_bytes(folder) > num_copied + num_images * largest:
        return
    check_room(
        folder,
        num_copied + _needed_bytes(tasks),
        "the shards still to be made need about",
        "Nothing was begun; finished shards are kept. Make room, or try all the same: --force",
    )


def explain_fault(error: OSError, folder: Path, tasks: list[ShardTask]) -> MachineError:
    """Return what a disk did while shards were made, and how much room those that are left need."""
    missing = f": {_missing_room(error, folder, tasks)}" if error.errno in FULL and tasks else ""
    return MachineError(
        f"{fault_in_words(error, folder)}{missing}.\nFinished shards are kept. {advice_on(error)}"
    )


def _missing_room(error: OSError, folder: Path, tasks: list[ShardTask]) -> str:
    needed = _needed_bytes(tasks)
    try:
        more = needed - free_bytes(folder)
    except OSError:
        more = 0
    if more > 0:
        return f"about {size_in_words(more)} more are needed"
    # The rest of a quota cannot be asked for, and somebody may have made room meanwhile.
    return f"the shards still to be made need about {size_in_words(needed)}"


def _needed_bytes(tasks: list[ShardTask]) -> int:
    num_images = sum(len(task.images) for task in tasks)
    return int(MARGIN * num_images * (_image_bytes(tasks) + TAR_BYTES + INDEX_BYTES))


def _image_bytes(tasks: list[ShardTask]) -> float:
    """Return the mean size of some images' JPEGs."""
    sizes = list(_sample_sizes(tasks))
    fallback = 3 * tasks[0].size ** 2 / 8  # 24 kB for 256 pixels
    return mean(sizes) if sizes else fallback


def _sample_sizes(tasks: list[ShardTask]) -> Iterator[int]:
    step = max(1, len(tasks) // NUM_SAMPLES)
    each = max(1, NUM_SAMPLES // len(tasks))
    for task in tasks[::step]:
        for image in task.images[:each]:
            try:
                yield len(to_jpeg(to_square(image.read(), task.size), task.quality))
            except ImageError:
                continue
