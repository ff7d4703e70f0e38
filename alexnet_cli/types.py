"""Small values that the data and model packages share."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class ImageClass:
    """One class: its wnid (or folder name) and the words people use for it."""

    wnid: str
    name: str


@dataclass(frozen=True, slots=True)
class PixelStats:
    """The mean image (section 2) and the RGB principal components (section 4.1) of training images.

    Attributes:
        mean_image: float32 (H, W, 3), 0..255.
        eigenvalues: float64 (3,), descending: variances along the components, gray levels squared.
        eigenvectors: float64 (3, 3), components in columns, RGB in rows.
        num_images: number of training images averaged.
        fingerprint: the dataset they belong to.
    """

    mean_image: np.ndarray
    eigenvalues: np.ndarray
    eigenvectors: np.ndarray
    num_images: int
    fingerprint: str

    @property
    def mean_rgb(self) -> np.ndarray:
        """float64 (3,): the mean color, 0..255."""
        return self.mean_image.astype(np.float64).mean(axis=(0, 1))


@dataclass(frozen=True, slots=True)
class Batch:
    """Some samples of a split.

    Attributes:
        images: uint8 RGB (N, H, W, 3), 0..255.
        labels: int64 (N,).
        positions: int64 (N,), the position of each sample in its split.
    """

    images: np.ndarray
    labels: np.ndarray
    positions: np.ndarray


@dataclass(frozen=True, slots=True)
class BatchShard:
    """The part of every batch that one of several replicas processes."""

    rank: int = 0
    world_size: int = 1

    def rows(self, num: int) -> slice:
        """Return this replica's rows of a batch of `num`."""
        begin, end = (num * rank // self.world_size for rank in (self.rank, self.rank + 1))
        return slice(begin, end)


WHOLE_BATCH = BatchShard()
