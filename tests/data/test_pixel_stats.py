import os
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import simplejpeg

from alexnet_cli.data.pca import pca
from alexnet_cli.data.pixel_stats import (
    FILE_NAME,
    compute_pixel_stats,
    load_pixel_stats,
    principal_components,
    save_pixel_stats,
)
from alexnet_cli.data.shards.dataset import open_dataset
from alexnet_cli.errors import DatasetError
from alexnet_cli.types import Batch, PixelStats


def batch_of(images: np.ndarray) -> Batch:
    return Batch(images, np.zeros(len(images), np.int64), np.arange(len(images)))


def random_images(num: int, *, seed: int = 0) -> np.ndarray:
    """Correlated colors, uint8 RGB (num, 10, 12, 3)."""
    rng = np.random.default_rng(seed)
    mixed = rng.normal(0, 1, (num, 10, 12, 3)) @ rng.normal(0, 25, (3, 3)) + (120, 100, 140)
    return mixed.clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def training_images(dataset) -> np.ndarray:
    """Every training image, read from the tars without our readers: float64 (N, H, W, 3)."""
    images = []
    for path in sorted(dataset.glob("train-*.tar")):
        with tarfile.open(path) as tar:
            for name in tar.getnames():
                if name.endswith(".jpg"):
                    images.append(simplejpeg.decode_jpeg(tar.extractfile(name).read()))
    return np.array(images, np.float64)


@pytest.fixture(scope="module")
def stats(dataset) -> PixelStats:
    """What pca wrote beside the shards. Read only."""
    return load_pixel_stats(dataset, open_dataset(dataset).fingerprint)


def test_mean_image_is_numpys_mean_over_all_training_images(stats, training_images):
    np.testing.assert_allclose(stats.mean_image, training_images.mean(axis=0), rtol=1e-6)


def test_mean_color_is_numpys_mean_over_all_pixels(stats, training_images):
    expected = training_images.reshape(-1, 3).mean(axis=0)
    np.testing.assert_allclose(stats.mean_rgb, expected, rtol=1e-6)


def test_eigenvalues_are_those_of_numpys_covariance_of_all_pixels(stats, training_images):
    covariance = np.cov(training_images.reshape(-1, 3), rowvar=False, bias=True)
    expected = np.sort(np.linalg.eigvals(covariance).real)[::-1]
    np.testing.assert_allclose(stats.eigenvalues, expected, rtol=1e-6)


def test_eigenvectors_are_directions_the_covariance_only_stretches(stats, training_images):
    covariance = np.cov(training_images.reshape(-1, 3), rowvar=False, bias=True)
    stretched = covariance @ stats.eigenvectors
    expected = stats.eigenvectors * stats.eigenvalues
    np.testing.assert_allclose(stretched, expected, atol=1e-6 * stats.eigenvalues[0])


def test_variance_along_a_component_is_its_eigenvalue(stats, training_images):
    pixels = training_images.reshape(-1, 3)
    variances = (pixels @ stats.eigenvectors).var(axis=0)
    np.testing.assert_allclose(variances, stats.eigenvalues, rtol=1e-6)


def test_eigenvectors_are_orthonormal(stats):
    product = stats.eigenvectors.T @ stats.eigenvectors
    np.testing.assert_allclose(product, np.eye(3), atol=1e-12)


def test_eigenvalues_descend(stats):
    assert (np.diff(stats.eigenvalues) < 0).all()


def test_largest_entry_of_each_eigenvector_is_positive():
    rng = np.random.default_rng(5)
    for _ in range(50):
        half = rng.normal(size=(3, 3))
        _, vectors = principal_components(half @ half.T)
        for vector in vectors.T:
            assert vector[np.abs(vector).argmax()] > 0


def test_components_of_a_diagonal_matrix_are_the_axes():
    values, vectors = principal_components(np.diag([2.0, 9.0, 4.0]))
    np.testing.assert_allclose(values, [9, 4, 2])
    np.testing.assert_allclose(vectors, np.eye(3)[:, [1, 2, 0]])


def test_rounding_makes_no_negative_variance():
    direction = np.array([[1.0], [2.0], [3.0]]) / 7
    values, _ = principal_components(direction @ direction.T - 1e-18 * np.eye(3))
    assert (values >= 0).all()


def test_images_of_one_color_have_no_variance():
    stats = compute_pixel_stats([batch_of(np.full((4, 8, 8, 3), 200, np.uint8))], "f")
    np.testing.assert_allclose(stats.eigenvalues, 0, atol=1e-9)
    np.testing.assert_array_equal(stats.mean_image, np.full((8, 8, 3), 200, np.float32))


def test_statistics_do_not_depend_on_the_batches():
    images = random_images(12)
    whole = compute_pixel_stats([batch_of(images)], "f")
    parts = compute_pixel_stats([batch_of(images[:5]), batch_of(images[5:])], "f")
    np.testing.assert_array_equal(parts.mean_image, whole.mean_image)
    np.testing.assert_array_equal(parts.eigenvalues, whole.eigenvalues)


def test_sums_of_white_images_do_not_overflow():
    white = np.full((300, 4, 4, 3), 255, np.uint8)
    stats = compute_pixel_stats([batch_of(white)] * 40, "f")
    np.testing.assert_array_equal(stats.mean_image, 255)


def test_images_are_counted(stats):
    assert stats.num_images == 60


def test_no_image_is_refused():
    with pytest.raises(DatasetError, match="no training image"):
        compute_pixel_stats([], "f")


def test_saved_statistics_are_loaded_exactly(tmp_path):
    before = compute_pixel_stats([batch_of(random_images(5))], "0123456789abcdef")
    save_pixel_stats(before, tmp_path)
    after = load_pixel_stats(tmp_path, "0123456789abcdef")
    for name in ("mean_image", "eigenvalues", "eigenvectors"):
        mine, theirs = getattr(after, name), getattr(before, name)
        assert mine.dtype == theirs.dtype
        np.testing.assert_array_equal(mine, theirs)
    assert (after.num_images, after.fingerprint) == (5, "0123456789abcdef")


def test_statistics_file_is_read_by_numpy_alone(dataset):
    with np.load(dataset / FILE_NAME, allow_pickle=False) as content:
        assert {"mean_image", "mean_rgb", "eigenvalues", "eigenvectors"} <= set(content.files)


def test_pca_twice_writes_the_same_numbers(dataset, stats, tmp_path):
    shutil.copytree(dataset, tmp_path / "copy")
    pca(tmp_path / "copy")
    again = load_pixel_stats(tmp_path / "copy", stats.fingerprint)
    np.testing.assert_array_equal(again.mean_image, stats.mean_image)
    np.testing.assert_array_equal(again.eigenvectors, stats.eigenvectors)


def test_statistics_of_another_dataset_are_refused_with_both_fingerprints(tmp_path):
    stats = compute_pixel_stats([batch_of(random_images(2))], "aaaa")
    save_pixel_stats(stats, tmp_path)
    with pytest.raises(DatasetError, match="made from dataset aaaa, this one is bbbb"):
        load_pixel_stats(tmp_path, "bbbb")


def test_missing_statistics_name_the_command(tmp_path):
    with pytest.raises(DatasetError, match="is missing") as error:
        load_pixel_stats(tmp_path, "aaaa")
    assert error.value.hint == f"Make it: alexnet pca {tmp_path}"


@pytest.fixture
def saved(tmp_path) -> Path:
    """A pixel statistics file that may be damaged."""
    save_pixel_stats(compute_pixel_stats([batch_of(random_images(2))], "aaaa"), tmp_path)
    return tmp_path / FILE_NAME


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.95])
def test_file_cut_short_is_damaged(saved, share):
    os.truncate(saved, int(share * saved.stat().st_size))
    with pytest.raises(DatasetError, match="damaged"):
        load_pixel_stats(saved.parent, "aaaa")


def test_changed_byte_of_an_array_is_noticed(saved):
    whole = saved.read_bytes()
    at = whole.index(b"mean_image.npy") + 400
    saved.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    with pytest.raises(DatasetError, match="damaged"):
        load_pixel_stats(saved.parent, "aaaa")


def test_file_that_lacks_an_array_is_damaged(saved):
    np.savez(saved, mean_image=np.zeros((4, 4, 3)))
    with pytest.raises(DatasetError, match="damaged"):
        load_pixel_stats(saved.parent, "aaaa")


def test_failed_save_keeps_the_old_file(saved):
    before = saved.read_bytes()
    stats = load_pixel_stats(saved.parent, "aaaa")
    unwritable = replace(stats, mean_image=iter(()), fingerprint=object())
    with pytest.raises((ValueError, TypeError, AttributeError)):
        save_pixel_stats(unwritable, saved.parent)
    assert saved.read_bytes() == before
