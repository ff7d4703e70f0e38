"""`alexnet features` and `similar`: what an index holds, finds and refuses."""

import shutil

import numpy as np
import pytest

from alexnet_cli.data.shards.dataset import open_dataset
from alexnet_cli.inference.feature_index import open_index, weights_of
from alexnet_cli.inference.load import load_model
from alexnet_cli.io.atomic import write_checksummed
from alexnet_cli.model.checkpoint import load_checkpoint, save_checkpoint

ON_CPU = ("--device", "cpu")


@pytest.fixture(scope="module")
def made(tmp_path_factory, checkpoint, dataset):
    """The index of the training images, and the answer of the command."""
    import json

    from typer.testing import CliRunner

    from alexnet_cli.cli.app import app

    out = tmp_path_factory.mktemp("index") / "train"
    arguments = ["features", checkpoint, dataset, "-o", out, "--bits", 64, *ON_CPU, "--json"]
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return out, json.loads(result.stdout)


def test_features_are_those_of_the_api_in_half_precision(made, checkpoint, dataset):
    out, answer = made
    index = open_index(out)
    split = open_dataset(dataset)["train"]
    expected = load_model(checkpoint, views=1, device="cpu").features(list(split))
    assert answer["images"] == len(split) == 60
    assert answer["bytes"] == sum(path.stat().st_size for path in out.iterdir())
    assert index.about["keys"] == split.keys()
    assert np.abs(index.features - expected).max() <= 2e-3 * np.abs(expected).max()
    assert index.features.dtype == np.float16


def test_each_image_finds_itself_first(answer, made, dataset, tmp_path):
    split = open_dataset(dataset)["train"]
    index = open_index(made[0])
    positions, distances = index.nearest(index.features, 1)
    same = np.square(index.features[positions[:, 0]] - index.features).sum(axis=1)
    assert (same == 0).all()
    assert (distances == 0).all()

    (tmp_path / "image.jpg").write_bytes(split[17].jpeg)
    for method in ("exact", "codes"):
        arguments = ("--index", made[0], "-k", 3, "--method", method, *ON_CPU)
        found = answer("similar", tmp_path / "image.jpg", *arguments)
        assert found["method"] == method
        assert len(found["nearest"]) == 3
        assert found["nearest"][0]["image"] == split.keys()[17]
        assert found["nearest"][0]["name"] == split[17].name
        assert found["nearest"][0]["distance"] < 0.1 * found["nearest"][1]["distance"]


def test_precision_is_that_of_all_distances(made):
    index = open_index(made[0])
    features = index.features.astype(np.float64)
    labels = np.array(index.about["labels"])
    distances = np.linalg.norm(features[:, None] - features[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    nearest = np.argsort(distances, axis=1, kind="stable")[:, :10]
    found = made[1]["precision"]
    assert found["exact"] == pytest.approx((labels[nearest] == labels[:, None]).mean())
    assert found["chance"] == pytest.approx(5 / 59)
    assert (found["k"], found["queries"]) == (10, 60)
    assert 0 < found["codes"] <= 1


def test_images_of_a_folder_are_named_by_their_paths(answer, shown, onnx_model, images, tmp_path):
    made = answer("features", onnx_model, images, "-o", tmp_path / "index", "--bits", 64)
    assert made["images"] == 3
    assert made["precision"] is None
    found = answer("similar", images / "b.jpg", "--index", tmp_path / "index", "-k", 2)
    assert found["nearest"][0] == {"image": str(images / "b.jpg"), "name": None, "distance": 0.0}
    assert "b.jpg" in shown("similar", images / "b.jpg", "--index", tmp_path / "index")


def test_index_of_an_onnx_model_needs_no_torch(needs_no_torch, onnx_model, images, tmp_path):
    needs_no_torch("features", onnx_model, str(images), "-o", tmp_path / "i", "--bits", "64")


def test_tars_without_an_index_are_to_be_made_a_dataset(fails, checkpoint, tars, tmp_path):
    for place in (tars, tars / "val-000000.tar"):
        failure = fails(3, "features", checkpoint, place, "-o", tmp_path / "index", *ON_CPU)
        assert f"{place}: tars without an index.json" in failure.message
        assert f"alexnet prep '{tars}' DATASET" in failure.message
    assert not (tmp_path / "index").exists()


def test_unreadable_images_are_left_out_with_exit_code_5(fails, checkpoint, images, tmp_path):
    shutil.copytree(images, tmp_path / "images")
    (tmp_path / "images" / "bad.jpg").write_bytes(b"no image")
    arguments = (tmp_path / "images", "-o", tmp_path / "index", "--bits", 64, *ON_CPU)
    failure = fails(5, "features", checkpoint, *arguments)
    assert "1 of 4 images could not be read" in failure.message
    assert len(open_index(tmp_path / "index").about["keys"]) == 3


def test_failure_leaves_no_index(fails, checkpoint, copy, tmp_path):
    with (copy / "train-000002.tar").open("r+b") as file:
        file.seek(2000)
        file.write(bytes(500))
    fails(3, "features", checkpoint, copy, "-o", tmp_path / "new" / "index", *ON_CPU)
    assert list((tmp_path / "new").iterdir()) == []


def test_features_beyond_half_precision_are_refused(fails, checkpoint, made, images, tmp_path):
    large = load_checkpoint(checkpoint)
    for name in large.weights:
        large.weights[name] = large.weights[name] * np.float32(100)
    path = tmp_path / "large.safetensors"
    save_checkpoint(path, large)
    failure = fails(3, "features", path, images, "-o", tmp_path / "new", "--bits", 64, *ON_CPU)
    assert "its features are no finite numbers" in failure.message
    shutil.copytree(made[0], tmp_path / "index")
    about = open_index(made[0]).about | {"model": str(path), "weights": weights_of(path)}
    write_checksummed(tmp_path / "index" / "about.json", about)
    failure = fails(3, "similar", images / "b.jpg", "--index", tmp_path / "index", *ON_CPU)
    assert f"{images / 'b.jpg'}: its features are no finite numbers" in failure.message


def test_existing_index_is_kept(fails, checkpoint, dataset, made):
    failure = fails(2, "features", checkpoint, dataset, "-o", made[0], *ON_CPU)
    assert "exists" in failure.message


def test_bits_are_a_multiple_of_64(fails, checkpoint, dataset, tmp_path):
    fails(2, "features", checkpoint, dataset, "-o", tmp_path / "i", "--bits", 100, *ON_CPU)


def test_index_of_another_network_is_refused(fails, runs, images, made):
    arguments = ("--index", made[0], "--model", runs.second, *ON_CPU)
    failure = fails(3, "similar", images / "b.jpg", *arguments)
    assert "not the network" in failure.message
    assert "--model MODEL" in failure.message


def test_truncated_features_are_refused(fails, images, made, tmp_path):
    shutil.copytree(made[0], tmp_path / "index")
    with (tmp_path / "index" / "features.f16").open("r+b") as file:
        file.truncate(1000)
    failure = fails(3, "similar", images / "b.jpg", "--index", tmp_path / "index")
    assert "features.f16 has 1,000 bytes" in failure.message
    (tmp_path / "index" / "about.json").unlink()
    fails(3, "similar", images / "b.jpg", "--index", tmp_path / "index")
