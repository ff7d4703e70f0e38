"""Every image of a split once, in order, and views averaged as the paper does."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import predict_checkpoint
from PIL import Image

from alexnet_cli.data.shards.dataset import Dataset, open_dataset
from alexnet_cli.distributed.device_plan import Runtime
from alexnet_cli.distributed.replicas import Replicas
from alexnet_cli.errors import CheckpointError, DatasetError, DivergedError
from alexnet_cli.inference import predict_split as inference
from alexnet_cli.inference.classifier import Classifier, load_classifier
from alexnet_cli.inference.metrics import score, scores_from_sums
from alexnet_cli.inference.predict_split import predict_split, score_split
from alexnet_cli.inference.predictions import load_predictions
from alexnet_cli.model.checkpoint import load_checkpoint, save_checkpoint
from alexnet_cli.prep.build import prep
from alexnet_cli.prep.plan import PrepOptions, PrepRequest

CPU = torch.device("cpu")


@pytest.fixture
def classifier(checkpoint) -> Classifier:
    """The checkpoint's network."""
    return load_classifier(checkpoint, Runtime((CPU,)))[0]


@pytest.fixture
def opened(dataset) -> Dataset:
    """The dataset."""
    return open_dataset(dataset)


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch):
    """Make a split take several batches, the last one short."""
    monkeypatch.setattr(inference, "BATCH_SIZE", 7)


def read_images(dataset: Dataset, split: str) -> np.ndarray:
    """Decode a split one by one with another decoder; it may differ by a gray level or two."""
    stored = dataset.split(split)
    files = (io.BytesIO(stored.jpeg(position)) for position in range(len(stored)))
    return np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files])


def test_every_image_comes_once_and_in_stored_order(classifier, opened):
    found = predict_split(classifier, opened, "train", num_views=1)

    split = opened.split("train")
    assert list(found.keys) == split.keys()
    assert len(set(found.keys)) == 60
    assert np.array_equal(found.labels, split.labels)


def test_each_image_gets_its_own_probabilities(classifier, opened):
    found = predict_split(classifier, opened, "val", num_views=1)

    images = read_images(opened, "val")
    alone = [classifier.probabilities(image[None], classifier.views(1))[0, 0] for image in images]
    np.testing.assert_allclose(found.probs, alone, atol=1e-3)
    assert len(np.unique(found.probs.round(7), axis=0)) == 30  # no two images are alike


def test_ten_views_are_averaged_as_probabilities(classifier, opened, checkpoint):
    found = predict_split(classifier, opened, "val", num_views=10)

    crop, mean = classifier.augmenter.crop_size, load_checkpoint(checkpoint).pixels["mean_image"]
    end = len(mean) - crop
    mid, total = end // 2, 0.0
    for top, left in ((0, 0), (0, end), (mid, mid), (end, 0), (end, end)):
        for step in (1, -1):
            cut = read_images(opened, "val")[:, top : top + crop, left : left + crop][:, :, ::step]
            inputs = cut - mean[mid : mid + crop, mid : mid + crop]
            with torch.no_grad():
                scores = classifier.net.eval()(torch.from_numpy(inputs.transpose(0, 3, 1, 2)))
            total = total + scores.double().softmax(dim=1).numpy()
    np.testing.assert_allclose(found.probs, total / 10, atol=1e-3)


def test_ten_views_carry_the_center_view_too(classifier, opened):
    ten, one = (predict_split(classifier, opened, "val", num_views=n) for n in (10, 1))

    np.testing.assert_allclose(ten.center_probs, one.probs, rtol=1e-5, atol=1e-7)
    assert np.array_equal(one.center_probs, one.probs)
    assert not np.allclose(ten.probs, one.probs, rtol=1e-5)


def test_batch_size_does_not_show(classifier, opened, monkeypatch):
    few = predict_split(classifier, opened, "val", num_views=1)
    monkeypatch.setattr(inference, "BATCH_SIZE", 1000)

    many = predict_split(classifier, opened, "val", num_views=1)

    np.testing.assert_allclose(few.probs, many.probs, rtol=1e-5, atol=1e-7)


def test_predictions_say_what_they_are(checkpoint, dataset, opened):
    found = predict_checkpoint(checkpoint, dataset, "val", 10)

    assert found.classes == tuple(entry.wnid for entry in opened.classes)
    assert (found.split, found.views, found.fingerprint) == ("val", 10, opened.fingerprint)
    assert found.weights_hash == load_checkpoint(checkpoint).weights_hash()
    assert found.probs.dtype == found.center_probs.dtype == np.float32


@pytest.mark.parametrize("num_views", [1, 10])
def test_scores_without_the_probabilities_are_those_of_the_probabilities(
    classifier, opened, num_views
):
    found = score_split(classifier, opened, "val", num_views=num_views)

    kept = predict_split(classifier, opened, "val", num_views=num_views)
    expected = [score(probs, kept.labels) for probs in (kept.probs, kept.center_probs)]
    assert len(found) == (2 if num_views > 1 else 1)
    for mine, theirs in zip(found, expected, strict=False):
        assert (mine.top1_error, mine.top5_error) == (theirs.top1_error, theirs.top5_error)
        assert mine.log_loss == pytest.approx(theirs.log_loss, rel=1e-12)


@pytest.mark.parametrize("count", [2, 3, 8])
def test_shares_of_any_number_of_replicas_add_up_to_the_scores_of_one(classifier, opened, count):
    """Of 8 replicas some have an empty share of the last batch."""
    sums = []

    class Apart(Replicas):
        """A replica whose sums are added up here."""

        def all_reduce(self, values: torch.Tensor) -> None:
            sums.append(values.clone().numpy())

    for rank in range(count):
        score_split(classifier, opened, "val", num_views=1, replicas=Apart(rank, count))

    (alone,) = score_split(classifier, opened, "val", num_views=1)
    found = scores_from_sums(sum(sums)[0])
    assert (found.top1_error, found.top5_error) == (alone.top1_error, alone.top5_error)
    assert found.log_loss == pytest.approx(alone.log_loss, rel=1e-6)


def test_probabilities_of_one_view_are_kept_once(classifier, opened, tmp_path):
    found = predict_split(classifier, opened, "val", num_views=1)
    assert found.center_probs is found.probs

    found.save(tmp_path / "p.npz")

    with np.load(tmp_path / "p.npz") as content:
        assert "center_probs" not in content
    loaded = load_predictions(tmp_path / "p.npz")
    assert np.array_equal(loaded.center_probs, found.probs)


def test_split_that_is_not_there_is_refused(checkpoint, dataset):
    with pytest.raises(DatasetError, match="test"):
        predict_checkpoint(checkpoint, dataset, "test", 1)


# --- checkpoint and dataset must fit


def refused(checkpoint: Path, dataset: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        predict_checkpoint(checkpoint, dataset, "val", 1)
    assert caught.value.exit_code == 3
    assert str(checkpoint) in str(caught.value)
    assert str(dataset) in str(caught.value)
    return str(caught.value)


def test_class_that_the_network_does_not_know_is_refused(checkpoint, dataset, tmp_path):
    other = load_checkpoint(checkpoint)
    other.classes[3] = ("n12345678", "something else")
    save_checkpoint(tmp_path / "a.safetensors", other)

    message = refused(tmp_path / "a.safetensors", dataset)

    assert "classes unknown to" in message
    assert "1 of 10, first 3, n90000004 (checkerboard)" in message


@pytest.mark.parametrize("num_views", [1, 10])
def test_same_classes_in_another_order_are_mapped(checkpoint, dataset, tmp_path, num_views):
    """The network's outputs are exchanged together with the names of their classes."""
    other, order = load_checkpoint(checkpoint), [3, 0, 9, 1, 2, 4, 8, 7, 6, 5]
    other.classes = [other.classes[label] for label in order]
    for name in ("fc8.weight", "fc8.bias"):
        other.weights[name] = other.weights[name][order]
    save_checkpoint(tmp_path / "a.safetensors", other)

    found = predict_checkpoint(tmp_path / "a.safetensors", dataset, "val", num_views)

    expected = predict_checkpoint(checkpoint, dataset, "val", num_views)
    np.testing.assert_allclose(found.probs, expected.probs[:, order], rtol=1e-4, atol=1e-7)
    np.testing.assert_array_equal(np.array(order)[found.labels], expected.labels)
    assert [found.classes[label] for label in found.outputs] == list(expected.classes)
    for mine, theirs in zip(found.scores(), expected.scores(), strict=True):
        assert mine.top1_error == theirs.top1_error
    assert not found.is_subset


def test_dataset_with_classes_beyond_the_networks_is_refused(checkpoint, dataset, tmp_path):
    other = load_checkpoint(checkpoint)
    del other.classes[7:]
    for name in ("fc8.weight", "fc8.bias"):
        other.weights[name] = other.weights[name][:7]
    save_checkpoint(tmp_path / "a.safetensors", other)

    assert "3 of 10, first 7, " in refused(tmp_path / "a.safetensors", dataset)


def test_other_image_size_is_refused(checkpoint, release, tmp_path):
    prep(
        PrepRequest(release, tmp_path / "larger", PrepOptions(size=120, shard_size=100), workers=1)
    )

    message = refused(checkpoint, tmp_path / "larger")

    assert "made for 112-pixel images" in message
    assert "has 120" in message


@pytest.mark.parametrize("scale", [1e30, np.float32(3e38)])
def test_scores_that_overflow_are_refused(checkpoint, dataset, tmp_path, scale):
    broken = load_checkpoint(checkpoint)
    for name in ("fc6.weight", "fc7.weight", "fc8.weight"):
        broken.weights[name] = np.clip(broken.weights[name] * scale, -3e38, 3e38)
    save_checkpoint(tmp_path / "a.safetensors", replace(broken))

    with pytest.raises(DivergedError, match="scores of val are not finite") as caught:
        predict_checkpoint(tmp_path / "a.safetensors", dataset, "val", 1)

    assert caught.value.exit_code == 6
