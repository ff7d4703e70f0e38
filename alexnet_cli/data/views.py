"""The crops that a network is tested on: the center, or the ten of the paper (section 4.1)."""

from dataclasses import dataclass
from typing import Any

NAMES_OF_VIEWS = {1: "center view", 9: "nine views", 10: "ten views"}


@dataclass(frozen=True, slots=True)
class View:
    """A crop of an image: its top left corner, and whether it is mirrored."""

    top: int
    left: int
    mirrored: bool


def ten_views(image_size: int, crop_size: int) -> list[View]:
    """Return corners and center, then the same mirrored (2012 code, convdata_jpeg.py:225)."""
    end = image_size - crop_size
    corners = [(0, 0), (0, end), (end // 2, end // 2), (end, 0), (end, end)]
    return [View(top, left, mirrored) for mirrored in (False, True) for top, left in corners]


def nine_views(image_size: int, crop_size: int) -> list[View]:
    """Return three by three crops, none mirrored (2012 code, convdata_cifar.py:82)."""
    end = image_size - crop_size
    offsets = (0, end // 2, end)
    return [View(top, left, False) for top in offsets for left in offsets]


def views_of(num_views: int, image_size: int, crop_size: int) -> list[View]:
    """Return 1, 9 or 10 views; the center crop is one of them."""
    if num_views == 1:
        return [center_view(image_size, crop_size)]
    return {9: nine_views, 10: ten_views}[num_views](image_size, crop_size)


def center_view(image_size: int, crop_size: int) -> View:
    """Return the center crop."""
    middle = (image_size - crop_size) // 2
    return View(middle, middle, False)


def cut(images: Any, view: View, size: int) -> Any:
    """Slice (..., H, W, 3) to (..., S, S, 3)."""
    return images[..., view.top : view.top + size, view.left : view.left + size, :]
