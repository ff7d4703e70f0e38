"""What recipes may change in the network, against the formulas in numpy, float64; two seconds.

N images, C channels, H rows, W columns.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from alexnet_cli.model.alexnet import AlexNet
from alexnet_cli.model.layers import ColumnLinear, SpatialResponseNorm
from alexnet_cli.recipe import NORM_POOL, PAPER, POOL, Recipe
from alexnet_cli.settings import widen

NARROW = replace(widen(PAPER, 1 / 16), crop_size=72)
FC6, FC7 = replace(NARROW.fc6, dropout=0.0), replace(NARROW.fc7, dropout=0.0)
SMALL = replace(NARROW, fc6=FC6, fc7=FC7)
CLASSES = 5
SPATIAL = ("activation", "norm", "spatial-norm", "max-pool")

RECIPES: dict[str, Recipe] = {
    "ReLU last": replace(
        SMALL, conv1=replace(SMALL.conv1, then=("norm", "max-pool", "activation"))
    ),
    "divided alpha": replace(SMALL, lrn_divided=True, lrn_alpha=0.5),
    "spatial norm": replace(SMALL, conv2=replace(SMALL.conv2, then=SPATIAL), spatial_alpha=3.0),
    "spatial norm of even size": replace(
        SMALL, conv2=replace(SMALL.conv2, then=SPATIAL), spatial_size=4, spatial_beta=0.5
    ),
    "norm after conv5": replace(SMALL, conv5=replace(SMALL.conv5, then=NORM_POOL), lrn_alpha=0.1),
    "no norm": replace(
        SMALL, conv1=replace(SMALL.conv1, then=POOL), conv2=replace(SMALL.conv2, then=POOL)
    ),
    "average pooling": replace(
        SMALL, conv5=replace(SMALL.conv5, then=("activation", "average-pool"))
    ),
    "pooling without overlap": replace(SMALL, pool_size=2),
    "tanh": replace(SMALL, activation="tanh"),
    "sigmoid": replace(SMALL, activation="sigmoid"),
    "one column": replace(SMALL, columns=1),
    "columns apart": replace(SMALL, reads_both=("fc8",)),
    "fc7 alone apart": replace(SMALL, reads_both=("conv3", "fc6", "fc8")),
    "six convolutions": replace(
        SMALL,
        conv6=replace(SMALL.conv6, filters=8),
        reads_both=("conv3", "conv6", "fc6", "fc7", "fc8"),
    ),
    "without conv4": replace(SMALL, conv4=replace(SMALL.conv4, filters=0)),
}

FUNCTIONS = {
    "relu": lambda x: np.where(x > 0, x, 0),
    "tanh": lambda x: 1 - 2 / (np.exp(2 * x) + 1),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
}


def draw_net(recipe: Recipe) -> AlexNet:
    """Return a float64 network whose weights keep the signal's size."""
    net, generator = AlexNet(recipe, CLASSES).double(), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(0, 1, generator=generator)
            if parameter.dim() > 1:
                parameter *= (1.5 / parameter[0].numel()) ** 0.5
    return net


def draw_images(recipe: Recipe) -> torch.Tensor:
    shape = (2, 3, recipe.crop_size, recipe.crop_size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


# --- the formulas, one output position or channel at a time


def expect_conv(x, weight, bias, conv, groups):
    out = -(-(2 * conv.pad + x.shape[2] - conv.size) // conv.stride) + 1
    padded = np.zeros((*x.shape[:2], *[(out - 1) * conv.stride + conv.size + conv.pad] * 2))
    padded[:, :, conv.pad : conv.pad + x.shape[2], conv.pad : conv.pad + x.shape[3]] = x
    y = np.empty((len(x), conv.filters, out, out))
    reads, makes = weight.shape[1], conv.filters // groups
    for kernel, row, column in np.ndindex(conv.filters, out, out):
        first, top, left = kernel // makes * reads, row * conv.stride, column * conv.stride
        window = padded[:, first : first + reads, top : top + conv.size, left : left + conv.size]
        y[:, kernel, row, column] = (window * weight[kernel]).sum(axis=(1, 2, 3)) + bias[kernel]
    return y


def expect_norm(x, recipe):
    y, column = np.empty_like(x), x.shape[1] // recipe.columns
    alpha = recipe.lrn_alpha / (recipe.lrn_size if recipe.lrn_divided else 1)
    for i in range(x.shape[1]):
        near = [j for j in range(x.shape[1]) if abs(j - i) <= 2 and j // column == i // column]
        y[:, i] = x[:, i] * (recipe.lrn_k + alpha * (x[:, near] ** 2).sum(axis=1)) ** -0.75
    return y


def expect_spatial_norm(x, recipe):
    y, size = np.empty_like(x), recipe.spatial_size
    for row, column in np.ndindex(x.shape[2:]):
        top, left = row - size // 2, column - size // 2
        window = x[:, :, max(0, top) : top + size, max(0, left) : left + size]
        scale = 1 + recipe.spatial_alpha / size**2 * (window**2).sum(axis=(2, 3))
        y[:, :, row, column] = x[:, :, row, column] * scale**-recipe.spatial_beta
    return y


def expect_pool(x, recipe, step):
    size, stride = recipe.pool_size, recipe.pool_stride
    out = -(-(x.shape[2] - size) // stride) + 1
    y = np.empty((*x.shape[:2], out, out))
    for row, column in np.ndindex(out, out):
        window = x[
            :, :, row * stride : row * stride + size, column * stride : column * stride + size
        ]
        covered = window.reshape(*window.shape[:2], -1)
        y[:, :, row, column] = covered.max(axis=2) if step == "max-pool" else covered.mean(axis=2)
    return y


def expect_dense(x, weight, bias, columns):
    y, reads, makes = np.empty((len(x), len(weight))), x.shape[1] // columns, len(weight) // columns
    for unit in range(len(weight)):
        first = unit // makes * reads
        y[:, unit] = x[:, first : first + reads] @ weight[unit] + bias[unit]
    return y


def expect_step(step, x, recipe):
    if step == "activation":
        return FUNCTIONS[recipe.activation](x)
    if step.endswith("pool"):
        return expect_pool(x, recipe, step)
    return {"norm": expect_norm, "spatial-norm": expect_spatial_norm}[step](x, recipe)


def expect_scores(net: AlexNet, x: np.ndarray) -> np.ndarray:
    recipe, function = net.recipe, FUNCTIONS[net.recipe.activation]
    tensors = {name: p.detach().numpy() for name, p in net.named_parameters()}
    for name, conv in recipe.convs().items():
        groups = 1 if name in ("conv1", *recipe.reads_both) else recipe.columns
        x = expect_conv(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"], conv, groups)
        for step in conv.then:
            x = expect_step(step, x, recipe)
    x = x.reshape(len(x), -1)
    for name in ("fc6", "fc7"):
        columns = 1 if name in recipe.reads_both else recipe.columns
        weight, bias = tensors[f"{name}.weight"], tensors[f"{name}.bias"]
        x = function(expect_dense(x, weight, bias, columns))
    return x @ tensors["fc8.weight"].T + tensors["fc8.bias"]


@pytest.mark.parametrize("name", RECIPES)
def test_scores_are_those_of_the_formulas(name):
    recipe = RECIPES[name]
    net, images = draw_net(recipe), draw_images(recipe)

    found = net(images).detach().numpy()

    np.testing.assert_allclose(found, expect_scores(net, images.numpy()), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", RECIPES)
def test_gradient_is_the_slope_of_the_loss(name):
    recipe = RECIPES[name]
    net, images, labels = draw_net(recipe), draw_images(recipe), torch.tensor([1, 3])
    F.cross_entropy(net(images), labels).backward()

    for parameter in net.parameters():
        direction = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2))
        step, losses = 1e-6 * direction.double() / direction.norm(), []
        with torch.no_grad():
            for change in (step, -2 * step):
                parameter += change
                losses.append(F.cross_entropy(net(images), labels).item())
            parameter += step
        slope = (losses[0] - losses[1]) / 2
        assert (parameter.grad * step).sum().item() == pytest.approx(slope, rel=1e-4, abs=1e-13)


def test_spatial_norm_passes_gradcheck():
    x = torch.randn(1, 2, 6, 6, dtype=torch.float64, requires_grad=True)

    assert torch.autograd.gradcheck(SpatialResponseNorm(5, 0.7, 0.75), (x,))


def test_layer_of_two_columns_ignores_the_other_column():
    layer = ColumnLinear(3, 8, columns=2)
    x = torch.randn(1, 6)
    other = x.clone()
    other[:, 3:] = 0.0

    assert torch.equal(layer(x)[:, :4], layer(other)[:, :4])
    assert not torch.equal(layer(x)[:, 4:], layer(other)[:, 4:])
