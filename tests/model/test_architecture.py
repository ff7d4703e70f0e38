"""Sizes and windows against lists of the pixels they cover; about a second."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import empty, nn
from torch.utils.flop_counter import FlopCounterMode

from alexnet_cli.model.architecture import (
    blur_pads,
    blur_window,
    conv_output_size,
    layers_of,
    low_resolution_size,
    overhang,
    pool_output_size,
)
from alexnet_cli.model.network import AlexNet
from alexnet_cli.recipes.catalog import RECIPES

CROP_SIZES = range(8, 257)  # those a recipe may have


def test_sizes_are_those_of_the_paper():
    sizes = [224]
    sizes.append(conv_output_size(sizes[-1], window=11, stride=4, pad=0))
    for _ in range(3):
        sizes.append(pool_output_size(sizes[-1], window=3, stride=2))

    assert sizes == [224, 55, 27, 13, 6]


# --- convolutions


def test_conv1_gives_55_for_224_to_227():
    assert {conv_output_size(size, 11, 4, 0) for size in (224, 225, 226, 227)} == {55}
    assert [conv_output_size(size, 11, 4, 0) for size in (223, 228)] == [54, 56]


def test_conv1_reaches_three_pixels_beyond_224():
    assert [overhang(size, 11, 4, 0) for size in (224, 225, 226, 227)] == [3, 2, 1, 0]


def test_conv_has_as_few_windows_as_reach_the_last_pixel():
    for size, window, stride, pad in itertools.product(
        range(1, 20), range(1, 8), (1, 2, 4), (0, 2)
    ):
        if size + 2 * pad >= window:
            starts = [0]
            while starts[-1] + window < size + 2 * pad:
                starts.append(starts[-1] + stride)
            assert conv_output_size(size, window, stride, pad) == len(starts)


def test_overhang_makes_the_last_window_end_where_the_zeros_do():
    for size, window, stride, pad in itertools.product(
        range(1, 20), range(1, 8), (1, 2, 4), (0, 2)
    ):
        over = overhang(size, window, stride, pad)
        num_windows = conv_output_size(size, window, stride, pad)
        if size + 2 * pad >= window:
            assert 0 <= over < stride
        assert (num_windows - 1) * stride + window == size + 2 * pad + over


# --- pooling


def test_pool_size_is_that_of_torch_s_layer():
    for size, window in itertools.product(range(1, 30), range(1, 6)):
        for stride in range(1, window + 1):
            if size > window - stride:  # else there is no output
                pool = nn.MaxPool2d(window, stride, ceil_mode=True)
                shape = pool(empty(1, 1, size, size, device="meta")).shape
                assert pool_output_size(size, window, stride) == shape[-1], (size, window, stride)


def test_pool_windows_cover_every_pixel_and_each_starts_inside():
    for size, window in itertools.product(range(1, 30), range(1, 6)):
        for stride in range(1, min(window, size) + 1):
            if size > window - stride:
                starts = [stride * i for i in range(pool_output_size(size, window, stride))]
                assert starts[-1] < size <= starts[-1] + window, (size, window, stride)


# --- the small blurred image


def kept_pixels(size: int) -> list[int]:
    """Return every fourth pixel from the third."""
    return [pixel for pixel in range(size) if pixel % 4 == 2]


def test_small_image_has_a_pixel_for_every_fourth_from_the_third():
    assert low_resolution_size(224) == 56
    for size in CROP_SIZES:
        assert low_resolution_size(size) == len(kept_pixels(size)), size


def test_blur_reads_zeros_as_far_as_its_first_and_last_window_reach():
    for size in CROP_SIZES:
        windows = [range(pixel - 4, pixel + 5) for pixel in kept_pixels(size)]
        outside = [pixel for pixel in {*windows[0], *windows[-1]} if not 0 <= pixel < size]
        before = sum(pixel < 0 for pixel in outside)
        assert blur_pads(size) == (before, len(outside) - before), size


@pytest.mark.parametrize("size", [8, 72, 75, 99, 224])
def test_blur_with_its_pads_has_a_window_for_every_kept_pixel(size: int):
    near, far = blur_pads(size)
    assert (size + near + far - 9) / 4 + 1 == len(kept_pixels(size))


def test_blur_is_a_gaussian_of_nine_taps_whose_weights_sum_to_one():
    window, expected = blur_window(), np.empty((9, 9))
    for row, column in np.ndindex(9, 9):
        squared_distance = (row - 4) ** 2 + (column - 4) ** 2
        expected[row, column] = math.exp(-squared_distance / (2 * 4.0**2))

    assert (window.dtype, window.shape) == (np.float32, (9, 9))
    np.testing.assert_allclose(window, expected / expected.sum(), rtol=1e-6)
    assert window.sum(dtype=np.float64) == pytest.approx(1, abs=1e-6)


# --- arithmetic


@pytest.mark.parametrize("name", RECIPES)
def test_products_of_every_layer_are_those_that_torch_counts(name: str):
    recipe = RECIPES[name]
    with torch.device("meta"):
        net = AlexNet(recipe, 10).eval()
        image = empty(1, 3, recipe.crop_size, recipe.crop_size)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net(image)
    counted = {key: sum(ops.values()) for key, ops in counter.get_flop_counts().items()}

    for layer in layers_of(recipe, 10):
        if layer.kind != "norm":  # on a CPU it adds by a matrix product
            assert 2 * layer.products == counted.get(f"AlexNet.{layer.name}", 0), layer.name
