"""What a device can do at most, measured, and what a network asks of it, counted.

A training step multiplies matrices, at most as fast as one large product of that precision, and
goes through memory, at most as fast as a plain copy.
"""

import torch
from torch.utils.flop_counter import FlopCounterMode

from alexnet_cli.bench.clock import Clock
from alexnet_cli.model.network import RGB, AlexNet
from alexnet_cli.recipes.recipe import Recipe

SIDE = {"cpu": 2048, "cuda": 8192}  # of the square matrices
COPIED = {"cpu": 1 << 28, "cuda": 1 << 30}  # bytes
UPDATE_PASSES = 5  # an update reads weight, gradient and velocity, and writes weight and velocity


def count_flops(recipe: Recipe, num_classes: int) -> tuple[int, int]:
    """Return the operations one image takes, forward and in a training step.

    Operations are those of convolutions and matrix products, two for each multiplication with its
    addition. Backward they are as many again for the weights and for the inputs of each layer;
    conv1, which reads the image, needs no gradient of its inputs.
    """
    with torch.device("meta"):
        net = AlexNet(recipe, num_classes).eval()
        image = torch.empty(1, RGB, recipe.crop_size, recipe.crop_size)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net(image)
    counts = {name: sum(found.values()) for name, found in counter.get_flop_counts().items()}
    of_conv1 = counts["AlexNet.conv1"]
    of_norms = sum(counts.get(f"AlexNet.norm{number}", 0) for number in range(1, 6))
    forward = counter.get_total_flops() - of_norms  # whose sums are a product on a CPU only
    return forward, 3 * forward - of_conv1


def update_bytes(recipe: Recipe, num_classes: int) -> int:
    """Return how many bytes an update reads and writes."""
    with torch.device("meta"):
        net = AlexNet(recipe, num_classes)
    return UPDATE_PASSES * sum(p.numel() * p.element_size() for p in net.parameters())


def measure_products(clock: Clock, precision: str) -> float:
    """Return the operations a second of a product of large square matrices, on the first device."""
    device = clock.devices[0]
    side, dtype = SIDE[device.type], torch.bfloat16 if precision == "bf16" else torch.float32
    # Random values: on constant ones a GPU's clocks are higher than any training reaches.
    a, b, out = (torch.randn(side, side, dtype=dtype, device=device) for _ in range(3))
    return 2 * side**3 * clock.rate(lambda: torch.mm(a, b, out=out))


def measure_copy(clock: Clock) -> float:
    """Return the bytes a second that a copy reads and writes together, on the first device."""
    device = clock.devices[0]
    source, target = (
        torch.zeros(COPIED[device.type] // 4, dtype=torch.float32, device=device) for _ in range(2)
    )

    return 2 * COPIED[device.type] * clock.rate(lambda: target.copy_(source))
