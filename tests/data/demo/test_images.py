"""The drawn images: colors identify no class, and every figure fills its image."""

import io

import numpy as np
import pytest
from PIL import Image

from alexnet_cli.data.demo.images import CLASSES, draw_images, draw_jpeg, draw_numbered


def drawn(label: int, number: int) -> Image.Image:
    rng = np.random.default_rng([7, label, number])
    return Image.open(io.BytesIO(draw_jpeg(CLASSES[label].draw, rng)))


@pytest.fixture(scope="module")
def mean_colors() -> np.ndarray:
    """Mean RGB of 12 images of each class: (K, 12, 3)."""
    colors = [
        np.asarray(drawn(label, number).convert("RGB")).mean((0, 1))
        for label in range(len(CLASSES))
        for number in range(12)
    ]
    return np.array(colors).reshape(len(CLASSES), 12, 3)


def test_mean_color_does_not_identify_the_classes(mean_colors):
    class_means = mean_colors[:, :6].mean(1)
    held_out = mean_colors[:, 6:]
    distances = np.linalg.norm(held_out[:, :, None] - class_means, axis=-1)  # (K, 6, K)
    correct = distances.argmin(-1) == np.arange(len(CLASSES))[:, None]
    assert correct.mean() < 0.3


@pytest.mark.parametrize("demo_class", CLASSES, ids=lambda demo_class: demo_class.name)
def test_figure_and_ground_are_both_in_the_central_crop(demo_class):
    """Neither the figure nor its ground is missing from the crop of section 4.1."""
    y, x = (np.mgrid[:112, :112].astype(np.float32) - 55.5) / 128
    for number in range(10):
        field = demo_class.draw(x, y, np.random.default_rng(number))
        assert 0.04 < (field > 0).mean() < 0.75


def test_images_are_drawn_of_the_classes_in_turn():
    images, num_classes = draw_images(2 * len(CLASSES) + 1, seed=3)

    assert num_classes == len(CLASSES)
    assert [label for _, label in images] == [*range(num_classes), *range(num_classes), 0]
    assert len({jpeg for jpeg, _ in images}) == len(images)
    assert images[4][0] == draw_numbered(3, "train", 4, 4)
