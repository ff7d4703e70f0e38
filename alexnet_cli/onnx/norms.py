"""The normalizations as ONNX nodes (section 3.3)."""

import numpy as np

from alexnet_cli.onnx.nodes import Graph
from alexnet_cli.recipes.recipe import Recipe


def add_norm(graph: Graph, recipe: Recipe, name: str, x: str, channels: int) -> str:
    """Add y = x * (k + alpha * sum of x^2 over neighboring channels)^-beta (section 3.3).

    k + alpha * sum is one 1x1 convolution of the squares, by a banded matrix for each column: the
    fastest form of those in tools/bench/lrn_onnx.py, well ahead of ONNX's own LRN node.
    """
    band = recipe.lrn_alpha_per_square() * _band(channels // recipe.columns, recipe.lrn_size)
    blocks = np.tile(band, (recipe.columns, 1))[:, :, None, None].astype(np.float32)
    window = graph.constant(f"{name}/window", blocks)
    k = graph.constant(f"{name}/k", np.full(channels, recipe.lrn_k, np.float32))
    square = graph.add("Mul", f"{name}/square", x, x)
    scale = graph.add("Conv", f"{name}/scale", square, window, k, group=recipe.columns)
    return _divide_by_power(graph, name, x, scale, recipe.lrn_beta)


def add_spatial_norm(graph: Graph, recipe: Recipe, name: str, x: str, *, contrast: bool) -> str:
    """Add y = x * (k + alpha * sum of d^2 around it in the same map)^-beta.

    d is x, or x minus the mean around it.
    """
    d = x
    if contrast:
        mean = _average_around(graph, recipe, f"{name}/mean", x, count_pad=False)
        d = graph.add("Sub", f"{name}/distance", x, mean)
    square = graph.add("Mul", f"{name}/square", d, d)
    average = _average_around(graph, recipe, f"{name}/average", square, count_pad=True)
    alpha = recipe.spatial_alpha_per_square() * recipe.spatial_size**2
    constants = [
        graph.constant(f"{name}/{what}", np.array(value, np.float32))
        for what, value in (("alpha", alpha), ("k", recipe.spatial_k))
    ]
    total = graph.add("Mul", f"{name}/sum", average, constants[0])
    scale = graph.add("Add", f"{name}/scale", total, constants[1])
    return _divide_by_power(graph, name, x, scale, recipe.spatial_beta)


def _average_around(graph: Graph, recipe: Recipe, name: str, x: str, *, count_pad: bool) -> str:
    size = recipe.spatial_size
    before, after = size // 2, (size - 1) // 2
    return graph.add(
        "AveragePool",
        name,
        x,
        kernel_shape=[size] * 2,
        pads=[before, before, after, after],
        count_include_pad=int(count_pad),
    )


def _divide_by_power(graph: Graph, name: str, x: str, scale: str, beta: float) -> str:
    """Add x * scale^-beta."""
    if beta != 0.75:
        exponent = graph.constant(f"{name}/beta", np.array(-beta, np.float32))
        return graph.add("Mul", name, x, graph.add("Pow", f"{name}/power", scale, exponent))
    # scale^(3/4) by square roots: far cheaper than Pow.
    root = graph.add("Sqrt", f"{name}/root", scale)
    fourth_root = graph.add("Sqrt", f"{name}/fourth_root", root)
    half = graph.add("Div", f"{name}/over_root", x, root)
    return graph.add("Div", name, half, fourth_root)


def _band(channels: int, window: int) -> np.ndarray:
    """Return 0/1 (C, C): which channels count for which; even windows reach one further back."""
    channel = np.arange(channels)
    distance = channel[None] - channel[:, None] + window // 2
    return (distance >= 0) & (distance < window)
