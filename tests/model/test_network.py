"""The network against the paper's table of layers and a forward pass in plain numpy; seconds.

N images, C channels, H rows, W columns.
"""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import slopes
from numpy.lib.stride_tricks import sliding_window_view

from alexnet_cli.errors import RecipeError
from alexnet_cli.model.architecture import layers_of
from alexnet_cli.model.network import AlexNet, initialize
from alexnet_cli.recipes.overrides import widen
from alexnet_cli.recipes.recipe import PAPER, Conv, Recipe

# 72 -> 17 with 3 zeros right and bottom -> 8 -> 4 -> 2: every size rule is at work.
SMALL = replace(widen(PAPER, 1 / 16), crop_size=72)

# By hand from section 3.5: weights are kernels x inputs each reads x window, plus a bias a kernel.
PARAMETERS = {
    "conv1": 34_944,  # 96 * (3 * 11 * 11) + 96
    "conv2": 307_456,  # 256 * (48 * 5 * 5) + 256: reads 48 of 96 maps
    "conv3": 885_120,  # 384 * (256 * 3 * 3) + 384: reads both columns
    "conv4": 663_936,  # 384 * (192 * 3 * 3) + 384
    "conv5": 442_624,  # 256 * (192 * 3 * 3) + 256
    "fc6": 37_752_832,  # 4096 * (256 * 6 * 6) + 4096
    "fc7": 16_781_312,  # 4096 * 4096 + 4096
    "fc8": 4_097_000,  # 1000 * 4096 + 1000
}

OUTPUTS = {
    "conv1": (96, 55, 55),
    "norm1": (96, 55, 55),
    "pool1": (96, 27, 27),
    "conv2": (256, 27, 27),
    "norm2": (256, 27, 27),
    "pool2": (256, 13, 13),
    "conv3": (384, 13, 13),
    "conv4": (384, 13, 13),
    "conv5": (256, 13, 13),
    "pool5": (256, 6, 6),
    "flatten": (9216,),
    "fc6": (4096,),
    "fc7": (4096,),
    "fc8": (1000,),
}


def draw_net(recipe: Recipe, num_classes: int = 7) -> AlexNet:
    """Return a float64 network whose weights keep the signal's size, so that norms matter."""
    net, generator = AlexNet(recipe, num_classes).double(), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(0, 1, generator=generator)
            if parameter.dim() > 1:
                parameter /= math.sqrt(parameter[0].numel() / 2)
    return net.eval()


def draw_images(recipe: Recipe, num: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    shape = (num, 3, recipe.crop_size, recipe.crop_size)
    return 60 * torch.randn(shape, generator=generator, dtype=torch.float64)


# --- size


def test_paper_network_has_the_parameters_of_the_paper():
    layers = layers_of(PAPER, 1000)

    assert {
        layer.name: layer.num_parameters for layer in layers if layer.num_parameters
    } == PARAMETERS
    assert sum(layer.num_parameters for layer in layers) == 60_965_224


def test_paper_network_has_the_outputs_of_the_paper():
    found = {layer.name: layer.output for layer in layers_of(PAPER, 1000)}

    assert {name: found[name] for name in OUTPUTS} == OUTPUTS


def test_paper_network_has_659272_units():
    units = [math.prod(x.output) for x in layers_of(PAPER, 1000) if x.name in PARAMETERS]

    assert sum(units) == 659_272


def test_network_of_one_column_reads_all_maps_everywhere():
    found = {x.name: x.num_parameters for x in layers_of(replace(PAPER, columns=1), 1000)}

    assert found["conv2"] == 256 * (96 * 5 * 5) + 256
    assert found["conv4"] == 384 * (384 * 3 * 3) + 384


def test_listed_layers_have_the_shapes_of_the_outputs():
    net, shapes = draw_net(SMALL), {}
    for name, layer in net.named_children():
        layer.register_forward_hook(lambda _, __, y, name=name: shapes.update({name: y.shape[1:]}))

    net(draw_images(SMALL))

    assert {x.name: x.output for x in layers_of(SMALL, 7)} == shapes


def test_layers_come_in_the_order_of_section_3_5():
    assert draw_net(SMALL).stages == [
        ["conv1", "relu1", "norm1", "pool1", "conv2", "relu2", "norm2", "pool2"],
        ["conv3", "relu3", "conv4", "relu4", "conv5", "relu5", "pool5", "flatten"],
        ["fc6", "relu6", "drop6"],
        ["fc7", "relu7", "drop7"],
        ["fc8"],
    ]


@pytest.mark.parametrize("crop_size", [36, 37, 40, 63, 64, 97, 224, 256])
def test_every_layer_has_an_output_at_any_crop_size(crop_size: int):
    layers = layers_of(replace(SMALL, crop_size=crop_size), 7)

    assert min(math.prod(layer.output) for layer in layers) > 0


@pytest.mark.parametrize("crop_size", [8, 11, 20, 35])
def test_crop_size_that_pools_to_nothing_is_refused(crop_size: int):
    with pytest.raises(RecipeError, match=f"crop_size={crop_size}: the output of"):
        layers_of(replace(SMALL, crop_size=crop_size), 7)


# --- first weights, section 5


def narrow(recipe: Recipe) -> Recipe:
    """Divide all widths by four, and leave the initial weights as they are."""
    convs = {name: replace(c, filters=c.filters // 4) for name, c in recipe.convs().items()}
    return replace(recipe, **convs, fc6=replace(recipe.fc6, units=512), fc7=recipe.fc6)


@pytest.fixture(scope="module")
def fresh_net() -> AlexNet:
    net = AlexNet(narrow(PAPER), 200)
    initialize(net, seed=3)
    return net


@pytest.mark.parametrize(
    ("name", "std", "bias"),
    [
        ("conv1", 0.01, 0),
        ("conv2", 0.01, 1),
        ("conv3", 0.03, 0),
        ("conv4", 0.03, 1),
        ("conv5", 0.03, 1),
        ("fc6", 0.01, 1),
        ("fc7", 0.01, 1),
        ("fc8", 0.01, 0),
    ],
)
def test_first_weights_are_normal_and_biases_constant(fresh_net, name: str, std: float, bias):
    layer = fresh_net.get_submodule(name)
    weight = layer.weight.detach().double()
    count = weight.numel()

    assert abs(weight.mean()) < 5 * std / math.sqrt(count)
    assert abs(weight.std() / std - 1) < 5 / math.sqrt(2 * count)
    # 68.27 % of a normal distribution lie within one standard deviation.
    assert abs((weight.abs() < std).double().mean() - 0.6827) < 5 * 0.4655 / math.sqrt(count)
    assert (layer.bias == bias).all()


def test_first_weights_depend_on_the_seed_alone():
    nets = [AlexNet(SMALL, 5) for _ in range(3)]
    for net, seed in zip(nets, (1, 1, 2), strict=True):
        torch.manual_seed(id(net) % 1000)
        initialize(net, seed)

    same, again, other = (net.fc7.weight for net in nets)
    assert torch.equal(same, again)
    assert not torch.equal(same, other)


def test_first_scores_differ_between_classes_and_images():
    net = AlexNet(widen(PAPER, 1 / 8), 10)
    initialize(net, seed=0)
    with torch.no_grad():
        scores = net.eval()(draw_images(PAPER, 4).float())

    assert 1e-3 < scores.std() < 10
    assert scores.std(dim=0).mean() > 1e-4


# --- who reads whom, section 3.2


@pytest.mark.parametrize("name", ["conv2", "conv4", "conv5"])
def test_own_column_layers_ignore_the_other_column(name: str):
    layer, (x, changed) = draw_net(SMALL).get_submodule(name), two_inputs(name)

    own, others = (layer(changed) - layer(x)).abs().amax(dim=(0, 2, 3)).chunk(2)

    assert (own > 0).all()
    assert (others == 0).all()


def test_conv3_reads_both_columns():
    layer, (x, changed) = draw_net(SMALL).get_submodule("conv3"), two_inputs("conv3")

    assert ((layer(changed) - layer(x)).abs().amax(dim=(0, 2, 3)) > 0).all()


def two_inputs(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return inputs of a convolution that differ in column 0 only."""
    names = list(SMALL.convs())
    channels = SMALL.convs()[names[names.index(name) - 1]].filters
    x = torch.randn(1, channels, 5, 5, generator=torch.Generator().manual_seed(0)).double()
    changed = x.clone()
    changed[:, : channels // 2] += 1
    return x, changed


# --- what it computes


def expect_conv(x: np.ndarray, layer, conv: Conv, groups: int) -> np.ndarray:
    """Convolve all windows at once, on an image with zeros around it."""
    side, pad, window, stride = x.shape[2], conv.pad, conv.size, conv.stride
    beyond = -(2 * pad + side - window) % stride
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad + beyond), (pad, pad + beyond)))
    windows = sliding_window_view(x, (window, window), axis=(2, 3))[:, :, ::stride, ::stride]
    weight, bias = (p.detach().numpy() for p in (layer.weight, layer.bias))
    parts = zip(np.split(windows, groups, axis=1), np.split(weight, groups), strict=True)
    maps = [np.einsum("nchwij,kcij->nkhw", part, kernels) for part, kernels in parts]
    return np.concatenate(maps, axis=1) + bias[:, None, None]


def expect_norm(x: np.ndarray, recipe: Recipe) -> np.ndarray:
    half, columns = recipe.lrn_size // 2, []
    for column in np.split(x, recipe.columns, axis=1):
        squares = np.pad(column**2, ((0, 0), (half, half), (0, 0), (0, 0)))
        total = sliding_window_view(squares, recipe.lrn_size, axis=1).sum(axis=-1)
        columns.append(column / (recipe.lrn_k + recipe.lrn_alpha * total) ** recipe.lrn_beta)
    return np.concatenate(columns, axis=1)


def expect_pool(x: np.ndarray) -> np.ndarray:
    beyond = (x.shape[2] - 3) % 2
    x = np.pad(x, ((0, 0), (0, 0), (0, beyond), (0, beyond)), constant_values=-np.inf)
    return sliding_window_view(x, (3, 3), axis=(2, 3))[:, :, ::2, ::2].max(axis=(4, 5))


def expect_scores(net: AlexNet, x: np.ndarray) -> np.ndarray:
    groups = {"conv2": 2, "conv4": 2, "conv5": 2}
    for name, conv in net.recipe.convs().items():
        x = np.maximum(expect_conv(x, net.get_submodule(name), conv, groups.get(name, 1)), 0)
        if name in ("conv1", "conv2"):
            x = expect_norm(x, net.recipe)
        if name in ("conv1", "conv2", "conv5"):
            x = expect_pool(x)
    x = x.reshape(len(x), -1)
    for layer in (net.fc6, net.fc7):
        x = 0.5 * np.maximum(x @ layer.weight.detach().numpy().T + layer.bias.detach().numpy(), 0)
    return x @ net.fc8.weight.detach().numpy().T + net.fc8.bias.detach().numpy()


@pytest.mark.parametrize("alpha", [1e-4, 1e-2])
def test_scores_are_those_of_the_formulas(alpha: float):
    recipe = replace(SMALL, lrn_alpha=alpha)
    net, images = draw_net(recipe), draw_images(recipe, 3)

    found = net(images).detach()

    np.testing.assert_allclose(found, expect_scores(net, images.numpy()), rtol=1e-9, atol=1e-9)


def test_scores_are_the_same_for_an_image_alone_and_in_a_batch():
    net, images = draw_net(SMALL), draw_images(SMALL, 3)

    alone = torch.cat([net(image[None]) for image in images])

    torch.testing.assert_close(net(images), alone, rtol=1e-10, atol=1e-10)


def test_gradient_is_the_slope_of_the_loss():
    recipe = replace(
        SMALL, fc6=replace(SMALL.fc6, dropout=0.0), fc7=replace(SMALL.fc7, dropout=0.0)
    )
    net, images, labels = draw_net(recipe).train(), draw_images(recipe), torch.tensor([1, 3])
    for name, gradient, slope in slopes(net, images, labels):
        assert gradient == pytest.approx(slope, rel=1e-3, abs=1e-12), name
