"""Decoded images in one file, read by position in any thread or process."""

import os
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from alexnet_cli.data.shards.files import OpenFile
from alexnet_cli.errors import DatasetError, MachineError
from alexnet_cli.io.disk import advice_on, fault_in_words

ROW = np.dtype([("position", "<i8"), ("crc32", "<u4")])


class RawImages:
    """Images uint8 (H, W, 3) that lie one behind the other; each process opens the file itself."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple:
        return RawImages, (self.path,)

    @cached_property
    def _file(self) -> OpenFile:
        return OpenFile(os.open(self.path, os.O_RDONLY))

    def read_into(self, rows: np.ndarray, images: np.ndarray) -> None:
        """Read images into uint8 RGB (N, H, W, 3).

        Args:
            rows: ROW (N,), positions and checksums.

        Raises:
            DatasetError: an image's CRC-32 is not that of `rows`.
            MachineError: the disk fails, or the file got shorter.
        """
        for (position, crc32), image in zip(rows.tolist(), images, strict=True):
            try:
                num_bytes = os.preadv(self._file.descriptor, [image], position * image.nbytes)
            except OSError as error:
                what = fault_in_words(error, self.path)
                raise MachineError(f"{what}.\n{advice_on(error)}") from error
            if num_bytes < image.nbytes or zlib.crc32(image) != crc32:
                raise DatasetError(
                    f"{self.path}: image {position} is damaged: its CRC-32 differs.\n"
                    "The shards are not affected. Remove the file, and the same command builds it "
                    f"again: rm {self.path}"
                )


@dataclass(frozen=True, slots=True)
class RawCache:
    """The decoded images of one split.

    Attributes:
        crc32: uint32 (N,), of the pixels of each image in stored order.
    """

    images: RawImages
    crc32: np.ndarray

    def rows(self, positions: np.ndarray) -> np.ndarray:
        """Return what `images` needs to read some samples, ROW (N,)."""
        rows = np.empty(len(positions), ROW)
        rows["position"], rows["crc32"] = positions, self.crc32[positions]
        return rows
