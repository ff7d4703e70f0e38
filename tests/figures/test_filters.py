"""The first layer's kernels: how they become pixels, and how colored they are."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from alexnet_cli.figures.filters import FiltersRequest, color_index, draw_filters, to_pixels
from alexnet_cli.figures.style import tile
from alexnet_cli.model.checkpoint import load_checkpoint, save_checkpoint


def kernels(num: int = 4) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(num, 3, 11, 11)).astype(np.float32)


def test_gray_kernels_have_color_index_0():
    gray = np.repeat(kernels()[:, :1], 3, axis=1)
    assert color_index(gray) == pytest.approx(np.zeros(4), abs=1e-6)


def test_kernels_without_gray_have_color_index_1():
    colored = kernels()
    colored -= colored.mean(axis=1, keepdims=True)
    assert color_index(colored) == pytest.approx(np.ones(4), abs=1e-6)


def test_random_kernels_have_color_index_two_thirds():
    assert color_index(kernels(200)).mean() == pytest.approx(2 / 3, abs=0.01)


def test_color_index_is_the_length_outside_of_the_gray_direction():
    weights = kernels(1)
    direction = np.ones(3) / np.sqrt(3)
    colors = weights[0].reshape(3, -1)
    along = np.square(direction @ colors).sum()
    expected = 1 - along / np.linalg.norm(colors) ** 2
    assert color_index(weights)[0] == pytest.approx(expected, rel=1e-5)


def test_kernel_of_zeros_has_color_index_0():
    assert color_index(np.zeros((1, 3, 5, 5), np.float32)).tolist() == [0]


def test_weight_0_is_middle_gray_and_the_largest_is_white_or_black():
    weights = kernels()
    pixels = to_pixels(weights, each=False)
    largest = np.unravel_index(np.abs(weights).argmax(), weights.shape)
    f, c, y, x = largest
    assert pixels.shape == (4, 11, 11, 3)
    assert pixels[f, y, x, c] == pytest.approx(1 if weights[largest] > 0 else 0)
    assert to_pixels(weights * 0, each=False).min() == 0.5
    assert pixels.min() >= 0
    assert pixels.max() <= 1


def test_each_kernel_may_have_a_scale_of_its_own():
    weights = kernels()
    weights[0] /= 1000
    shared, own = (np.ptp(to_pixels(weights, each=each)[0]) for each in (False, True))
    assert shared < 0.01
    assert own > 0.5


def test_tiles_are_in_reading_order_with_one_pixel_between():
    images = np.arange(1, 6)[:, None, None, None] * np.ones((5, 2, 3, 1))
    sheet = tile(images, per_row=3, background=0.0)[..., 0]
    assert sheet.shape == (2 * 3 + 1, 3 * 4 + 1)
    assert sheet[1].tolist() == [0, 1, 1, 1, 0, 2, 2, 2, 0, 3, 3, 3, 0]
    assert sheet[4].tolist() == [0, 4, 4, 4, 0, 5, 5, 5, 0, 0, 0, 0, 0]
    assert not sheet[[0, 3, 6]].any()


def test_columns_are_told_apart_and_their_index_is_in_the_result(checkpoint, tmp_path):
    found = load_checkpoint(checkpoint)
    weights = found.weights["conv1.weight"].copy()
    half = len(weights) // 2
    weights[:half] = weights[:half].mean(axis=1, keepdims=True)  # gray
    path = tmp_path / "gray.safetensors"
    save_checkpoint(path, replace(found, weights=found.weights | {"conv1.weight": weights}))
    result = draw_filters(FiltersRequest(path, tmp_path / "filters.png"))
    assert result.numbers["kernels"] == [half, half]
    assert result.numbers["color_index"][0] == pytest.approx(0, abs=1e-4)
    assert result.numbers["color_index"][1] == pytest.approx(2 / 3, abs=0.15)
    with Image.open(tmp_path / "filters.png") as image:
        assert image.width > 200


def test_between_kernels_is_the_background_of_the_theme(checkpoint, tmp_path):
    for theme, darkest in (("light", 255), ("dark", 20)):
        draw_filters(FiltersRequest(checkpoint, tmp_path / f"{theme}.png", theme=theme))
        with Image.open(tmp_path / f"{theme}.png") as image:
            pixels = np.asarray(image.convert("RGB"))
        shades = pixels[(pixels == pixels[0, 0]).all(axis=2)]
        assert shades[0].min() == darkest
        white = (pixels == 255).all(axis=2).mean()
        assert white > 0.2 if theme == "light" else white < 0.01
