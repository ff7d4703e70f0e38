"""`alexnet pca`: the training set's mean image and RGB principal components."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from alexnet_cli.data.batches.loader import batches_of
from alexnet_cli.data.dataset_ref import DatasetRef
from alexnet_cli.data.pixel_stats import compute_pixel_stats, save_pixel_stats
from alexnet_cli.io.progress import SILENT, Progress
from alexnet_cli.types import Batch

BATCH_SIZE = 64


@dataclass(frozen=True, slots=True)
class PcaResult:
    """The statistics that pca wrote; see `PixelStats` for units."""

    file: str
    images: int
    mean_rgb: list[float]
    eigenvalues: list[float]
    eigenvectors: list[list[float]]


def pca(dataset: DatasetRef | Path, *, progress: Progress = SILENT) -> PcaResult:
    """Compute DATASET/pixel_stats.npz in one pass over the training images.

    For a dataset that is not a folder, the file is written into the cache, where train finds it.

    Raises:
        AlexNetError: if the dataset is damaged, cannot be reached, or has no training images.
    """
    opened = DatasetRef.parse(dataset).open(("train",), fetch_now=True, progress=progress)
    split = opened.split("train")

    def counted() -> Iterator[Batch]:
        with progress.track("pca", len(split)) as bar:
            for batch in batches_of(split, BATCH_SIZE):
                yield batch
                bar.advance(len(batch.labels))

    stats = compute_pixel_stats(counted(), opened.fingerprint)
    return PcaResult(
        file=str(save_pixel_stats(stats, opened.folder)),
        images=stats.num_images,
        mean_rgb=stats.mean_rgb.tolist(),
        eigenvalues=stats.eigenvalues.tolist(),
        eigenvectors=stats.eigenvectors.tolist(),
    )
