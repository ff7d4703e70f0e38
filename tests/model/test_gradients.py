"""Gradients of every recipe's network against finite differences, right and wrong ones.

N images, C channels, H rows, W columns.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from alexnet_cli.data.demo.images import draw_images
from alexnet_cli.data.images.resize import to_square
from alexnet_cli.errors import RecipeError
from alexnet_cli.model import layers
from alexnet_cli.model.architecture import layers_of
from alexnet_cli.model.network import AlexNet, initialize
from alexnet_cli.recipes.catalog import RECIPES, find_recipe
from alexnet_cli.recipes.cifar import CIFAR_13PCT, CIFAR_RELU
from alexnet_cli.recipes.overrides import widen
from alexnet_cli.recipes.recipe import PAPER, Recipe

CLASSES = 6
MAX_GRADIENT_ERROR = 1e-4
FLOOR = 1e-6  # the loss is rounded: smaller slopes are noise
STEPS = (1e-5, 1e-6, 1e-7, 1e-8, 1e-9)  # a kink within a step spoils it; rounding a too small one
SHRUNKEN_CROPS = (72, 99)  # sizes that fit every network of the recipes
SHRUNKEN_WIDTH = 1 / 16


@dataclass(frozen=True, slots=True)
class GradientCheck:
    """One parameter: its gradient along a random direction and the slope of the loss there."""

    parameter: str
    gradient: float
    slope: float

    @property
    def error(self) -> float:
        """Relative error."""
        return abs(self.gradient - self.slope) / max(abs(self.gradient), abs(self.slope), FLOOR)


def shrink(recipe: Recipe) -> Recipe:
    """Return the recipe with a sixteenth of the kernels, on small crops."""
    narrow = widen(recipe, SHRUNKEN_WIDTH)
    for size in SHRUNKEN_CROPS:
        if size < recipe.crop_size:
            small = replace(narrow, crop_size=size)
            try:
                with torch.device("meta"):
                    AlexNet(small, 2)
            except RecipeError:
                continue
            return small
    return narrow


def check_gradient(
    recipe: Recipe, num_classes: int, crops: Tensor, labels: Tensor
) -> Iterator[GradientCheck]:
    """Yield a `GradientCheck` for every parameter of a shrunken copy, in float64.

    Args:
        crops: (N, 3, H, W), at least as large as the shrunken copy's; their corners are taken.
    """
    small = shrink(recipe)
    net = AlexNet(small, num_classes)
    initialize(net, small.seed)
    net.double().eval()
    x = crops[:, :, : small.crop_size, : small.crop_size].double()
    F.cross_entropy(net(x), labels).backward()
    generator = torch.Generator().manual_seed(small.seed)
    for name, parameter in net.named_parameters():
        direction = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        direction /= direction.norm()
        gradient = (parameter.grad * direction).sum().item()
        slopes = [
            change / step
            for step in STEPS
            for change in _changes(net, parameter, step * direction, x, labels)
        ]
        yield GradientCheck(name, gradient, min(slopes, key=lambda slope: abs(slope - gradient)))


@torch.no_grad()
def _changes(
    net: AlexNet, parameter: Tensor, step: Tensor, x: Tensor, labels: Tensor
) -> tuple[float, float, float]:
    """Return by how much the loss rises along a step: on average of both sides, and on each.

    On a kink, where a ReLU or a maximum changes over, the gradient is the slope of one side.
    """
    kept, losses = parameter.clone(), []
    for change in (step, 0 * step, -step):
        parameter.copy_(kept + change)
        losses.append(F.cross_entropy(net(x), labels).item())
    parameter.copy_(kept)
    after, here, before = losses
    return (after - before) / 2, after - here, here - before


def draw_batch(size: int, count: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Return noise of the scale of images, each of another class."""
    generator = torch.Generator().manual_seed(0)
    crops = 60 * torch.randn(count, 3, size, size, generator=generator)
    return crops, torch.arange(count) % CLASSES


def gradients(recipe: Recipe) -> dict[str, GradientCheck]:
    found = list(check_gradient(recipe, CLASSES, *draw_batch(99)))
    names = [check.parameter for check in found]
    assert len(set(names)) == len(names)
    return dict(zip(names, found, strict=True))


def wrong(found: dict[str, GradientCheck]) -> set[str]:
    return {name for name, check in found.items() if check.error > MAX_GRADIENT_ERROR}


# --- the shrunken copy


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_shrinks_to_a_small_network_with_the_same_layers(name):
    recipe = find_recipe(name)

    small = shrink(recipe)

    assert small.crop_size <= min(99, recipe.crop_size)
    found, whole = layers_of(small, 7), layers_of(recipe, 7)
    assert [layer.name for layer in found] == [layer.name for layer in whole]
    assert sum(layer.num_parameters for layer in found) < 500_000
    for layer, original in zip(found, whole, strict=True):
        if layer.name not in (
            "flatten",
            "drop_maps",
            "fc8",
        ):  # channels or units; never fewer than 8
            assert layer.output[0] == max(8, 8 * math.floor(original.output[0] / 128 + 0.5))


@pytest.mark.parametrize("name", ["paper", "five-cnns-120", "pretrain-2011", "cifar-11pct"])
def test_shrunken_network_keeps_all_that_is_no_size(name):
    recipe = find_recipe(name)

    small = shrink(recipe)

    for field in ("columns", "reads_both", "activation", "low_resolution", "split_classes"):
        assert getattr(small, field) == getattr(recipe, field)
    for layer, conv in recipe.convs().items():
        copy = small.convs()[layer]
        assert (copy.then, copy.local, copy.size) == (conv.then, conv.local, conv.size)


def test_crops_of_cifar_are_unchanged():
    assert shrink(CIFAR_13PCT).crop_size == 24
    assert shrink(CIFAR_RELU).crop_size == 32


def reaching(size: int) -> Recipe:
    """Return the paper's recipe with larger windows in conv2."""
    return replace(PAPER, conv2=replace(PAPER.conv2, size=size))


def test_crops_take_the_next_size_if_the_smallest_has_no_pixels_left():
    recipe = reaching(12)

    with pytest.raises(RecipeError, match="has no pixels"):
        layers_of(replace(recipe, crop_size=72), CLASSES)
    assert shrink(recipe).crop_size == 99


def test_crops_are_unchanged_if_no_smaller_ones_fit():
    recipe = shrink(reaching(20))

    assert recipe.crop_size == 224
    assert recipe.conv2.filters == 16
    assert layers_of(recipe, CLASSES)[-1].output == (CLASSES,)


# --- right gradients


@pytest.mark.parametrize(
    "name",
    [
        "paper",
        "original-2012",
        "cifar-13pct",
        "cifar-11pct",
        "five-cnns-137",
        "five-cnns-120",
        "pretrain-2011",
    ],
)
def test_gradients_of_a_recipe_are_the_slopes(name):
    recipe = replace(find_recipe(name), init_layers=())

    found = gradients(recipe)

    net = AlexNet(shrink(recipe), CLASSES)
    assert list(found) == [name for name, _ in net.named_parameters()]
    assert wrong(found) == set()
    assert all(math.isfinite(check.gradient) for check in found.values())
    assert all(check.gradient != 0 for check in found.values())


def test_gradients_are_those_of_the_corner_of_larger_crops():
    crops, labels = draw_batch(99)

    whole = list(check_gradient(PAPER, CLASSES, crops, labels))

    assert whole == list(check_gradient(PAPER, CLASSES, crops[:, :, :72, :72], labels))


def test_another_seed_looks_along_another_direction():
    one, other = gradients(CIFAR_13PCT), gradients(replace(CIFAR_13PCT, seed=1))

    assert all(one[name].gradient != other[name].gradient for name in one)
    assert wrong(other) == set()


def test_error_is_relative_to_the_larger_of_the_two():
    assert GradientCheck("a", gradient=2.0, slope=1.0).error == 0.5
    assert GradientCheck("a", gradient=1.0, slope=-2.0).error == 1.5
    assert GradientCheck("a", gradient=-1e-3, slope=-1e-3).error == 0.0
    assert GradientCheck("a", gradient=0.0, slope=0.0).error == 0.0


# --- wrong gradients

BEFORE_NORM2 = {"conv1.weight", "conv1.bias", "conv2.weight", "conv2.bias"}
BEFORE_NORM1 = {"conv1.weight", "conv1.bias"}


@pytest.fixture
def backward(monkeypatch):
    """Put another gradient in place of the response normalization's."""
    right = layers._ResponseNorm.backward

    def put(change):
        def changed(ctx, grad):
            return change(right(ctx, grad)[0], ctx, grad), *[None] * 5

        monkeypatch.setattr(layers._ResponseNorm, "backward", staticmethod(changed))

    return put


def test_gradient_that_is_half_of_the_right_one_is_found_in_the_layers_below(backward):
    backward(lambda right, ctx, grad: right / 2)

    found = gradients(PAPER)

    assert wrong(found) == BEFORE_NORM2
    for name in BEFORE_NORM2 - BEFORE_NORM1:
        assert found[name].error == pytest.approx(0.5, abs=0.01)
    for name in BEFORE_NORM1:  # through both normalizations
        assert found[name].error == pytest.approx(0.75, abs=0.01)


def test_gradient_without_the_neighbors_share_is_found(backward):
    backward(lambda right, ctx, grad: grad * ctx.saved_tensors[1] ** -ctx.norm.beta)

    # Small where few channels are wide awake, as before the second normalization.
    assert BEFORE_NORM1 <= wrong(gradients(PAPER)) <= BEFORE_NORM2


def test_gradient_that_is_wrong_in_one_channel_is_found(backward):
    def drop_first(right, ctx, grad):
        right = right.clone()
        right[:, 0] = 0
        return right

    backward(drop_first)

    assert wrong(gradients(PAPER)) == BEFORE_NORM2


def test_gradient_that_is_wrong_in_conv1s_normalization_only_is_found(backward):
    recipe = replace(PAPER, conv2=replace(PAPER.conv2, then=("activation", "max-pool")))
    backward(lambda right, ctx, grad: 1.01 * right)

    assert wrong(gradients(recipe)) == BEFORE_NORM1


def test_gradient_that_never_comes_back_from_the_low_resolution_path_is_found(monkeypatch):
    real = layers.TwoScaleConv2d.forward

    def forget(self, x, image):
        kept = self.low_weight.detach()
        return real(self, x, image) + 0 * kept.sum() + (self.low_weight - kept).sum()

    monkeypatch.setattr(layers.TwoScaleConv2d, "forward", forget)

    assert "conv2.low_weight" in wrong(gradients(find_recipe("five-cnns-137")))


def test_gradients_of_sigmoid_are_the_slopes():
    recipe = find_recipe("sigmoid")
    jpegs, num_classes = draw_images(4, seed=recipe.seed)
    images = np.stack([to_square(jpeg, recipe.crop_size) for jpeg, _ in jpegs]).astype(np.float32)
    crops = torch.from_numpy(images - images.mean(axis=(0, 1, 2))).permute(0, 3, 1, 2)
    labels = torch.tensor([label for _, label in jpegs])
    assert (
        wrong({c.parameter: c for c in check_gradient(recipe, num_classes, crops, labels)}) == set()
    )
