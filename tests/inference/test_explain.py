"""Explanations, compared with captum's, and what they must find."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch
from captum.attr import LayerGradCam, Occlusion, Saliency
from torch.nn import functional as F

from alexnet_cli.inference.explain import (
    explain,
    input_gradient,
    last_map,
    occlusion,
    saliency,
    signed_grad_cam,
)
from alexnet_cli.inference.features import features_of, nearest
from alexnet_cli.inference.on_cpu import load_on_cpu
from alexnet_cli.model.architecture import last_hidden_layer
from alexnet_cli.model.network import AlexNet, initialize


@pytest.fixture(scope="module")
def net(checkpoint) -> AlexNet:
    return load_on_cpu(checkpoint)[0].net.eval()


@pytest.fixture(scope="module")
def crop() -> torch.Tensor:
    return 50 * torch.randn(1, 3, 99, 99, generator=torch.Generator().manual_seed(3))


def test_grad_cam_is_captum_s(net, crop):
    layer = net.get_submodule(last_map(net).name)
    expected = LayerGradCam(net, layer).attribute(crop, target=4)
    torch.testing.assert_close(signed_grad_cam(net, crop, 4), expected[0, 0], atol=1e-5, rtol=1e-5)
    enlarged = F.interpolate(expected.relu(), (99, 99), mode="bilinear")[0, 0]
    found = explain(net, crop, 4, "gradcam")
    torch.testing.assert_close(found, enlarged, atol=1e-5, rtol=1e-5)


def test_saliency_is_captum_s(net, crop):
    expected = Saliency(net).attribute(crop.clone().requires_grad_(), target=2)[0].amax(dim=0)
    torch.testing.assert_close(saliency(net, crop, 2), expected, atol=1e-5, rtol=1e-5)


def test_occlusion_is_captum_s(net, crop):
    shapes, strides = (3, 12, 12), (3, 6, 6)
    expected = Occlusion(net).attribute(
        crop, shapes, strides, baselines=0, target=1, perturbations_per_eval=16
    )
    found = occlusion(net, crop, 1)
    # The last window of captum is cut at the border, ours is moved inside.
    inside = (slice(0, 87), slice(0, 87))
    torch.testing.assert_close(found[inside], expected[0, 0][inside], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("of_column", [signed_grad_cam, input_gradient])
def test_columns_add_up_to_the_network(net, crop, of_column):
    parts = [of_column(net, crop, 3, column) for column in (0, 1)]
    torch.testing.assert_close(sum(parts), of_column(net, crop, 3), atol=1e-6, rtol=1e-5)
    assert all(part.abs().max() > 0 for part in parts)


def test_column_whose_kernels_are_zero_sees_nothing(net, crop, tiny_recipe):
    blind = AlexNet(tiny_recipe, 10)
    blind.load_state_dict(net.state_dict())
    half = blind.conv1.weight.shape[0] // 2
    with torch.no_grad():
        blind.conv1.weight[half:] = 0
    assert explain(blind, crop, 0, "occlusion", 1).abs().max() == pytest.approx(0, abs=1e-6)
    assert explain(blind, crop, 0, "saliency", 1).abs().max() == 0
    assert explain(blind, crop, 0, "occlusion", 0).abs().max() > 1e-6


def brightness_detector(recipe) -> AlexNet:
    """Return a network whose class 0 counts bright places, and nothing else."""
    net = AlexNet(replace(recipe, lrn_alpha=0.0), 10).eval()
    initialize(net, 0)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            parameter.fill_(0.0 if name.endswith("bias") else 1e-2)
        net.fc8.weight[1:] = 0
    return net


@pytest.mark.parametrize("method", ["gradcam", "occlusion"])
@pytest.mark.parametrize("place", [(20, 20), (60, 30), (44, 66)])
def test_planted_patch_is_found(tiny_recipe, method, place):
    net = brightness_detector(tiny_recipe)
    image = torch.zeros(1, 3, 99, 99)
    top, left = place
    image[..., top : top + 16, left : left + 16] = 100
    heat = explain(net, image, 0, method).numpy()
    y, x = np.unravel_index(heat.argmax(), heat.shape)
    assert abs(y - top - 8) <= 24
    assert abs(x - left - 8) <= 24


def test_explaining_leaves_the_network_as_it_was(net, crop):
    before = {name: value.clone() for name, value in net.state_dict().items()}
    score = net(crop)
    for method in ("gradcam", "occlusion", "saliency"):
        explain(net, crop, 0, method)
    assert torch.equal(net(crop), score)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())
    assert not any(module._forward_hooks for module in net.modules())


def test_features_are_what_fc8_multiplies_before_dropout(checkpoint):
    classifier, found = load_on_cpu(checkpoint)
    images = np.random.default_rng(0).integers(0, 256, (3, 112, 112, 3), dtype=np.uint8)
    features = features_of(classifier, torch.from_numpy(images))
    net = classifier.net
    assert last_hidden_layer(net.recipe, net.num_classes) == "relu7"
    assert features.shape == (3, net.fc8.in_features)
    scores = (found.recipe.fc7.dropout and 0.5) * features @ net.fc8.weight.T + net.fc8.bias
    views = classifier.probabilities(images, [classifier.augmenter.center])[0]
    np.testing.assert_allclose(scores.softmax(dim=1).detach().numpy(), views, atol=1e-6)


@pytest.mark.parametrize("block", [1, 3, 64, 200])
def test_nearest_is_brute_force_however_features_are_blocked(block):
    rng = np.random.default_rng(4)
    features, queries = rng.normal(size=(200, 32)), rng.normal(size=(5, 32))
    expected = [
        sorted(range(200), key=lambda n, q=query: np.linalg.norm(features[n] - q))[:7]
        for query in queries
    ]
    blocks = (features[start : start + block] for start in range(0, 200, block))
    assert nearest(queries, blocks, 7).tolist() == expected


def test_nearest_of_an_image_is_itself_and_equals_keep_their_order():
    features = np.random.default_rng(5).integers(-9, 9, size=(20, 8)).astype(np.float32)
    features[7] = features[3]
    found = nearest(features, [features[:5], features[5:]], 1)
    assert found[:, 0].tolist() == [3 if n == 7 else n for n in range(20)]


def test_memory_of_nearest_does_not_grow_with_the_number_of_features():
    """Peaks of 20 and of 200 blocks of half a megabyte, as numpy reports them to tracemalloc."""
    rng = np.random.default_rng(6)
    queries, block = rng.normal(size=(3, 1024)), rng.normal(size=(64, 1024))

    def peak(num_blocks: int) -> int:
        tracemalloc.start()
        try:
            assert nearest(queries, (block + i for i in range(num_blocks)), 4).shape == (3, 4)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(200) < 1.1 * peak(20) < 10 * block.nbytes
