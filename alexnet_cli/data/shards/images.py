"""Images read by position, in any thread or process: JPEGs of shards, or decoded images of a cache.

Files are not mapped into memory: a mapped file that is truncated, or whose disk fails, kills the
process. A read reports the fault, costs 3 us per image, and lets other threads run while it waits.
"""

import threading
import zlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import simplejpeg

from alexnet_cli.data.shards.index import Shard
from alexnet_cli.errors import AlexNetError, DatasetError, Hint, MachineError, hint
from alexnet_cli.io.disk import advice_on, fault_in_words
from alexnet_cli.io.process import max_open_files
from alexnet_cli.io.random_access import RandomAccessFile

RAW_ROW = np.dtype([("position", "<i8"), ("crc32", "<u4")])


class ShardImages:
    """The images of one split; a row is one of its sample index, as a tuple or an array.

    Shards stay open as far as the limit of open files allows: ImageNet has 1,332 shards of 1,000
    images, and opening one on a network disk takes longer than reading an image.

    Args:
        is_fetched: whether the shards were fetched from a URL.
    """

    def __init__(self, split: str, folder: Path, shards: Sequence[Shard], is_fetched: bool = False):
        self.split, self.folder, self.is_fetched = split, folder, is_fetched
        self.shards = tuple(shards)
        self.paths = [folder / shard.name for shard in shards]
        self._open: dict[int, RandomAccessFile] = {}
        self._stamps: dict[int, tuple[int, int]] = {}
        self._lock = threading.Lock()
        self._max_open = max_open_files(len(shards))

    def __reduce__(self) -> tuple:
        """Another process opens the shards itself."""
        return ShardImages, (self.split, self.folder, self.shards, self.is_fetched)

    def read_into(self, rows: np.ndarray, images: np.ndarray) -> None:
        """Decode samples into uint8 RGB (N, H, W, 3).

        Raises:
            DatasetError: if a sample is not what prep wrote, or does not decode to that size.
            MachineError: if the disk fails, or a shard changed after it was first read.
        """
        for row, image in zip(rows.tolist(), images, strict=True):  # one look-up for all rows
            try:
                pixels = simplejpeg.decode_jpeg(self.jpeg(row), "RGB", buffer=image)
            except ValueError as error:
                raise DatasetError(
                    f"{self.where(row)} does not decode ({error}).",
                    kept="The shard changed since prep wrote it.",
                    hint=f"Show the damage: alexnet verify {self.folder}",
                ) from error
            if pixels.shape != image.shape:
                raise DatasetError(f"{self.where(row)} is {pixels.shape}, not {image.shape}.")

    def jpeg(self, row: tuple) -> bytes:
        """Return the JPEG of one sample; errors are those of `read_into`."""
        shard, offset, length, _, _, crc32 = row
        content = self.read(shard, offset, length)
        if zlib.crc32(content) != crc32:
            raise self._changed(row)
        return content

    def where(self, row: tuple) -> str:
        """Return shard and key of one sample, for messages."""
        shard, number = row[0], row[4]
        return f"{self.paths[shard]}: sample {self.split}-{number:08d}"

    def read(self, shard: int, offset: int, length: int) -> bytes:
        """Return bytes of a shard.

        Raises:
            MachineError: if the disk fails, or the file was truncated.
        """
        path = self.paths[shard]
        try:
            file = self._open.get(shard) or self._opened(shard)
            content = file.read(length, offset)
        except OSError as error:
            raise MachineError(f"{fault_in_words(error, path)}.", hint=advice_on(error)) from error
        if len(content) < length:
            raise MachineError(
                f"{path}: ends before byte {offset + length}; it was longer when work began.",
                hint=f"Show the damage: alexnet verify {self.folder}",
            )
        return content

    def has_changed(self, shard: int) -> bool:
        """Return whether a shard was modified or replaced since it was first read."""
        try:
            return self._opened(shard).stamp() != self._stamps[shard]
        except OSError:
            return True

    def _changed(self, row: tuple) -> AlexNetError:
        what = f"{self.where(row)} is not what prep wrote: its CRC-32 differs"
        advice: str | Hint = hint("repair_dataset", folder=self.folder)
        if self.is_fetched:
            advice = "Remove the file; it will be fetched again."
        if self.has_changed(row[0]):
            what += "; the shard changed after it was first read"
            return MachineError(f"{what}.", hint=advice)
        return DatasetError(f"{what}.", hint=advice)

    def _opened(self, shard: int) -> RandomAccessFile:
        file = RandomAccessFile(self.paths[shard])
        with self._lock:
            self._stamps.setdefault(shard, file.stamp())
            if len(self._open) >= self._max_open:
                del self._open[next(iter(self._open))]
            self._open[shard] = file
        return file


class RawImages:
    """Decoded images uint8 (H, W, 3), one after the other in one file.

    Attributes:
        rows: RAW_ROW (N,), what `read_into` needs for each image; empty in other processes.
    """

    def __init__(self, path: Path, crc32: np.ndarray):
        self.path = path
        self.rows = np.empty(len(crc32), RAW_ROW)
        self.rows["position"] = np.arange(len(crc32))
        self.rows["crc32"] = crc32

    def __reduce__(self) -> tuple:
        return RawImages, (self.path, np.empty(0, np.uint32))

    @cached_property
    def _file(self) -> RandomAccessFile:
        return RandomAccessFile(self.path)

    def read_into(self, rows: np.ndarray, images: np.ndarray) -> None:
        """Read images into uint8 RGB (N, H, W, 3).

        Raises:
            DatasetError: if the CRC-32 of an image differs, or the file was truncated.
            MachineError: if the disk fails.
        """
        for (position, crc32), image in zip(rows.tolist(), images, strict=True):
            try:
                num_bytes = self._file.read_into(image, position * image.nbytes)
            except OSError as error:
                what = fault_in_words(error, self.path)
                raise MachineError(f"{what}.", hint=advice_on(error)) from error
            if num_bytes < image.nbytes or zlib.crc32(image) != crc32:
                raise DatasetError(
                    f"{self.path}: image {position} is damaged: its CRC-32 differs.",
                    kept="The shards are not affected.",
                    hint=f"Remove the file; the same command builds it again: rm {self.path}",
                )
