"""How fast is one image searched for among many, against the rate at which memory is read?

    python tools/bench/similar.py [--images 50000] [--units 4096] [--rounds 7] [--threads N]

Every round reads the half-precision features once as 64-bit integers (torch's sum, the fastest
reader here), then searches them; ratios are taken inside a round, and their median is printed.
Times are also given in processor seconds of this process: on a machine that others use too, their
ratio is the one to believe. Features are not negative, as after ReLU, and independent, the worst
case: all distances are about the same, so that rounded features rule out the fewest.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from alexnet_cli.inference.search import (
    products_numpy,
    products_torch,
    round_features,
    search,
)


def measure(function: Callable[[], object]) -> tuple[float, float]:
    """Return wall and processor seconds of one call."""
    wall, processor = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - wall, time.process_time() - processor


def main() -> None:
    """Print the best time of every variant, and its ratios to reading."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--units", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rng = np.random.default_rng(0)
    features = np.empty((options.images, options.units), np.float16)
    for start in range(0, len(features), 1000):
        values = rng.standard_normal(features[start : start + 1000].shape, dtype=np.float32)
        features[start : start + 1000] = np.maximum(values, 0)
    rounded = round_features(features)
    query = np.maximum(rng.standard_normal((1, options.units)), 0)
    words = torch.from_numpy(features.view(np.int64))
    asked = round_features(query.astype(np.float16)).codes
    variants = {
        "read": words.sum,
        "torch products": lambda: products_torch(rounded.codes, asked),
        "numpy products": lambda: products_numpy(rounded.codes, asked),
        "search (torch)": lambda: search(query, features, rounded, 10),
    }
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in variants}
    for _ in range(options.rounds):
        for name, function in variants.items():
            taken[name].append(measure(function))
    print(f"{options.images:,} x {options.units:,}, {features.nbytes / 1e6:,.0f} MB, "
          f"{options.threads} threads")  # fmt: skip
    for name, times in taken.items():
        wall = min(wall for wall, _ in times)
        ratios = [
            statistics.median(
                read[i] / own[i] for read, own in zip(taken["read"], times, strict=True)
            )
            for i in (0, 1)
        ]
        print(
            f"{name:15} {1000 * wall:7.1f} ms {features.nbytes / wall / 1e9:6.1f} GB/s, "
            f"{ratios[0]:.2f} of reading ({ratios[1]:.2f} in processor time)"
        )


if __name__ == "__main__":
    main()
