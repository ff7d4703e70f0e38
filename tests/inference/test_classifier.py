"""A trained network on images: views, probabilities, and checkpoints that do not fit."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from alexnet_cli.data.batches.loader import load_batches
from alexnet_cli.data.shards.dataset import open_dataset
from alexnet_cli.distributed.device_plan import Runtime
from alexnet_cli.distributed.precision import allow_tf32
from alexnet_cli.errors import CheckpointError
from alexnet_cli.inference.classifier import build_classifier, load_classifier
from alexnet_cli.inference.predict_split import predict_split
from alexnet_cli.model.checkpoint import load_checkpoint, save_checkpoint
from alexnet_cli.model.split import SplitAlexNet

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def loaded(checkpoint):
    """The checkpoint on one device."""
    return load_classifier(checkpoint, Runtime((CPU,)))


@pytest.fixture
def images(loaded) -> np.ndarray:
    """Three images of the right size."""
    size = loaded[0].augmenter.image_size
    return np.random.default_rng(0).integers(0, 256, (3, size, size, 3), dtype=np.uint8)


def expect_probabilities(loaded, crops: np.ndarray) -> np.ndarray:
    """Subtract the mean image's center, run the network, take the softmax."""
    classifier, checkpoint = loaded
    mean, crop = checkpoint.pixels["mean_image"], crops.shape[1]
    edge = (len(mean) - crop) // 2
    inputs = crops.astype(np.float32) - mean[edge : edge + crop, edge : edge + crop]
    with torch.no_grad():
        scores = classifier.net.eval()(torch.from_numpy(inputs.transpose(0, 3, 1, 2)))
    powers = np.exp(scores.double().numpy())
    return powers / powers.sum(axis=1, keepdims=True)


def test_center_view_gives_the_softmax_of_the_center_patch(loaded, images):
    classifier, checkpoint = loaded
    crop = checkpoint.recipe.crop_size
    edge = (images.shape[1] - crop) // 2

    (found,) = classifier.probabilities(images, classifier.views(1))

    crops = images[:, edge : edge + crop, edge : edge + crop]
    np.testing.assert_allclose(found, expect_probabilities(loaded, crops), rtol=1e-4, atol=1e-6)


def test_ten_views_are_the_corners_and_the_center_then_all_mirrored(loaded, images):
    classifier, checkpoint = loaded
    crop = checkpoint.recipe.crop_size
    end = images.shape[1] - crop
    mid = end // 2

    found = classifier.probabilities(images, classifier.views(10))

    corners = [(0, 0), (0, end), (mid, mid), (end, 0), (end, end)]
    cut = [images[:, top : top + crop, left : left + crop] for top, left in corners]
    cut += [part[:, :, ::-1] for part in cut]
    expected = [expect_probabilities(loaded, part) for part in cut]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def nine_crops(images: np.ndarray, crop: int) -> list[np.ndarray]:
    """Cut three by three crops from the top left to the bottom right."""
    end = images.shape[1] - crop
    starts = [0, end // 2, end]
    return [images[:, top:, left:][:, :crop, :crop] for top in starts for left in starts]


def test_nine_views_are_three_by_three_crops_and_not_mirrored(loaded, images):
    classifier, checkpoint = loaded

    found = classifier.probabilities(images, classifier.views(9))

    cut = nine_crops(images, checkpoint.recipe.crop_size)
    expected = [expect_probabilities(loaded, part) for part in cut]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_nine_views_of_a_split_are_averaged_as_probabilities(checkpoint, dataset):
    sharp = load_checkpoint(checkpoint)
    sharp.weights["fc8.weight"] = 300 * sharp.weights["fc8.weight"]  # so that the views disagree
    classifier = build_classifier(sharp, Runtime((CPU,)), checkpoint)
    opened = open_dataset(dataset)
    (batch,) = load_batches(opened.split("val"), np.arange(30), 30)

    found = predict_split(classifier, opened, "val", num_views=9)

    crops = nine_crops(batch.images, sharp.recipe.crop_size)
    each = [expect_probabilities((classifier, sharp), crop) for crop in crops]
    np.testing.assert_allclose(found.probs, sum(each) / 9, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(found.center_probs, each[4], rtol=1e-3, atol=1e-5)
    # The softmax of averaged scores would be something else.
    powers = np.exp(np.mean(np.log(each), axis=0))
    assert np.abs(powers / powers.sum(axis=1, keepdims=True) - found.probs).max() > 1e-2


def test_probabilities_are_float32_and_sum_to_one(loaded, images):
    classifier, checkpoint = loaded

    found = classifier.probabilities(images, classifier.views(10))

    assert (found.dtype, found.shape) == (np.float32, (10, 3, len(checkpoint.classes)))
    np.testing.assert_allclose(found.sum(axis=2), 1, rtol=1e-5)


def test_dropout_is_off_even_after_training(loaded, images):
    classifier, _ = loaded
    expected = classifier.probabilities(images, classifier.views(1))

    classifier.net.train()

    assert np.array_equal(classifier.probabilities(images, classifier.views(1)), expected)


def test_two_devices_give_the_probabilities_of_one(loaded, images, checkpoint):
    classifier, _ = loaded

    split, _ = load_classifier(checkpoint, Runtime((CPU, CPU)))

    assert isinstance(split.net, SplitAlexNet)
    found = split.probabilities(images, split.views(10))
    expected = classifier.probabilities(images, classifier.views(10))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


# --- checkpoints whose content does not fit together


def refused(checkpoint, tmp_path) -> str:
    save_checkpoint(tmp_path / "a.safetensors", checkpoint)
    with pytest.raises(CheckpointError, match="do not fit its recipe") as caught:
        load_classifier(tmp_path / "a.safetensors", Runtime((CPU,)))
    assert str(tmp_path / "a.safetensors") in str(caught.value)
    return str(caught.value)


def test_checkpoint_without_a_layer_is_refused(checkpoint, tmp_path):
    broken = load_checkpoint(checkpoint)
    del broken.weights["conv4.weight"]

    assert "conv4.weight" in refused(broken, tmp_path)


@pytest.mark.parametrize("name", ["mean_image", "eigenvalues", "eigenvectors"])
def test_checkpoint_without_its_pixel_statistics_is_refused(checkpoint, tmp_path, name: str):
    broken = load_checkpoint(checkpoint)
    del broken.pixels[name]

    assert name in refused(broken, tmp_path)


def test_checkpoint_of_another_width_is_refused(checkpoint, tmp_path):
    broken = load_checkpoint(checkpoint)
    wider = replace(broken.recipe.conv2, filters=2 * broken.recipe.conv2.filters)
    broken.recipe = replace(broken.recipe, conv2=wider)

    refused(broken, tmp_path)


def test_checkpoint_of_other_classes_is_refused(checkpoint, tmp_path):
    broken = load_checkpoint(checkpoint)
    broken.classes.pop()

    refused(broken, tmp_path)


@pytest.mark.parametrize("num_devices", [1, 2])
def test_checkpoint_whose_tensor_would_stretch_to_fit_is_refused(
    checkpoint, tmp_path, num_devices: int
):
    broken = load_checkpoint(checkpoint)
    broken.weights["fc7.bias"] = broken.weights["fc7.bias"][:1]

    with pytest.raises(CheckpointError, match="do not fit its recipe"):
        build_classifier(broken, Runtime((CPU,) * num_devices), tmp_path)


def test_weights_in_memory_are_those_of_the_file(checkpoint):
    content = load_checkpoint(checkpoint)

    classifier = build_classifier(content, Runtime((CPU,)), checkpoint)

    for name, parameter in classifier.net.named_parameters():
        assert np.array_equal(parameter.detach().numpy(), content.weights[name]), name


# --- precision


@pytest.fixture
def tf32_of_torch():
    """The setting that torch starts with: TensorFloat-32 in cuDNN's convolutions."""
    allow_tf32("tf32")
    yield
    allow_tf32("fp32")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_classifier_switches_tensorfloat_32_off(checkpoint, tf32_of_torch, precision):
    load_classifier(checkpoint, Runtime((CPU,), precision))

    assert torch.backends.cudnn.conv.fp32_precision == "ieee"
    assert torch.backends.cuda.matmul.fp32_precision == "ieee"


def test_classifier_of_tf32_switches_it_on(checkpoint, tf32_of_torch):
    allow_tf32("fp32")

    load_classifier(checkpoint, Runtime((CPU,), "tf32"))

    assert torch.backends.cudnn.conv.fp32_precision == "tf32"


def test_bf16_computes_in_bfloat16_and_its_probabilities_in_float32(checkpoint, loaded, images):
    exact = loaded[0].probabilities(images, loaded[0].views(10))
    classifier, _ = load_classifier(checkpoint, Runtime((CPU,), "bf16"))
    dtypes = []
    classifier.net.conv2.register_forward_hook(lambda *call: dtypes.append(call[2].dtype))

    found = classifier.probabilities(images, classifier.views(10))

    assert set(dtypes) == {torch.bfloat16}
    assert found.dtype == np.float32
    # A softmax in bfloat16, of 8 bits, would miss 1 by some 1e-3.
    np.testing.assert_allclose(found.sum(axis=2, dtype=np.float64), 1.0, atol=1e-6)
    assert 0 < np.abs(found - exact).max() < 0.02


def test_bf16_of_a_split_network_is_that_of_the_whole(checkpoint, images):
    whole, split = (load_classifier(checkpoint, Runtime((CPU,) * n, "bf16"))[0] for n in (1, 2))

    found = split.probabilities(images, split.views(1))

    np.testing.assert_allclose(found, whole.probabilities(images, whole.views(1)), atol=0.01)
