"""The mean image (paper section 2) and the RGB principal components (section 4.1).

Both are over the training pixels on the 0..255 scale, in one pass, summed in float64.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from alexnet_cli.errors import DatasetError, Hint, on_one_line
from alexnet_cli.io.atomic import write_atomically
from alexnet_cli.types import Batch, PixelStats

FILE_NAME = "pixel_stats.npz"


def compute_pixel_stats(batches: Iterable[Batch], fingerprint: str) -> PixelStats:
    """Average the images of `batches` and find the principal components of their pixels.

    Raises:
        DatasetError: if there is no image.
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


def save_pixel_stats(stats: PixelStats, folder: Path) -> Path:
    """Write DATASET/pixel_stats.npz atomically and return its path."""
    path = folder / FILE_NAME
    with write_atomically(path) as file:
        np.savez(
            file,
            mean_image=stats.mean_image,
            mean_rgb=stats.mean_rgb,
            eigenvalues=stats.eigenvalues,
            eigenvectors=stats.eigenvectors,
            num_images=stats.num_images,
            fingerprint=stats.fingerprint,
        )
    return path


def load_pixel_stats(folder: Path, fingerprint: str, hint: str | Hint | None = None) -> PixelStats:
    """Read DATASET/pixel_stats.npz.

    Args:
        hint: how to make the file, for errors.

    Raises:
        DatasetError: if it is missing, damaged, or belongs to another dataset.
    """
    path = folder / FILE_NAME
    hint = hint or f"Make it: alexnet pca {folder}"
    if not path.is_file():
        raise DatasetError(f"{path} is missing.", hint=hint)
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
            stats = PixelStats(
                content["mean_image"],
                content["eigenvalues"],
                content["eigenvectors"],
                int(content["num_images"]),
                str(content["fingerprint"]),
            )
    except Exception as error:  # zip, npy and key errors of a damaged file
        why = on_one_line(str(error))
        raise DatasetError(f"{path}: damaged ({why}).", hint=hint) from error
    if stats.fingerprint != fingerprint:
        raise DatasetError(
            f"{path}: made from dataset {stats.fingerprint}, this one is {fingerprint}.", hint=hint
        )
    return stats
