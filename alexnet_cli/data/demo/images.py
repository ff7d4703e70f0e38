"""Draws small labeled images: ten classes of shape and texture.

Colors are random, so neither mean color nor brightness identifies a class. A mirrored image stays
in its class, and so do the crops of section 4.1. An image depends only on the seed and its split,
class and number.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

GRAY_FRACTION = 0.05
MIN_CONTRAST = (
    70  # between figure and ground, in gray levels, so that gray images keep their figure
)
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
MAX_BLOB = 0.06  # half length of a distracting blob, in shorter sides
SPLITS = ("train", "val")

# C channels, H rows, W columns. Lengths are in units of the shorter side, from the figure's middle.
Field = np.ndarray  # float32 (H, W)
# x, y and a generator -> about the distance to the edge of a random figure, positive inside it
Draw = Callable[[Field, Field, np.random.Generator], Field]


@dataclass(frozen=True, slots=True)
class DemoClass:
    """One class of drawn images."""

    wnid: str
    name: str
    draw: Draw


def draw_numbered(seed: int, split: str, label: int, number: int) -> bytes:
    """Return one image as a JPEG, always the same bytes."""
    rng = np.random.default_rng([seed, SPLITS.index(split), label, number])
    return draw_jpeg(CLASSES[label].draw, rng)


def draw_images(num_images: int, seed: int) -> tuple[list[tuple[bytes, int]], int]:
    """Return (JPEG, label) of each image, the classes in turn, and the number of classes."""
    labels = [number % len(CLASSES) for number in range(num_images)]
    images = [(draw_numbered(seed, "train", label, n), label) for n, label in enumerate(labels)]
    return images, len(CLASSES)


def draw_jpeg(draw: Draw, rng: np.random.Generator) -> bytes:
    """Return an image of random size, colors, light and noise as a JPEG; a few are gray."""
    x, y, pixels_per_unit = _frame(rng)
    mask = _soft(draw(*_turned(x, y, 10, rng), rng), pixels_per_unit)
    ground, figure = _contrasting_colors(rng)
    pixels_CHW = ground + mask * (figure - ground)
    for _ in range(rng.integers(0, 4)):
        _add_blob(pixels_CHW, x, y, pixels_per_unit, rng)
    pixels_CHW *= _light(x, y, rng)
    pixels_CHW += rng.standard_normal(mask.shape, np.float32) * np.float32(rng.uniform(2, 8))
    levels_CHW = pixels_CHW.clip(0, 255).astype(np.uint8)
    image = Image.fromarray(np.ascontiguousarray(levels_CHW.transpose(1, 2, 0)))
    if rng.random() < GRAY_FRACTION:
        image = image.convert("L")
    jpeg = io.BytesIO()
    image.save(jpeg, "JPEG", quality=int(rng.integers(85, 96)))
    return jpeg.getvalue()


def _frame(rng: np.random.Generator) -> tuple[Field, Field, int]:
    """Return x, y and the pixels per unit: the shorter side.

    The origin, where figures go, keeps them within the central 224x224 of 256x256 (section 4.1).
    """
    shorter = int(rng.integers(80, 321))
    longer = round(shorter * rng.uniform(1, 1.6))
    width, height = (longer, shorter) if rng.random() < 0.6 else (shorter, longer)
    right, down = rng.uniform(-0.1, 0.1, 2).astype(np.float32)
    y, x = np.mgrid[:height, :width].astype(np.float32) / shorter
    return x - x.mean() - right, y - y.mean() - down, shorter


def _turned(x: Field, y: Field, degrees: float, rng: np.random.Generator) -> tuple[Field, Field]:
    """Rotate the axes by a random angle of up to `degrees` in either direction."""
    radians = np.deg2rad(rng.uniform(-degrees, degrees))
    cos, sin = np.float32(np.cos(radians)), np.float32(np.sin(radians))
    return cos * x - sin * y, sin * x + cos * y


def _soft(field: Field, pixels_per_unit: int) -> Field:
    """Return the coverage 0..1 of a field, with edges about one pixel wide."""
    return (field * pixels_per_unit + 0.5).clip(0, 1)


def _contrasting_colors(rng: np.random.Generator) -> np.ndarray:
    """Return the colors of ground and figure, float32 RGB (2, 3, 1, 1)."""
    while True:
        colors = rng.uniform(10, 245, (2, 3)).astype(np.float32)
        ground_luma, figure_luma = colors @ LUMA
        if abs(ground_luma - figure_luma) > MIN_CONTRAST:
            return colors[..., None, None]


def _add_blob(
    pixels_CHW: np.ndarray, x: Field, y: Field, scale: int, rng: np.random.Generator
) -> None:
    """Draw a half transparent ellipse of a random color on the image, in place."""
    row, column = rng.integers(0, x.shape)
    reach = int(MAX_BLOB * scale) + 2
    window = np.s_[max(0, row - reach) : row + reach, max(0, column - reach) : column + reach]
    u, v = _turned(x[window] - x[row, column], y[window] - y[row, column], 90, rng)
    long, short = rng.uniform(0.02, MAX_BLOB, 2)
    mask = _soft(short - np.hypot(u * np.float32(short / long), v), scale)
    color = rng.uniform(0, 255, (3, 1, 1)).astype(np.float32)
    pixels = pixels_CHW[:, *window]
    pixels += mask * np.float32(rng.uniform(0.4, 0.9)) * (color - pixels)


def _light(x: Field, y: Field, rng: np.random.Generator) -> Field:
    """Return a brightness factor that rises gently in one direction, 1 at the origin."""
    along, _ = _turned(x, y, 180, rng)
    return 1 + along * np.float32(rng.uniform(0, 0.4))


def _wave(position: Field, period: float, phase: float) -> Field:
    """Return the distance to the nearest edge of equal bands, positive in every other band."""
    turns = position / np.float32(period) + np.float32(phase)
    return (0.25 - np.abs(turns - np.floor(turns) - 0.5)) * np.float32(period)


def _stripes(across: Field, rng: np.random.Generator) -> Field:
    period = rng.uniform(0.1, 0.24)
    return _wave(across, period, rng.random()) + period * np.float32(rng.uniform(-0.08, 0.08))


def _diagonal_stripes(x: Field, y: Field, rng: np.random.Generator) -> Field:
    """Slant in either direction, so that mirrored images stay in the class."""
    return _stripes((x + y if rng.random() < 0.5 else x - y) * np.float32(0.5**0.5), rng)


def _checkerboard(x: Field, y: Field, rng: np.random.Generator) -> Field:
    period = rng.uniform(0.18, 0.36)
    a, b = (_wave(axis, period, rng.random()) for axis in (x, y))
    return np.minimum(np.abs(a), np.abs(b)) * np.sign(a * b)


def _dots(x: Field, y: Field, rng: np.random.Generator) -> Field:
    spacing = np.float32(rng.uniform(0.13, 0.24))
    right, down = rng.random(2, np.float32)
    row = y / spacing + down
    stagger = np.float32(0.5 * rng.integers(0, 2)) * (np.floor(row) % 2)
    column = x / spacing + right + stagger
    from_center = np.hypot(column - np.floor(column) - 0.5, row - np.floor(row) - 0.5)
    return (np.float32(rng.uniform(0.26, 0.36)) - from_center) * spacing


def _rings(x: Field, y: Field, rng: np.random.Generator) -> Field:
    return _stripes(np.hypot(x, y), rng)


def _triangle(x: Field, y: Field, rng: np.random.Generator) -> Field:
    inner_radius = np.float32(rng.uniform(0.11, 0.16))
    slanted = np.abs(x) * np.float32(0.75**0.5) - y * np.float32(0.5)
    return inner_radius - np.maximum(y, slanted)


def _frame_of_square(x: Field, y: Field, rng: np.random.Generator) -> Field:
    half_side = np.float32(rng.uniform(0.18, 0.28))
    hole = half_side * np.float32(rng.uniform(0.5, 0.75))
    from_center = np.maximum(np.abs(x), np.abs(y))
    return np.minimum(half_side - from_center, from_center - hole)


def _star(x: Field, y: Field, rng: np.random.Generator) -> Field:
    """Fold the plane into one tenth, where the star's outline is a straight line."""
    turns = np.arctan2(x, -y) * np.float32(2.5 / np.pi)  # 1 is one point of the star
    angle = np.abs(turns - np.rint(turns)) * np.float32(0.4 * np.pi)
    radius = np.hypot(x, y)
    tip = np.float32(rng.uniform(0.22, 0.32))
    inner = tip * np.float32(rng.uniform(0.38, 0.5))
    notch_x, notch_y = inner * np.cos(0.2 * np.pi), inner * np.sin(0.2 * np.pi)
    edge = np.hypot(tip - notch_x, notch_y)
    along, across = radius * np.cos(angle), radius * np.sin(angle)
    return ((tip - along) * notch_y - (tip - notch_x) * across) / np.float32(edge)


def _cross(x: Field, y: Field, rng: np.random.Generator) -> Field:
    length = np.float32(rng.uniform(0.2, 0.3))
    thickness = length * np.float32(rng.uniform(0.22, 0.4))
    near, far = np.minimum(np.abs(x), np.abs(y)), np.maximum(np.abs(x), np.abs(y))
    return np.minimum(length - far, thickness - near)


CLASSES = (
    DemoClass("n90000001", "horizontal stripes", lambda x, y, rng: _stripes(y, rng)),
    DemoClass("n90000002", "vertical stripes", lambda x, y, rng: _stripes(x, rng)),
    DemoClass("n90000003", "diagonal stripes", _diagonal_stripes),
    DemoClass("n90000004", "checkerboard", _checkerboard),
    DemoClass("n90000005", "dots", _dots),
    DemoClass("n90000006", "concentric rings", _rings),
    DemoClass("n90000007", "triangle", _triangle),
    DemoClass("n90000008", "square frame", _frame_of_square),
    DemoClass("n90000009", "star", _star),
    DemoClass("n90000010", "cross", _cross),
)
