"""What people name to be classified: files, folders, globs, lists, arrays, samples -> pixels."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageOps

from alexnet_cli.data.images.decode import read_file
from alexnet_cli.data.images.resize import square, to_square
from alexnet_cli.data.images.to_rgb import rgb_pixels
from alexnet_cli.data.shards.sample import Sample
from alexnet_cli.errors import ImageError, UsageError, on_one_line
from alexnet_cli.types import USUAL_RULES, DecodeRules

FileContent = bytes | bytearray | memoryview
ImageLike = str | os.PathLike[str] | FileContent | np.ndarray | Image.Image | Sample
Images = ImageLike | BinaryIO | Iterable[ImageLike | BinaryIO]  # what people may name at once
WHAT_TO_GIVE = "Give paths, files, arrays uint8 (H, W, 3), images of Pillow or samples."


def named_images(images: Images) -> Iterator[tuple[str, ImageLike]]:
    """Yield images with their names; folders and globs are replaced by their images.

    An array of four dimensions is a batch of images; an array of names is a list of paths.

    Raises:
        UsageError: if a folder or glob has no images, or something is no image.
    """
    entries: Iterable[Any] = [images] if _is_one(images) else images  # type: ignore[assignment]
    for position, image in enumerate(entries):
        if isinstance(image, (str, os.PathLike)):
            yield from ((path, path) for path in find_images([str(os.fspath(image))], {}))
        elif isinstance(image, Sample):
            yield image.key, image
        elif hasattr(image, "read"):
            name = getattr(image, "name", None)  # a number where it was opened by descriptor
            name = name if isinstance(name, str) else f"image {position}"
            yield name, _content_of(image, name)
        else:
            yield getattr(image, "filename", "") or f"image {position}", image


def _content_of(file: Any, name: str) -> bytes:
    try:
        content = file.read()
    except UnicodeDecodeError:
        content = ""
    if isinstance(content, str):
        raise UsageError(
            f"{on_one_line(name)}: opened as text.", hint="Open it in binary mode, rb."
        )
    return content


def _is_one(images: object) -> bool:
    if isinstance(images, np.ndarray):
        return images.ndim < 4 and images.dtype.kind not in "OU"
    one = str | os.PathLike | FileContent | Image.Image | Sample
    if isinstance(images, one) or hasattr(images, "read"):
        return True
    if splits := getattr(images, "splits", None):
        first = next(iter(splits))
        raise UsageError("a dataset is no image.", hint=f"Name a split of it: dataset[{first!r}].")
    if not isinstance(images, Iterable):
        raise _no_image(images)
    return False


def _no_image(value: object) -> UsageError:
    shape = f" of {value.dtype} {value.shape}" if isinstance(value, np.ndarray) else ""
    return UsageError(f"{type(value).__name__}{shape} is no image.", hint=WHAT_TO_GIVE)


def to_pixels(image: ImageLike, size: int, rules: DecodeRules) -> np.ndarray:
    """Return an image as uint8 RGB (size, size, 3), as `prep` makes it.

    Raises:
        ImageError: if a file cannot be read, or its content cannot be decoded.
        UsageError: if it is no image, such as an array of fractions.
    """
    match image:
        case str() | os.PathLike():
            return to_square(read_file(Path(image)), size, rules)
        case bytes() | bytearray() | memoryview():
            return to_square(bytes(image), size, rules)
        case Sample():
            return square(image.pixels, size)
        case Image.Image():
            upright = ImageOps.exif_transpose(image) if rules.apply_orientation else image
            return square(_pillow_pixels(upright, rules), size)
    is_image = isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.size > 0
    if not is_image or image.ndim not in (2, 3) or image.shape[2:] not in ((), (1,), (3,)):
        raise _no_image(image)
    pixels = (
        image if image.shape[2:] == (3,) else np.repeat(image.reshape(*image.shape[:2], 1), 3, 2)
    )
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
