"""The normalizations as ONNX nodes, run, against loops over their formulas; under a second.

N images, C channels, H rows, W columns.
"""

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from alexnet_cli.model.architecture import Layer
from alexnet_cli.onnx.graph import NetworkGraph
from alexnet_cli.recipes.recipe import PAPER, Recipe

SHAPE = (2, 12, 5, 6)


def draw(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(0.5, 2, shape).astype(np.float32)


def run(kind: str, recipe: Recipe, x: np.ndarray) -> np.ndarray:
    """Build a valid model of one layer and run it."""
    graph = NetworkGraph(recipe, num_classes=2, image_size=8, views=1, values={})
    groups = recipe.columns if kind == "norm" else 1
    layer = Layer("y", kind, x.shape[1:], x.shape[1:], groups=groups)
    assert graph.add_layer(layer, "x", "image") == "y"
    free = ["N", x.shape[1], "H", "W"]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, free) for name in "xy"]
    model = graph.model(*ends)
    onnx.checker.check_model(model, full_check=True)
    content = model.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def run_norm(recipe: Recipe, x: np.ndarray) -> np.ndarray:
    return run("norm", recipe, x)


def run_spatial_norm(recipe: Recipe, x: np.ndarray, *, contrast: bool) -> np.ndarray:
    return run("contrast-norm" if contrast else "spatial-norm", recipe, x)


# --- over neighboring channels, section 3.3


def expect_norm(x: np.ndarray, recipe: Recipe) -> np.ndarray:
    x, size = x.astype(np.float64), recipe.lrn_size
    y, column = np.empty_like(x), x.shape[1] // recipe.columns
    for i in range(x.shape[1]):
        total = np.zeros(x[:, 0].shape)
        for j in range(i - size // 2, i - size // 2 + size):
            if 0 <= j < x.shape[1] and j // column == i // column:
                total += x[:, j] ** 2
        alpha = recipe.lrn_alpha / size if recipe.lrn_divided else recipe.lrn_alpha
        y[:, i] = x[:, i] / (recipe.lrn_k + alpha * total) ** recipe.lrn_beta
    return y


@pytest.mark.parametrize("columns", [1, 2])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 8, 99])
def test_norm_is_the_equation_of_the_paper(size: int, columns: int):
    recipe, x = replace(PAPER, columns=columns, lrn_size=size, lrn_alpha=0.3), draw(*SHAPE)

    np.testing.assert_allclose(run_norm(recipe, x), expect_norm(x, recipe), rtol=1e-5)


@pytest.mark.parametrize(
    "changes",
    [
        {"lrn_beta": 0.5},
        {"lrn_beta": 1.3, "lrn_k": 1.5},
        {"lrn_beta": 0.0},
        {"lrn_alpha": 0.0},
        {"lrn_divided": True},
        {"lrn_divided": True, "lrn_k": 1.0, "lrn_size": 4},
    ],
    ids=str,
)
def test_norm_takes_any_constants(changes: dict):
    recipe, x = replace(PAPER, **{"lrn_alpha": 0.3, **changes}), draw(*SHAPE)

    np.testing.assert_allclose(run_norm(recipe, x), expect_norm(x, recipe), rtol=1e-5)


def test_norm_with_the_numbers_of_the_paper():
    x = 100 * draw(*SHAPE)

    np.testing.assert_allclose(run_norm(PAPER, x), expect_norm(x, PAPER), rtol=1e-5)


# --- over neighboring positions


def expect_spatial_norm(x: np.ndarray, recipe: Recipe, *, contrast: bool) -> np.ndarray:
    x, size = x.astype(np.float64), recipe.spatial_size
    distance, total = x.copy(), np.zeros(x.shape)

    def near(at: int, length: int) -> range:
        return range(max(0, at - size // 2), min(length, at - size // 2 + size))

    for image, channel, row, column in np.ndindex(x.shape if contrast else (0,) * 4):
        around = [x[image, channel, r, c] for r in near(row, 5) for c in near(column, 6)]
        distance[image, channel, row, column] -= sum(around) / len(around)
    for row, column in np.ndindex(5, 6):
        for r in near(row, 5):
            for c in near(column, 6):
                total[:, :, row, column] += distance[:, :, r, c] ** 2
    alpha = recipe.spatial_alpha / size**2 if recipe.spatial_divided else recipe.spatial_alpha
    return x / (recipe.spatial_k + alpha * total) ** recipe.spatial_beta


@pytest.mark.parametrize("contrast", [False, True])
@pytest.mark.parametrize("divided", [True, False])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 9])
def test_spatial_norm_is_its_formula(size: int, divided: bool, contrast: bool):
    x = draw(2, 3, 5, 6)
    recipe = replace(PAPER, spatial_size=size, spatial_alpha=0.6, spatial_divided=divided)

    found = run_spatial_norm(recipe, x, contrast=contrast)

    expected = expect_spatial_norm(x, recipe, contrast=contrast)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("contrast", [False, True])
@pytest.mark.parametrize(
    "changes",
    [
        {"spatial_beta": 0.5},
        {"spatial_beta": 1.3, "spatial_k": 2.5},
        {"spatial_alpha": 0.0},
        {"spatial_k": 0.1, "spatial_size": 4},
    ],
    ids=str,
)
def test_spatial_norm_takes_any_constants(changes: dict, contrast: bool):
    x, recipe = draw(2, 3, 5, 6), replace(PAPER, **{"spatial_alpha": 3.0, **changes})

    found = run_spatial_norm(recipe, x, contrast=contrast)

    expected = expect_spatial_norm(x, recipe, contrast=contrast)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_zeros_stay_zeros():
    x = np.zeros(SHAPE, np.float32)

    assert (run_norm(PAPER, x) == 0).all()
    assert (run_spatial_norm(PAPER, x, contrast=True) == 0).all()
