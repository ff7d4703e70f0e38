"""Images of a dataset on one sheet: as they are stored, or as the network sees them in training.

N images of a class, H and W the dataset's image size, S the recipe's crop size.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.colors import to_rgb
from PIL import Image

from alexnet_cli.data.imagenet_classes import find_class, shown_name
from alexnet_cli.data.shards.dataset import Dataset, Split
from alexnet_cli.errors import UsageError, counted
from alexnet_cli.figures.style import (
    INK,
    FigureFile,
    Theme,
    check_path,
    fitted,
    new_figure,
    save,
    short_name,
    show_image,
    styled,
    tile,
)
from alexnet_cli.recipes.recipe import Recipe

MAX_CLASSES = 20  # rows of a sheet
MAX_AUGMENTED = 8
PER_ROW = 10
WIDTH = 0.95  # inches of an augmented image
THUMBNAIL = 128  # pixels; larger images are shrunk to it
STAGES = ("stored", "crop, mirror", "color noise", "minus mean", *["another time"] * 4)


@dataclass(frozen=True, slots=True)
class SheetRequest:
    """What to draw.

    Attributes:
        wanted: names or wnids of classes; by default all, or `MAX_CLASSES` at random.
        per_class: maximum number of images of a class, drawn at random.
        seed: draws classes and images, and augments these.
        recipe: whose augmentation to show, one image of each class; None shows stored images.
    """

    dataset: Dataset
    out: Path
    split: str = "train"
    wanted: tuple[str, ...] = ()
    per_class: int = PER_ROW
    seed: int = 0
    recipe: Recipe | None = None
    theme: Theme = "light"


def draw_sheet(request: SheetRequest) -> FigureFile:
    """Draw images of each class of a split.

    Raises:
        UsageError: if there is no such class, or the figure cannot be written under this name.
        DatasetError: if images are damaged, or there are no pixel statistics to augment them with.
    """
    check_path(request.out)
    split = request.dataset.split(request.split)
    rng = np.random.default_rng(request.seed)
    labels = _chosen_classes(request, split, rng)
    positions = {label: _draw(split, label, request.per_class, rng) for label in labels}
    classes = [(entry.wnid, entry.name) for entry in request.dataset.classes]
    full_names = [shown_name(*classes[label]) for label in labels]
    names = [short_name(name) for name in full_names]
    with styled(request.theme):
        if request.recipe:
            _draw_augmented(request, request.recipe, split, positions, names)
        else:
            _draw_stored(request, split, positions, names)
    keys = split.keys()
    numbers = {
        "split": request.split,
        "augmented": request.recipe.name if request.recipe else None,
        "classes": full_names,
        "shown": [[keys[i] for i in found.tolist()] for found in positions.values()],
    }
    return FigureFile("sheet", str(request.out), numbers)


def _chosen_classes(request: SheetRequest, split: Split, rng: np.random.Generator) -> list[int]:
    """Return the labels to show, in their order; all of them have images."""
    present = np.unique(split.labels)
    if not request.wanted:
        limit = MAX_AUGMENTED if request.recipe else MAX_CLASSES
        return sorted(rng.permutation(present)[:limit].tolist())
    classes = [(entry.wnid, entry.name) for entry in request.dataset.classes]
    labels = {find_class(classes, name): name for name in request.wanted}
    for label, name in labels.items():
        if label not in present:
            raise UsageError(f"class {name!r} has no images in split {request.split!r}.")
    return list(labels)


def _draw(split: Split, label: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return positions of random images of a class, in stored order."""
    of_class = np.flatnonzero(split.labels == label)
    return np.sort(rng.permutation(of_class)[:count])


def thumbnails(images: np.ndarray) -> list[np.ndarray]:
    """Return images, uint8 RGB (N, H, W, 3), shrunk to at most `THUMBNAIL` pixels."""
    if images.shape[1] <= THUMBNAIL:
        return list(images)
    small = (THUMBNAIL, THUMBNAIL)
    resized = (Image.fromarray(image).resize(small, Image.Resampling.BOX) for image in images)
    return [np.asarray(image) for image in resized]


def _draw_stored(
    request: SheetRequest, split: Split, positions: dict[int, np.ndarray], names: list[str]
) -> None:
    """Draw the images of a class in one row, or several, under its name."""
    columns = min(PER_ROW, max(len(found) for found in positions.values()))
    heights = [-(-len(found) // columns) for found in positions.values()]
    width = max(0.66 * columns, 2.0)
    figure = new_figure(width, 0.66 * sum(heights) + 0.2 * len(heights) + 0.1)
    grid = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    totals = np.bincount(split.labels, minlength=len(request.dataset.classes))
    paper = np.rint(255 * np.array(to_rgb(INK[request.theme][1]))).astype(np.uint8)
    for axes, (label, found), name in zip(grid, positions.items(), names, strict=True):
        images = np.stack(thumbnails(split.pixels(found)))
        show_image(axes, tile(images, columns, paper), aspect="equal")
        axes.set_anchor("W")
        name = fitted(name, width - 0.9, 6)
        axes.set_title(f"{name}, {counted(totals[label], 'image')}", loc="left", fontsize=6)
    save(figure, request.out)


def _draw_augmented(
    request: SheetRequest,
    recipe: Recipe,
    split: Split,
    positions: dict[int, np.ndarray],
    names: list[str],
) -> None:
    """Draw an image per row, step by step to the network's input, and other draws of that."""
    request.dataset.check_crop(recipe)
    images = [(name, i) for name, found in zip(names, positions.values(), strict=True)
              for i in found.tolist()]  # fmt: skip
    images = images[: max(MAX_AUGMENTED, request.per_class)]
    figure = new_figure(WIDTH * len(STAGES), 1.1 * len(images) + 0.2)
    grid = figure.subplots(len(images), len(STAGES), squeeze=False)
    stored = split.pixels(np.array([i for _, i in images]))
    for row, (name, position), image in zip(grid, images, stored, strict=True):
        steps = augmentation_of(request.dataset, recipe, image, (request.seed, position))
        for axes, step in zip(row, [image, *steps], strict=True):
            show_image(axes, step)
        row[0].set_title(fitted(name, WIDTH - 0.1, 6), fontsize=6, loc="left")
    for axes, title in zip(grid[0, 1:], STAGES[1:], strict=True):
        axes.set_title(title, fontsize=6)
    save(figure, request.out)


def augmentation_of(
    dataset: Dataset, recipe: Recipe, image: np.ndarray, seed: tuple[int, ...]
) -> list[np.ndarray]:
    """Return the steps from an image, uint8 RGB (H, W, 3), to the input of a training network.

    Returns:
        `STAGES` but the first, uint8 (S, S, 3) each. Where the mean is subtracted, gray is zero.
    """
    import torch  # here, because a sheet of stored images does without it

    from alexnet_cli.data.transforms import Augmenter

    augmenter = Augmenter(recipe, dataset.load_pixel_stats(), torch.device("cpu"))
    batch = torch.from_numpy(image[None].copy())
    mean = augmenter.mean.numpy()

    def draw(number: int, with_noise: bool = True) -> np.ndarray:
        rng = np.random.default_rng((*seed, number))
        crop = augmenter.random(batch, rng, with_noise=with_noise)[0]
        return crop.numpy().transpose(1, 2, 0) * recipe.pixel_scale

    def shown(values: np.ndarray) -> np.ndarray:
        return np.rint(values).clip(0, 255).astype(np.uint8)

    crop, inputs = draw(0, with_noise=False), [draw(number) for number in range(5)]
    # The step before the last adds the mean again.
    return [shown(crop + mean), shown(inputs[0] + mean), *(shown(x + 127.5) for x in inputs)]
