"""The measured limits of a device, and the operations and bytes that a network needs.

A training step multiplies matrices, at most as fast as one large product of that precision, and
moves memory, at most as fast as a plain copy.
"""

import torch

from alexnet_cli.bench.clock import Clock
from alexnet_cli.model.architecture import layers_of
from alexnet_cli.recipes.recipe import Recipe

SIDE = {"cpu": 2048, "mps": 4096, "cuda": 8192}  # of the square matrices
COPIED = {"cpu": 1 << 28, "mps": 1 << 28, "cuda": 1 << 30}  # bytes
UPDATE_PASSES = 5  # an update reads weight, gradient and momentum, writes weight and momentum


def count_flops(recipe: Recipe, num_classes: int) -> tuple[int, int]:
    """Return the operations per image, of the forward pass and of a training step.

    Counted are convolutions and matrix products, with two operations per multiply-add. The backward
    pass has as many again for the weights and for the inputs of each layer; conv1 needs no gradient
    of its input.
    """
    layers = layers_of(recipe, num_classes)
    forward = 2 * sum(layer.products for layer in layers)
    return forward, 3 * forward - 2 * layers[0].products


def update_bytes(recipe: Recipe, num_classes: int) -> int:
    """Return the number of bytes that an update reads and writes."""
    return UPDATE_PASSES * 4 * sum(layer.num_parameters for layer in layers_of(recipe, num_classes))


def measure_products(clock: Clock, precision: str) -> float:
    """Return operations per second of a product of large square matrices."""
    device = clock.devices[0]
    side = SIDE[device.type]
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    # Random values, because a GPU has higher clocks on constant ones than in training.
    a, b, out = (torch.randn(side, side, dtype=dtype, device=device) for _ in range(3))
    return 2 * side**3 * clock.rate(lambda: torch.mm(a, b, out=out))


def measure_copy(clock: Clock) -> float:
    """Return bytes per second that a copy reads and writes together."""
    device = clock.devices[0]
    source, target = (
        torch.zeros(COPIED[device.type] // 4, dtype=torch.float32, device=device) for _ in range(2)
    )

    return 2 * COPIED[device.type] * clock.rate(lambda: target.copy_(source))
