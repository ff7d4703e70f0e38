"""The mean image (paper section 2) and the RGB principal components (section 4.1).

Both are over the training pixels on the 0..255 scale, in one pass, summed in float64.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alexnet_cli.data.batches.loader import Batch
from alexnet_cli.errors import DatasetError
from alexnet_cli.io.atomic import write_atomically

FILE_NAME = "pixel_stats.npz"


@dataclass(frozen=True, slots=True)
class PixelStats:
    """What training subtracts and adds.

    Attributes:
        mean_image: float32 (H, W, 3), 0..255.
        eigenvalues: float64 (3,), descending: variances along the components, gray levels squared.
        eigenvectors: float64 (3, 3), components in columns, RGB in rows.
        num_images: how many training images were averaged.
        fingerprint: the dataset they came from.
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

    def save(self, path: Path) -> None:
        """Write pixel_stats.npz atomically."""
        with write_atomically(path) as file:
            np.savez(
                file,
                mean_image=self.mean_image,
                mean_rgb=self.mean_rgb,
                eigenvalues=self.eigenvalues,
                eigenvectors=self.eigenvectors,
                num_images=self.num_images,
                fingerprint=self.fingerprint,
            )


def compute_pixel_stats(batches: Iterable[Batch], fingerprint: str) -> PixelStats:
    """Average the images of `batches` and find the principal components of their pixels.

    Raises:
        DatasetError: there is no image.
    """
    pixel_sum, product_sum, num_images = None, np.zeros((3, 3)), 0
    for batch in batches:
        if pixel_sum is None:
            pixel_sum = np.zeros(batch.images.shape[1:])
        pixel_sum += batch.images.sum(axis=0, dtype=np.uint32)
        for image in batch.images:
            pixels = image.reshape(-1, 3).astype(np.float64)
            product_sum += pixels.T @ pixels  # integers below 2^53: exact
        num_images += len(batch.images)
    if pixel_sum is None:
        raise DatasetError("no training image to average.")
    mean_image = pixel_sum / num_images
    mean_rgb = mean_image.mean(axis=(0, 1))
    num_pixels = num_images * mean_image.shape[0] * mean_image.shape[1]
    covariance = product_sum / num_pixels - np.outer(mean_rgb, mean_rgb)
    values, vectors = principal_components(covariance)
    return PixelStats(mean_image.astype(np.float32), values, vectors, num_images, fingerprint)


def principal_components(covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return eigenvalues (descending) and eigenvectors (columns) of a symmetric 3x3 matrix.

    The sign of each vector is fixed: its largest component is positive.
    """
    values, vectors = np.linalg.eigh(covariance)
    values, vectors = values[::-1], vectors[:, ::-1]
    largest = np.abs(vectors).argmax(axis=0)
    signs = np.sign(vectors[largest, np.arange(3)])
    return np.maximum(values, 0.0), vectors * signs


def load_pixel_stats(folder: Path, fingerprint: str, called: str = "") -> PixelStats:
    """Read DATASET/pixel_stats.npz.

    Args:
        called: the dataset's name on a command line, where that is not the folder's.

    Raises:
        DatasetError: it is missing, damaged, or of another dataset.
    """
    path = folder / FILE_NAME
    remedy = f"alexnet pca {called or folder}"
    if not path.is_file():
        raise DatasetError(f"{path} is missing. Make it: {remedy}")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
            stats = PixelStats(
                content["mean_image"],
                content["eigenvalues"],
                content["eigenvectors"],
                int(content["num_images"]),
                str(content["fingerprint"]),
            )
    except Exception as error:  # zip, npy and key faults of a damaged file
        raise DatasetError(f"{path}: damaged ({error}). Make it again: {remedy}") from error
    if stats.fingerprint != fingerprint:
        raise DatasetError(
            f"{path}: made from dataset {stats.fingerprint}, this one is {fingerprint}.\n"
            f"Make it again: {remedy}"
        )
    return stats
