from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from alexnet_cli.distributed.device_plan import Runtime
from alexnet_cli.inference.classifier import Classifier, load_classifier

# Widths of a narrow network: conv1 to conv5, then fc6 and fc7; and ImageNet's classes.
WIDTHS = (8, 16, 24, 24, 16, 40, 32)
NUM_CLASSES = 1000


@pytest.fixture
def uint8_images() -> Callable[[int], np.ndarray]:
    """Draw uint8 images (N, 256, 256, 3) of blocks of 16 pixels."""

    def draw(count: int) -> np.ndarray:
        cells = np.random.default_rng(5).integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)
        return cells.repeat(16, axis=1).repeat(16, axis=2)

    return draw


@pytest.fixture
def classifier_of() -> Callable[[Path], Classifier]:
    def load(path: Path) -> Classifier:
        return load_classifier(path, Runtime((torch.device("cpu"),)))[0]

    return load


@pytest.fixture(scope="session")
def caffe_weights() -> dict[str, np.ndarray]:
    """Random tensors of a narrow BVLC AlexNet, as Caffe keeps them: BGR, two groups."""
    rng = np.random.default_rng(3)
    c1, c2, c3, c4, c5, f6, f7 = WIDTHS
    shapes = {
        "conv1": (c1, 3, 11, 11),
        "conv2": (c2, c1 // 2, 5, 5),
        "conv3": (c3, c2, 3, 3),
        "conv4": (c4, c3 // 2, 3, 3),
        "conv5": (c5, c4 // 2, 3, 3),
        "fc6": (f6, c5 * 36),
        "fc7": (f7, f6),
        "fc8": (NUM_CLASSES, f7),
    }
    weights = {}
    for name, shape in shapes.items():
        std = {"conv1": 0.01, "fc8": 0.01}.get(name, (2 / np.prod(shape[1:])) ** 0.5)
        weights[f"{name}.weight"] = rng.normal(0, std, shape).astype(np.float32)
        weights[f"{name}.bias"] = rng.normal(0, 0.1, shape[:1]).astype(np.float32)
    return weights
