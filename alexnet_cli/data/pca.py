"""`alexnet pca`: the training set's mean image and RGB principal components."""

from collections.abc import Iterator
from dataclasses import dataclass

from alexnet_cli.data.batches.loader import Batch
from alexnet_cli.data.batches.order import batches_of
from alexnet_cli.data.dataset_ref import Location, open_source
from alexnet_cli.data.pixel_stats import FILE_NAME, compute_pixel_stats
from alexnet_cli.io.progress import SILENT, Progress

BATCH_SIZE = 64


@dataclass(frozen=True, slots=True)
class PcaResult:
    """What pca wrote: see `PixelStats` for units."""

    file: str
    images: int
    mean_rgb: list[float]
    eigenvalues: list[float]
    eigenvectors: list[list[float]]


def pca(location: Location, *, progress: Progress = SILENT) -> PcaResult:
    """Compute DATASET/pixel_stats.npz in one pass over the training images.

    Of a dataset that is not a folder of ours it is written into the cache, where train finds it.

    Raises:
        AlexNetError: the dataset is damaged, cannot be reached, or has no training images.
    """
    dataset = open_source(location, ("train",), at_once=True, progress=progress)
    split = dataset.split("train")

    def counted() -> Iterator[Batch]:
        with progress.track("pca", len(split)) as bar:
            for batch in batches_of(split, BATCH_SIZE):
                yield batch
                bar.advance(len(batch.labels))

    stats = compute_pixel_stats(counted(), dataset.fingerprint)
    path = dataset.folder / FILE_NAME
    stats.save(path)
    return PcaResult(
        file=str(path),
        images=stats.num_images,
        mean_rgb=stats.mean_rgb.tolist(),
        eigenvalues=stats.eigenvalues.tolist(),
        eigenvectors=stats.eigenvectors.tolist(),
    )
