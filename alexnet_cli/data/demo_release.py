"""A small labelled picture set, drawn here and laid out exactly as ImageNet's 2012 archives.

Ten classes of shape and texture in random colours, so that neither mean colour nor brightness
tells them apart; each is closed under mirroring and survives the crops of section 4.1. The same
seed writes the same bytes; a picture depends on the seed, its split, class and number alone.
"""

import gzip
import io
import tarfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from alexnet_cli.atomic import write_atomically
from alexnet_cli.progress import SILENT, Progress, Tracker

TRAIN_TAR = "ILSVRC2012_img_train.tar"
VAL_TAR = "ILSVRC2012_img_val.tar"
DEVKIT = "ILSVRC2012_devkit_t12"
MEMBER_TIME = 1_340_000_000  # June 2012; any fixed time gives the same bytes every day
MAT_HEADER = b"MATLAB 5.0 MAT-file, written without a date".ljust(116)
GREY_SHARE = 0.05
MIN_CONTRAST = 70  # between figure and ground, in grey levels: grey pictures keep their figure
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
MAX_BLOB = 0.06  # half length of a distracting blob, in shorter sides
SPLITS = ("train", "val")

# C channels, H rows, W columns. Lengths are in units of the shorter side, from the figure's middle.
Field = np.ndarray  # float32 (H, W)
# x, y and a generator -> about the distance to the edge of a random figure, positive inside it
Draw = Callable[[Field, Field, np.random.Generator], Field]
Members = Iterable[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class DemoClass:
    """One class of drawn pictures."""

    wnid: str
    name: str
    draw: Draw


def write_demo_release(
    folder: Path,
    *,
    images_per_class: int = 100,
    val_per_class: int = 20,
    seed: int = 0,
    progress: Progress = SILENT,
) -> None:
    """Draw the pictures and write the training, validation and development kit archives.

    As in the official kit, devkit ids do not follow the sorted wnids.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    ids = _shuffled_ids(rng)
    val_labels = rng.permutation(np.repeat(np.arange(len(CLASSES)), val_per_class))
    num_images = len(CLASSES) * (images_per_class + val_per_class)
    with progress.track("drawing", num_images) as tracker:
        with write_atomically(folder / TRAIN_TAR) as file:
            _write_tar(file, _train_tars(images_per_class, seed, tracker))
        with write_atomically(folder / VAL_TAR) as file:
            _write_tar(file, _val_images(val_labels, seed, tracker))
    with write_atomically(folder / f"{DEVKIT}.tar.gz") as file:
        with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed:
            _write_tar(packed, _devkit_files(ids, val_labels, images_per_class))


def draw_pictures(num_images: int, seed: int) -> tuple[list[tuple[bytes, int]], int]:
    """Return so many (JPEG, label), class by class in turn, and the number of classes."""
    labels = [number % len(CLASSES) for number in range(num_images)]
    return [(_jpeg(seed, "train", label, n), label) for n, label in enumerate(labels)], len(CLASSES)


def draw_jpeg(draw: Draw, rng: np.random.Generator) -> bytes:
    """Draw one picture of random size, colours, light and noise, as a JPEG (a few are grey)."""
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
    if rng.random() < GREY_SHARE:
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
    """Turn the axes by up to `degrees` either way."""
    radians = np.deg2rad(rng.uniform(-degrees, degrees))
    cos, sin = np.float32(np.cos(radians)), np.float32(np.sin(radians))
    return cos * x - sin * y, sin * x + cos * y


def _soft(field: Field, pixels_per_unit: int) -> Field:
    """Turn a field into coverage 0..1 with edges about one pixel wide."""
    return (field * pixels_per_unit + 0.5).clip(0, 1)


def _contrasting_colors(rng: np.random.Generator) -> np.ndarray:
    """Return ground and figure, float32 RGB (2, 3, 1, 1); either may be the lighter one."""
    while True:
        colors = rng.uniform(10, 245, (2, 3)).astype(np.float32)
        ground_luma, figure_luma = colors @ LUMA
        if abs(ground_luma - figure_luma) > MIN_CONTRAST:
            return colors[..., None, None]


def _add_blob(
    pixels_CHW: np.ndarray, x: Field, y: Field, scale: int, rng: np.random.Generator
) -> None:
    """Lay a half transparent ellipse of any colour over the picture, in place."""
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
    """Slant either way: mirrored ones stay in the class."""
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
    from_centre = np.hypot(column - np.floor(column) - 0.5, row - np.floor(row) - 0.5)
    return (np.float32(rng.uniform(0.26, 0.36)) - from_centre) * spacing


def _rings(x: Field, y: Field, rng: np.random.Generator) -> Field:
    return _stripes(np.hypot(x, y), rng)


def _triangle(x: Field, y: Field, rng: np.random.Generator) -> Field:
    inner_radius = np.float32(rng.uniform(0.11, 0.16))
    slanted = np.abs(x) * np.float32(0.75**0.5) - y * np.float32(0.5)
    return inner_radius - np.maximum(y, slanted)


def _frame_of_square(x: Field, y: Field, rng: np.random.Generator) -> Field:
    half_side = np.float32(rng.uniform(0.18, 0.28))
    hole = half_side * np.float32(rng.uniform(0.5, 0.75))
    from_centre = np.maximum(np.abs(x), np.abs(y))
    return np.minimum(half_side - from_centre, from_centre - hole)


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
INNER_NODES = (("n90000101", "texture", slice(0, 6)), ("n90000102", "shape", slice(6, 10)))
SYNSET_FIELDS = (
    "ILSVRC2012_ID", "WNID", "words", "gloss",
    "num_children", "children", "wordnet_height", "num_train_images",
)  # fmt: skip


def _shuffled_ids(rng: np.random.Generator) -> np.ndarray:
    """Return the devkit id, 1..K, of each label."""
    ids = in_order = np.arange(1, len(CLASSES) + 1)
    while np.array_equal(ids, in_order):
        ids = rng.permutation(in_order)
    return ids


def _jpeg(seed: int, split: str, label: int, number: int) -> bytes:
    rng = np.random.default_rng([seed, SPLITS.index(split), label, number])
    return draw_jpeg(CLASSES[label].draw, rng)


def _train_tars(images_per_class: int, seed: int, tracker: Tracker) -> Members:
    for label, demo_class in enumerate(CLASSES):
        images = []
        for number in range(1, images_per_class + 1):
            images.append((f"{demo_class.wnid}_{number}.JPEG", _jpeg(seed, "train", label, number)))
            tracker.advance()
        class_tar = io.BytesIO()
        _write_tar(class_tar, images)
        yield f"{demo_class.wnid}.tar", class_tar.getvalue()


def _val_images(labels: np.ndarray, seed: int, tracker: Tracker) -> Members:
    for number, label in enumerate(labels.tolist(), start=1):
        yield f"ILSVRC2012_val_{number:08d}.JPEG", _jpeg(seed, "val", label, number)
        tracker.advance()


def _devkit_files(ids: np.ndarray, val_labels: np.ndarray, images_per_class: int) -> Members:
    ground_truth = "".join(f"{number}\n" for number in ids[val_labels])
    yield f"{DEVKIT}/data/meta.mat", _meta_mat(ids, images_per_class)
    yield f"{DEVKIT}/data/ILSVRC2012_validation_ground_truth.txt", ground_truth.encode()
    yield f"{DEVKIT}/readme.txt", b"Drawn pictures in the layout of the official kit.\n"


def _meta_mat(ids: np.ndarray, images_per_class: int) -> bytes:
    """Return the synsets in the order of their ids: classes first, then the two inner nodes."""
    import scipy.io  # 0.2 s that only this function needs

    rows = []
    for label in np.argsort(ids):
        wnid, name = CLASSES[label].wnid, CLASSES[label].name
        gloss = f"a drawn picture of the class {name}"
        rows.append((int(ids[label]), wnid, name, gloss, 0, np.zeros((0, 0)), 0, images_per_class))
    for number, (wnid, name, labels) in enumerate(INNER_NODES, start=len(ids) + 1):
        children = np.sort(ids[labels])
        gloss = f"any drawn picture of a {name}"
        rows.append((number, wnid, name, gloss, len(children), children, 1, 0))
    synsets = np.array(rows, dtype=[(field, object) for field in SYNSET_FIELDS])
    mat = io.BytesIO()
    scipy.io.savemat(mat, {"synsets": synsets[:, None]})
    return MAT_HEADER + mat.getvalue()[len(MAT_HEADER) :]


def _write_tar(file: BinaryIO, members: Members) -> None:
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(content), MEMBER_TIME
            tar.addfile(member, io.BytesIO(content))
