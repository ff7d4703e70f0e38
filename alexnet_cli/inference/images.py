"""What people name to be classified: files, folders, globs, lists, arrays, samples -> pixels."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from alexnet_cli.data.images.decode import read_file
from alexnet_cli.data.images.resize import square, to_square
from alexnet_cli.data.images.to_rgb import rgb_pixels
from alexnet_cli.data.shards.dataset import Sample
from alexnet_cli.errors import ImageError, UsageError
from alexnet_cli.types import USUAL_RULES, DecodeRules

ImageLike = str | Path | bytes | np.ndarray | Image.Image | Sample


def named_images(images: ImageLike | Iterable[ImageLike]) -> Iterator[tuple[str, ImageLike]]:
    """Yield images with their names; folders and globs are replaced by their images.

    An array of four dimensions is a batch of images.

    Raises:
        UsageError: if a folder or glob has no images.
    """
    is_one = isinstance(images, ImageLike) and not (
        isinstance(images, np.ndarray) and images.ndim == 4
    )
    for position, image in enumerate([images] if is_one else images):  # type: ignore[list-item,arg-type]
        if isinstance(image, (str, Path)):
            yield from ((path, path) for path in find_images([str(image)], {}))
        elif isinstance(image, Sample):
            yield image.key, image
        else:
            yield getattr(image, "filename", "") or f"image {position}", image  # type: ignore[misc]


def to_pixels(image: ImageLike, size: int, rules: DecodeRules) -> np.ndarray:
    """Return an image as uint8 RGB (size, size, 3), as `prep` makes it.

    Raises:
        ImageError: if a file cannot be read, or its content cannot be decoded.
        UsageError: if an array is no uint8 RGB.
    """
    match image:
        case str() | Path():
            return to_square(read_file(Path(image)), size, rules)
        case bytes():
            return to_square(image, size, rules)
        case Sample():
            return square(image.pixels, size)
        case Image.Image():
            upright = ImageOps.exif_transpose(image) if rules.apply_orientation else image
            return square(_pillow_pixels(upright, rules), size)
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,)):
        raise UsageError(
            f"an array of {image.dtype} {image.shape} is no image.", hint="Give uint8 (H, W, 3)."
        )
    pixels = image if image.ndim == 3 else np.repeat(image[:, :, None], 3, axis=2)
    return square(np.ascontiguousarray(pixels), size)


def thumbnail(path: str, size: int) -> np.ndarray:
    """Return the square that a network sees of an image file, uint8 RGB (size, size, 3).

    Raises:
        ImageError: if it cannot be read or decoded.
    """
    pixels = Image.fromarray(to_pixels(path, 4 * size, USUAL_RULES))
    return np.asarray(pixels.resize((size, size), Image.Resampling.BOX))


def _pillow_pixels(image: Image.Image, rules: DecodeRules) -> np.ndarray:
    try:
        return rgb_pixels(image, rules.gray_bits)
    except (OSError, ValueError, SyntaxError) as error:
        raise ImageError("corrupt", " ".join(str(error).split())) from error


def find_images(names: Iterable[str], ignored: dict[str, int]) -> list[str]:
    """Return the paths of files, folders (their images, sorted) and globs, in the order named.

    Args:
        ignored: what is passed over in folders is counted in it, by kind.

    Raises:
        UsageError: if a name is a URL, or nothing matches.
    """
    paths: list[str] = []
    for name in names:
        if "://" in name:
            raise UsageError(f"{name}: not supported.", hint="Name files, folders or globs.")
        # Unlike Path.is_dir, os.path answers for names that are too long, too.
        if os.path.isdir(name):  # noqa: PTH112
            # Here, because a single file does without it and it takes a tenth of a second.
            from alexnet_cli.data.sources.listing import list_image_files

            found = [str(path) for path in list_image_files(Path(name), ignored)]
        elif os.path.exists(name) or not any(sign in name for sign in "*?["):  # noqa: PTH110
            found = [name]
        else:
            root = Path(name).anchor
            pattern = str(Path(name).relative_to(root))
            found = [str(path) for path in sorted(Path(root or ".").glob(pattern))]
        if not found:
            passed = ", ".join(f"{count} {kind}" for kind, count in ignored.items())
            raise UsageError(f"{name}: no images there{passed and f' (passed over: {passed})'}.")
        paths.extend(found)
    return paths
