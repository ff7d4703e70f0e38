"""Rows of a sample index -> pixels, decoded from the shards, in any thread or process."""

import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import simplejpeg

from alexnet_cli.data.shards.files import ShardFiles
from alexnet_cli.errors import DatasetError, MachineError


def repair_advice(folder: Path) -> str:
    """Return the command that repairs a damaged dataset."""
    return f"Rebuild what is damaged: alexnet verify {folder} --repair SOURCE"


@dataclass(frozen=True, slots=True)
class ShardImages:
    """The images of one split; rows are those of its sample index, as arrays or tuples.

    Attributes:
        is_fetched: whether the shards were fetched from a URL.
    """

    split: str
    files: ShardFiles
    is_fetched: bool

    def read_into(self, rows: np.ndarray, images: np.ndarray) -> None:
        """Decode samples into uint8 RGB (N, H, W, 3).

        Raises:
            DatasetError: a sample is not what prep wrote, or does not decode to that size; shard
                and key are named.
            MachineError: the disk fails, or a shard changed after it was first read.
        """
        for row, image in zip(rows.tolist(), images, strict=True):  # one look-up for all rows
            try:
                pixels = simplejpeg.decode_jpeg(self.jpeg(row), "RGB", buffer=image)
            except ValueError as error:
                raise DatasetError(
                    f"{self.where(row)} does not decode ({error}).\n"
                    "The shard changed since prep wrote it. "
                    f"See what: alexnet verify {self.files.folder}"
                ) from error
            if pixels.shape != image.shape:
                raise DatasetError(f"{self.where(row)} is {pixels.shape}, not {image.shape}.")

    def jpeg(self, row: tuple) -> bytes:
        """Return one sample's JPEG bytes; errors are those of `read_into`."""
        shard, offset, length, _, _, *crc32 = row
        content = self.files.read(shard, offset, length)
        if crc32 and zlib.crc32(content) != crc32[0]:
            raise self._changed(row)
        return content

    def where(self, row: tuple) -> str:
        """Return shard and key of one sample, for messages."""
        shard, number = row[0], row[4]
        return f"{self.files.paths[shard]}: sample {self.split}-{number:08d}"

    def _changed(self, row: tuple) -> DatasetError | MachineError:
        what = f"{self.where(row)} is not what prep wrote: its CRC-32 differs"
        remedy = (
            "Remove the file; it will be fetched again."
            if self.is_fetched
            else repair_advice(self.files.folder)
        )
        if self.files.has_changed(row[0]):
            return MachineError(f"{what}; the shard changed after it was first read.\n{remedy}")
        return DatasetError(f"{what}.\n{remedy}")
