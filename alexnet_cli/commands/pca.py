"""`alexnet pca`: the training set's mean image and RGB principal components."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alexnet_cli.data.dataset import open_dataset
from alexnet_cli.data.loader import Batch, load_batches
from alexnet_cli.data.pixel_stats import FILE_NAME, compute_pixel_stats
from alexnet_cli.progress import SILENT, Progress

BATCH_SIZE = 64


@dataclass(frozen=True, slots=True)
class PcaResult:
    """What pca wrote: see `PixelStats` for units."""

    file: str
    images: int
    mean_rgb: list[float]
    eigenvalues: list[float]
    eigenvectors: list[list[float]]


def pca(folder: Path, *, progress: Progress = SILENT) -> PcaResult:
    """Compute DATASET/pixel_stats.npz in one pass over the training images.

    Raises:
        DatasetError: the dataset is damaged or has no training images.
    """
    dataset = open_dataset(folder)
    split = dataset.split("train")

    def counted() -> Iterator[Batch]:
        with progress.track("pca", len(split)) as bar:
            for batch in load_batches(split, np.arange(len(split)), BATCH_SIZE):
                yield batch
                bar.advance(len(batch.labels))

    stats = compute_pixel_stats(counted(), dataset.fingerprint)
    path = folder / FILE_NAME
    stats.save(path)
    return PcaResult(
        file=str(path),
        images=stats.num_images,
        mean_rgb=stats.mean_rgb.tolist(),
        eigenvalues=stats.eigenvalues.tolist(),
        eigenvectors=stats.eigenvectors.tolist(),
    )
