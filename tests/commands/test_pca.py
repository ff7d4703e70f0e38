import shutil

import numpy as np
import pytest


def test_json_holds_mean_and_components(answer, dataset, tmp_path):
    copy = shutil.copytree(dataset, tmp_path / "copy")
    (copy / "pixel_stats.npz").unlink()
    found = answer("pca", copy)
    with np.load(copy / "pixel_stats.npz") as stats:
        assert found["images"] == stats["num_images"] == 60
        np.testing.assert_allclose(found["mean_rgb"], stats["mean_rgb"])
        np.testing.assert_allclose(found["eigenvalues"], stats["eigenvalues"])
        np.testing.assert_allclose(found["eigenvectors"], stats["eigenvectors"])
    assert found["eigenvalues"] == sorted(found["eigenvalues"], reverse=True)


def test_table_shows_mean_and_components(shown, answer, dataset):
    found, text = answer("pca", dataset), shown("pca", dataset)
    for value in found["mean_rgb"]:
        assert f"{value:.2f}" in text
    for value in found["eigenvalues"]:
        assert f"{value**0.5:.2f}" in text


def test_folder_without_index_is_refused(fails, tmp_path):
    assert "no index.json" in fails(3, "pca", tmp_path).message
    assert "no index.json" in fails(3, "pca", tmp_path / "none").message


def test_shard_of_another_size_is_refused(fails, dataset, tmp_path):
    copy = shutil.copytree(dataset, tmp_path / "copy")
    with (copy / "train-000001.tar").open("ab") as shard:
        shard.write(b"more")
    assert "train-000001.tar" in fails(3, "pca", copy).message


@pytest.mark.parametrize("name", ["index.json", "train.samples.npy"])
def test_cut_index_is_refused_by_name(fails, dataset, tmp_path, name):
    copy = shutil.copytree(dataset, tmp_path / "copy")
    (copy / name).write_bytes((copy / name).read_bytes()[:100])
    assert name in fails(3, "pca", copy).message


def test_torch_is_never_loaded(needs_no_torch, dataset):
    needs_no_torch("pca", dataset)
