"""What recipes may change in the network, against the formulas in numpy, float64; a few seconds.

N images, C channels, H rows, W columns.
"""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import slopes

from alexnet_cli.errors import RecipeError
from alexnet_cli.model.architecture import layers_of
from alexnet_cli.model.network import AlexNet, initialize, split_evenly
from alexnet_cli.recipes.overrides import widen
from alexnet_cli.recipes.recipe import NORM_POOL, PAPER, POOL, Conv, Dense, Recipe

NARROW = replace(widen(PAPER, 1 / 16), crop_size=72)
FC6, FC7 = replace(NARROW.fc6, dropout=0.0), replace(NARROW.fc7, dropout=0.0)
SMALL = replace(NARROW, fc6=FC6, fc7=FC7)
CLASSES = 5
SPATIAL = ("activation", "norm", "spatial-norm", "max-pool")
CONTRAST = ("activation", "norm", "contrast-norm", "max-pool")
AVERAGE_POOL = ("activation", "average-pool")
READS_BOTH = ("bottleneck", *PAPER.reads_both)


def left_out(*names: str) -> dict[str, Conv | Dense]:
    """Return what leaves layers out."""
    layers = {name: getattr(SMALL, name) for name in names}
    return {
        name: replace(layer, **{"filters" if isinstance(layer, Conv) else "units": 0})
        for name, layer in layers.items()
    }


def local(*names: str) -> dict[str, Conv]:
    """Return convolutions with weights of their own at every position."""
    return {name: replace(getattr(SMALL, name), local=True) for name in names}


RECIPES: dict[str, Recipe] = {
    "ReLU last": replace(
        SMALL, conv1=replace(SMALL.conv1, then=("norm", "max-pool", "activation"))
    ),
    "divided alpha": replace(SMALL, lrn_divided=True, lrn_alpha=0.5),
    "spatial norm": replace(SMALL, conv2=replace(SMALL.conv2, then=SPATIAL), spatial_alpha=3.0),
    "spatial norm of even size": replace(
        SMALL, conv2=replace(SMALL.conv2, then=SPATIAL), spatial_size=4, spatial_beta=0.5
    ),
    "spatial norm with k and plain alpha": replace(
        SMALL,
        conv1=replace(SMALL.conv1, then=("activation", "spatial-norm", "max-pool")),
        conv2=replace(SMALL.conv2, then=("activation", "max-pool", "spatial-norm")),
        spatial_k=2.5,
        spatial_alpha=0.3,
        spatial_divided=False,
    ),
    "contrast norm": replace(SMALL, conv2=replace(SMALL.conv2, then=CONTRAST), spatial_alpha=3.0),
    "contrast norm of even size": replace(
        SMALL,
        conv2=replace(SMALL.conv2, then=CONTRAST),
        spatial_k=0.5,
        spatial_size=4,
        spatial_alpha=0.7,
        spatial_divided=False,
    ),
    "every norm in one layer": replace(
        SMALL,
        conv2=replace(SMALL.conv2, then=("contrast-norm", "norm", "activation", "spatial-norm")),
        spatial_alpha=2.0,
        lrn_alpha=0.1,
    ),
    "norm after conv5": replace(SMALL, conv5=replace(SMALL.conv5, then=NORM_POOL), lrn_alpha=0.1),
    "no norm": replace(
        SMALL, conv1=replace(SMALL.conv1, then=POOL), conv2=replace(SMALL.conv2, then=POOL)
    ),
    "average pooling": replace(SMALL, conv5=replace(SMALL.conv5, then=AVERAGE_POOL)),
    "maxima and averages": replace(
        SMALL,
        conv1=replace(SMALL.conv1, then=("average-pool", "norm", "activation")),
        conv4=replace(SMALL.conv4, then=("average-pool",)),
    ),
    "pooling, ReLU, norm": replace(
        SMALL, conv1=replace(SMALL.conv1, then=("max-pool", "activation", "norm")), lrn_alpha=0.1
    ),
    "nothing after conv3": replace(SMALL, conv3=replace(SMALL.conv3, then=())),
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
    "without conv4": replace(SMALL, **left_out("conv4")),
    "without fc6": replace(SMALL, **left_out("fc6")),
    "without hidden layers": replace(SMALL, **left_out("fc6", "fc7")),
    "bottleneck": replace(SMALL, bottleneck=replace(SMALL.bottleneck, units=6)),
    "bottleneck that reads both": replace(
        SMALL, bottleneck=replace(SMALL.bottleneck, units=6), reads_both=READS_BOTH
    ),
    "bottleneck alone": replace(
        SMALL, **left_out("fc6", "fc7"), bottleneck=replace(SMALL.bottleneck, units=6)
    ),
    "bottleneck that is not linear": replace(
        SMALL, bottleneck=replace(SMALL.bottleneck, units=6, linear=False)
    ),
    "linear fc6": replace(SMALL, fc6=replace(FC6, linear=True)),
    "classes split": replace(SMALL, split_classes=True),
    "low resolution": replace(SMALL, low_resolution=True),
    "low resolution, nothing hangs over": replace(SMALL, low_resolution=True, crop_size=99),
    "low resolution in one column": replace(SMALL, low_resolution=True, columns=1),
    "local layers": replace(SMALL, columns=1, **local("conv3", "conv4")),
    "local layers of other sizes": replace(
        SMALL,
        columns=1,
        conv2=replace(SMALL.conv2, local=True, pad=1),
        conv5=replace(SMALL.conv5, local=True, size=2, pad=0, then=("norm",)),
    ),
    "as on CIFAR-10": replace(
        SMALL,
        **left_out("conv5", "fc6", "fc7"),
        **local("conv4"),
        columns=1,
        crop_size=24,
        conv1=replace(SMALL.conv1, size=5, stride=1, pad=2, then=("max-pool", "activation")),
        conv2=replace(SMALL.conv2, filters=8, then=AVERAGE_POOL),
        conv3=replace(SMALL.conv3, filters=8, local=True),
    ),
    "as run 146-2011": replace(
        SMALL,
        conv6=replace(SMALL.conv6, filters=8, then=("max-pool", "activation")),
        conv5=replace(SMALL.conv5, then=("activation",)),
        bottleneck=replace(SMALL.bottleneck, units=10),
        split_classes=True,
        reads_both=("conv3", "conv6", "fc6", "fc7", "bottleneck", "fc8"),
    ),
    "as run 120": replace(
        SMALL,
        conv1=replace(SMALL.conv1, then=("max-pool", "activation", "norm")),
        conv2=replace(SMALL.conv2, then=CONTRAST),
        lrn_k=1.0,
        lrn_divided=True,
        low_resolution=True,
    ),
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
                # A local layer has its positions last.
                inputs = parameter.shape[1] if parameter.dim() == 3 else parameter[0].numel()
                parameter *= (1.5 / inputs) ** 0.5
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


def expect_local_conv(x, weight, bias, conv):
    """Read weights as (kernel, channel, row, column of the window, row, column of the map)."""
    out = 2 * conv.pad + x.shape[2] - conv.size + 1
    taps = weight.reshape(conv.filters, -1, conv.size, conv.size, out, out)
    added = bias.reshape(conv.filters, out, out)
    padded = np.zeros((*x.shape[:2], *[x.shape[2] + 2 * conv.pad] * 2))
    padded[:, :, conv.pad : conv.pad + x.shape[2], conv.pad : conv.pad + x.shape[3]] = x
    y = np.empty((len(x), conv.filters, out, out))
    for kernel, row, column in np.ndindex(conv.filters, out, out):
        window = padded[:, :, row : row + conv.size, column : column + conv.size]
        own = taps[kernel, :, :, :, row, column]
        y[:, kernel, row, column] = (window * own).sum(axis=(1, 2, 3)) + added[kernel, row, column]
    return y


def expect_low_resolution(image, weight):
    """Blur rows, then columns; keep every fourth pixel from the third; convolve 5 x 5 by 2."""
    gauss = [math.exp(-0.5 * (tap / 4) ** 2) for tap in range(-4, 5)]
    small = image
    for _ in range(2):
        small, before = np.zeros((*small.shape[:3], len(range(2, small.shape[3], 4)))), small
        for i, pixel in enumerate(range(2, before.shape[3], 4)):
            for tap in range(-4, 5):
                if 0 <= pixel + tap < before.shape[3]:
                    small[..., i] += gauss[tap + 4] / sum(gauss) * before[..., pixel + tap]
        small = small.swapaxes(2, 3)
    out = math.ceil((small.shape[2] - 5) / 2) + 1
    room = np.zeros((*small.shape[:2], 2 * out + 3, 2 * out + 3))
    room[:, :, : small.shape[2], : small.shape[3]] = small
    y = np.empty((len(image), len(weight), out, out))
    for kernel, row, column in np.ndindex(y.shape[1:]):
        window = room[:, :, 2 * row : 2 * row + 5, 2 * column : 2 * column + 5]
        y[:, kernel, row, column] = (window * weight[kernel]).sum(axis=(1, 2, 3))
    return y


def expect_norm(x, recipe):
    y, column = np.empty_like(x), x.shape[1] // recipe.columns
    alpha = recipe.lrn_alpha / (recipe.lrn_size if recipe.lrn_divided else 1)
    for i in range(x.shape[1]):
        near = [j for j in range(x.shape[1]) if abs(j - i) <= 2 and j // column == i // column]
        y[:, i] = x[:, i] * (recipe.lrn_k + alpha * (x[:, near] ** 2).sum(axis=1)) ** -0.75
    return y


def around(x, row, column, size):
    """Return the positions of a window that are on the map."""
    top, left = row - size // 2, column - size // 2
    return x[:, :, max(0, top) : top + size, max(0, left) : left + size]


def expect_spatial_norm(x, recipe, distance):
    y, size = np.empty_like(x), recipe.spatial_size
    alpha = recipe.spatial_alpha / (size * size if recipe.spatial_divided else 1)
    for row, column in np.ndindex(x.shape[2:]):
        total = (around(distance, row, column, size) ** 2).sum(axis=(2, 3))
        scale = recipe.spatial_k + alpha * total
        y[:, :, row, column] = x[:, :, row, column] * scale**-recipe.spatial_beta
    return y


def expect_contrast_norm(x, recipe):
    distance = np.empty_like(x)
    for row, column in np.ndindex(x.shape[2:]):
        mean = around(x, row, column, recipe.spatial_size).mean(axis=(2, 3))
        distance[:, :, row, column] = x[:, :, row, column] - mean
    return expect_spatial_norm(x, recipe, distance)


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
    if step == "spatial-norm":
        return expect_spatial_norm(x, recipe, x)
    return {"norm": expect_norm, "contrast-norm": expect_contrast_norm}[step](x, recipe)


def expect_scores(net: AlexNet, x: np.ndarray) -> np.ndarray:
    recipe, function, image = net.recipe, FUNCTIONS[net.recipe.activation], x
    tensors = {name: p.detach().numpy() for name, p in net.named_parameters()}
    for name in ("conv1", "conv2", "conv3", "conv4", "conv5", "conv6"):
        conv = getattr(recipe, name)
        if conv.filters:
            weight, bias = tensors[f"{name}.weight"], tensors[f"{name}.bias"]
            groups = 1 if name in ("conv1", *recipe.reads_both) else recipe.columns
            x = (
                expect_local_conv(x, weight, bias, conv)
                if conv.local
                else expect_conv(x, weight, bias, conv, groups)
            )
            if name == "conv2" and recipe.low_resolution:
                x = x + expect_low_resolution(image, tensors["conv2.low_weight"])
            for step in conv.then:
                x = expect_step(step, x, recipe)
    x = x.reshape(len(x), -1)
    for name in ("fc6", "fc7", "bottleneck"):
        dense = getattr(recipe, name)
        if dense.units:
            columns = 1 if name in recipe.reads_both else recipe.columns
            x = expect_dense(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"], columns)
            x = x if dense.linear else function(x)
    return x @ tensors["fc8.weight"].T + tensors["fc8.bias"]


@pytest.mark.parametrize("name", RECIPES)
def test_scores_are_those_of_the_formulas(name):
    recipe = RECIPES[name]
    net, images = draw_net(recipe), draw_images(recipe)

    found = net(images).detach().numpy()

    bound = 1e-6 if recipe.low_resolution else 1e-9  # the blur's weights are float32
    np.testing.assert_allclose(found, expect_scores(net, images.numpy()), rtol=bound, atol=bound)


@pytest.mark.parametrize("name", RECIPES)
def test_gradient_is_the_slope_of_the_loss(name):
    recipe = RECIPES[name]
    net, images, labels = draw_net(recipe), draw_images(recipe), torch.tensor([1, 3])
    for name, gradient, slope in slopes(net, images, labels):
        assert gradient == pytest.approx(slope, rel=1e-4, abs=1e-13), name


@pytest.mark.parametrize("name", RECIPES)
def test_listed_layers_have_the_shapes_of_the_outputs(name):
    recipe, shapes = RECIPES[name], {}
    net = draw_net(recipe)
    for layer, module in net.named_children():
        module.register_forward_hook(
            lambda _, __, y, layer=layer: shapes.update({layer: tuple(y.shape[1:])})
        )

    net(draw_images(recipe))

    assert [(x.name, x.output) for x in layers_of(recipe, CLASSES)] == list(shapes.items())


# --- which layers there are


def names_of(recipe: Recipe) -> list[str]:
    return [layer.name for layer in layers_of(recipe, CLASSES)]


def test_steps_follow_a_convolution_in_their_order():
    names = names_of(RECIPES["every norm in one layer"])

    first = names.index("conv2")
    assert names[first : first + 5] == ["conv2", "contrast2", "norm2", "relu2", "spatial2"]


def test_bottleneck_stands_alone_before_the_classifier():
    names = names_of(RECIPES["bottleneck"])

    assert names[names.index("fc7") :] == ["fc7", "relu7", "bottleneck", "fc8"]


def test_classifier_reads_the_maps_where_the_hidden_layers_are_left_out():
    names = names_of(RECIPES["without hidden layers"])

    assert names[-3:] == ["pool5", "flatten", "fc8"]


# --- first weights


@pytest.mark.parametrize("name", ["local layers", "low resolution", "bottleneck"])
def test_every_layer_is_initialized_as_its_recipe_says(name):
    recipe = RECIPES[name]
    net = AlexNet(recipe, CLASSES)
    layers = {**recipe.convs(), **recipe.denses()}

    with torch.no_grad():
        for parameter in net.parameters():
            parameter.fill_(math.nan)
    initialize(net, seed=1)

    for path, parameter in net.named_parameters():
        layer, kind = path.split(".")
        std = layers[layer].init_std if layer in layers else recipe.fc8_init_std
        if kind == "bias":
            expected = layers[layer].init_bias if layer in layers else 0.0
            assert (parameter == expected).all(), path
        else:
            std = recipe.low_init_std if kind == "low_weight" else std
            error = 5 / math.sqrt(2 * parameter.numel())
            assert parameter.std().item() / std == pytest.approx(1, abs=error), path


# --- the low-resolution path


@pytest.mark.parametrize("crop_size", range(60, 110))
def test_crop_size_at_which_both_paths_of_conv2_agree_is_accepted_and_no_other(crop_size: int):
    after_conv1 = math.ceil((crop_size - 11) / 4) + 1
    after_pool1 = math.ceil((after_conv1 - 3) / 2) + 1
    small = len(range(2, crop_size, 4))
    agree = math.ceil((small - 5) / 2) + 1 == after_pool1
    recipe = replace(SMALL, crop_size=crop_size, low_resolution=True)

    if agree:
        assert layers_of(recipe, CLASSES)
    else:
        with pytest.raises(RecipeError, match=f"crop_size={crop_size}: low_resolution"):
            AlexNet(recipe, CLASSES)


@pytest.mark.parametrize("crop_size", [72, 99, 224])
def test_low_resolution_adds_weights_for_three_colors_and_no_biases(crop_size: int):
    recipe = replace(SMALL, crop_size=crop_size)
    plain, both = (
        sum(layer.num_parameters for layer in layers_of(r, CLASSES))
        for r in (recipe, replace(recipe, low_resolution=True))
    )

    assert both - plain == SMALL.conv2.filters * 3 * 5 * 5


# --- half of the classes on each column


@pytest.mark.parametrize(
    ("classes", "first", "second"), [(5, 2, 3), (10, 5, 5), (1, 0, 1), (21_843, 10_921, 10_922)]
)
def test_classes_are_shared_out_in_halves_the_smaller_first(classes, first, second):
    assert split_evenly(classes, 2) == [first, second]
    assert split_evenly(classes, 1) == [classes]


@pytest.mark.parametrize("name", ["classes split", "as run 146-2011"])
def test_each_column_scores_its_classes_from_all_units(name):
    recipe = RECIPES[name]
    inputs = recipe.bottleneck.units or recipe.fc7.units

    with torch.device("meta"):
        parts = [AlexNet(recipe, 5, columns=(column,)) for column in (0, 1)]

    assert [part.fc8.weight.shape for part in parts] == [(2, inputs), (3, inputs)]
    assert [part.fc8.bias.shape for part in parts] == [(2,), (3,)]


def test_one_column_holds_all_classes_where_they_are_split():
    with torch.device("meta"):
        net = AlexNet(replace(SMALL, columns=1, split_classes=True), 5)

    assert net.fc8.weight.shape == (5, SMALL.fc7.units)
