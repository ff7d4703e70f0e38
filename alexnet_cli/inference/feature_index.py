"""An index of images by what the last hidden layer answers to them, to find similar ones.

INDEX/features.f16   float16 (N, U), row by row
INDEX/rounded.i8     int8 (N, U), the same rounded to 8 bits
INDEX/codes.u8       uint8 (N, B / 8), their binary codes
INDEX/arrays.npz     what the rounded features stand for, and what made the codes
INDEX/about.json     checksummed: names and classes of the images, the network and its hash

The folder gets its name when it is complete.

N images, U units of the layer, B bits of a code.
"""

import math
import secrets
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from alexnet_cli.data.dataset_ref import DatasetRef, open_dataset
from alexnet_cli.data.imagenet_classes import shown_name
from alexnet_cli.data.shards.index import INDEX_NAME
from alexnet_cli.errors import (
    CheckpointError,
    ImageError,
    InputError,
    RejectedError,
    UsageError,
    hint,
    on_one_line,
)
from alexnet_cli.inference.codes import Encoder, fit_encoder, hamming
from alexnet_cli.inference.images import ImageLike, find_images
from alexnet_cli.inference.load import load_model
from alexnet_cli.inference.model import Model
from alexnet_cli.inference.search import (
    Rounded,
    exact_distances,
    round_features,
    search,
    to_single,
)
from alexnet_cli.io.atomic import (
    PARTIAL_SUFFIX,
    move_into_place,
    read_checksummed,
    write_atomically,
    write_checksummed,
)
from alexnet_cli.io.hashes import hash_of
from alexnet_cli.io.progress import SILENT, Progress
from alexnet_cli.model.architecture import last_hidden_layer
from alexnet_cli.model.checkpoint import checkpoint_file

VERSION = 1
SAMPLE = 10_000  # images that the codes are fitted to
NUM_QUERIES, NUM_NEAREST = 200, 10  # of the precision
SHORT_LIST = 20  # times the images wanted that codes choose


@dataclass(frozen=True, slots=True)
class FeaturesRequest:
    """What to make an index of.

    Attributes:
        model: a checkpoint, run folder or ONNX file.
        data: a dataset that prep made, or its URL; or an image, a folder of images or a glob.
        split: of a dataset.
        bits: of a code, a multiple of 64.
    """

    model: Path
    data: str
    out: Path
    split: str = "train"
    bits: int = 256
    device: str = "auto"


@dataclass(frozen=True, slots=True)
class Precision:
    """The share of the nearest images that have the class of the query.

    Attributes:
        k: number of nearest images.
        queries: number of images of the index that were searched for, drawn at random.
        exact, codes: by Euclidean distance, and by codes alone; fractions.
        chance: of images drawn at random.
    """

    k: int
    queries: int
    exact: float
    codes: float
    chance: float


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """An index that was made.

    Attributes:
        units: length of a feature.
        weights: SHA-256 of the file of the network.
        precision: None if the classes of the images are not known.
        unreadable: number of images that were left out.
    """

    index: str
    images: int
    layer: str
    units: int
    bits: int
    bytes: int
    model: str
    weights: str
    precision: Precision | None
    unreadable: int


@dataclass(frozen=True, slots=True)
class SimilarImage:
    """An image of an index; its class is None if it is not known."""

    image: str
    name: str | None
    distance: float


@dataclass(frozen=True, slots=True)
class SimilarResult:
    """The images nearest to one, nearest first.

    Attributes:
        images: number of images in the index.
        method: "exact", or "codes" for a short list of them that was then compared exactly.
    """

    image: str
    index: str
    images: int
    method: str
    nearest: list[SimilarImage]


@dataclass(slots=True)
class FeatureIndex:
    """An opened index; features are read from disk as they are needed.

    Attributes:
        about: as in about.json.
    """

    path: Path
    about: dict[str, Any]
    features: np.ndarray
    codes: np.ndarray
    rounded: Rounded
    encoder: Encoder

    def nearest(self, queries: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return positions and distances, as `search` does."""
        return search(queries, self.features, self.rounded, count)

    def nearest_codes(self, queries: np.ndarray, count: int) -> np.ndarray:
        """Return the positions of the most similar codes, int64 (Q, count)."""
        codes = self.encoder.encode(queries.astype(np.float16))
        rows = [np.argsort(hamming(self.codes, code), kind="stable")[:count] for code in codes]
        return np.stack(rows)

    def nearest_by_codes(self, query: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return positions and distances of one query, searched in a short list of codes."""
        near = np.sort(self.nearest_codes(query[None], count * SHORT_LIST)[0])
        distances = exact_distances(query.astype(np.float16), self.features[near])
        order = np.argsort(distances, kind="stable")[:count]
        return near[order], distances[order]

    def precision(self) -> Precision | None:
        """Measure how many of the nearest images of images of the index have their class."""
        labels = np.array(self.about["labels"])
        num = len(labels)
        k = min(NUM_NEAREST, num - 1)
        if not k:
            return None
        chosen = np.random.default_rng(0).permutation(num)[:NUM_QUERIES]
        queries = self.features[chosen]

        def share(found: np.ndarray) -> float:
            others = [
                row[row != own][:k] for row, own in zip(found, chosen, strict=True)
            ]  # an image is not its own neighbor
            return float((labels[np.stack(others)] == labels[chosen, None]).mean())

        counts = np.bincount(labels)
        chance = float(((counts[labels[chosen]] - 1) / (num - 1)).mean())
        exact, codes = self.nearest(queries, k + 1)[0], self.nearest_codes(queries, k + 1)
        return Precision(k, len(chosen), share(exact), share(codes), chance)


def make_index(request: FeaturesRequest, progress: Progress = SILENT) -> IndexInfo:
    """Write the features of all images of a folder or of a split, and their codes.

    Raises:
        UsageError: if the index exists, there are no images, or the layer is too small for codes.
        InputError: if the model or data cannot be used, or no image could be read.
    """
    out = request.out
    if out.exists():
        raise UsageError(f"{out} exists.", kept="It was left as it is.", hint="Name a new folder.")
    if request.bits % 64 or request.bits < 64:
        raise UsageError(f"{request.bits} bits: codes have a multiple of 64.")
    model = load_model(request.model, views=1, device=request.device)
    images, labels, classes = _find(request)
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f"{out.name}.{secrets.token_hex(8)}{PARTIAL_SUFFIX}")
    partial.mkdir()
    try:
        info = _write(request, partial, model, images, labels, classes, progress)
        move_into_place(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return info


def check_all_read(info: IndexInfo) -> None:
    """Raise a RejectedError if images could not be read."""
    if info.unreadable:
        total = info.unreadable + info.images
        raise RejectedError(
            f"{info.unreadable} of {total} images could not be read.",
            kept=f"{info.index} has the others.",
        )


def open_index(path: Path) -> FeatureIndex:
    """Open an index.

    Raises:
        InputError: if there is none, or it is damaged.
    """
    about = read_checksummed(path / "about.json")
    if about is None or about.get("version") != VERSION:
        raise InputError(
            f"{path}: not an index of features, or a damaged one.",
            hint=hint("make_index", path=path),
        )
    num, units, bits = len(about["keys"]), about["units"], about["bits"]
    try:
        # Copy on write, because torch takes writable arrays only; nothing is written.
        features = _map(path / "features.f16", np.float16, (num, units))
        codes = _map(path / "codes.u8", np.uint8, (num, bits // 8))
        with np.load(path / "arrays.npz", allow_pickle=False) as arrays:
            encoder = Encoder(arrays["mean"], arrays["directions"])
            rounded = Rounded(_map(path / "rounded.i8", np.int8, (num, units)), *arrays["rounded"])
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise InputError(f"{path}: damaged ({on_one_line(str(error))}).") from error
    return FeatureIndex(path, about, features, codes, rounded, encoder)


def find_similar(
    image: str,
    index_path: Path,
    *,
    model_path: Path | None = None,
    count: int = 10,
    by_codes: bool = False,
    device: str = "auto",
) -> SimilarResult:
    """Find the images of an index that are most similar to an image file.

    Args:
        model_path: the network of the index, if it has moved.
        by_codes: search a short list of the codes only.

    Raises:
        InputError: if image or index cannot be read, or the features are not finite.
        CheckpointError: if the network is not the one that the index was made with.
    """
    index = open_index(index_path)
    path = model_path or Path(index.about["model"])
    if weights_of(path) != index.about["weights"]:
        raise CheckpointError(
            f"{path} is not the network that {index_path} was made with.",
            hint=hint("index_model"),
        )
    model = load_model(path, views=1, device=device)
    query = _to_half(model.features([image], index.about["layer"])[0], image)
    if by_codes:
        positions, distances = index.nearest_by_codes(query, count)
    else:
        rows, distances_of = index.nearest(query[None], count)
        positions, distances = rows[0], distances_of[0]
    keys, labels, classes = (index.about[name] for name in ("keys", "labels", "classes"))
    nearest = [
        SimilarImage(keys[i], classes[labels[i]] if labels else None, round(distance, 4))
        for i, distance in zip(positions.tolist(), distances.tolist(), strict=True)
    ]
    method = "codes" if by_codes else "exact"
    return SimilarResult(image, str(index_path), len(keys), method, nearest)


def weights_of(path: Path) -> str:
    """Return the SHA-256 of the file of a network.

    Raises:
        CheckpointError: if there is none.
    """
    file = checkpoint_file(path)
    try:
        return hash_of(file)
    except OSError as error:
        raise CheckpointError(
            f"{file}: {error.strerror or error}.", hint=hint("index_model")
        ) from error


def _find(
    request: FeaturesRequest,
) -> tuple[Iterable[tuple[str, ImageLike]], list[int], list[str]]:
    """Return images with their names, their labels if they are known, and the classes."""
    data = request.data
    if "://" not in data and not (Path(data) / INDEX_NAME).is_file():
        paths = find_images([data], {})
        if all(path.endswith(".tar") for path in paths):
            DatasetRef.parse(data).check_no_tars()
        return [(path, path) for path in paths], [], []
    dataset = open_dataset(DatasetRef.parse(data).place)  # type: ignore[arg-type]
    split = dataset.split(request.split)
    classes = [shown_name(entry.wnid, entry.name) for entry in dataset.classes]

    class Samples:
        def __len__(self) -> int:
            return len(split)

        def __iter__(self) -> Iterator[tuple[str, ImageLike]]:
            return ((sample.key, sample) for sample in split)

    return Samples(), split.labels.tolist(), classes


def _write(
    request: FeaturesRequest,
    folder: Path,
    model: Model,
    images: Any,
    labels: list[int],
    classes: list[str],
    progress: Progress,
) -> IndexInfo:
    layer = last_hidden_layer(model.info.recipe, len(model.classes))
    units = math.prod(model.layer(layer).output)
    bits = min(request.bits, units // 64 * 64)
    if not bits:
        raise UsageError(f"{layer} has {units} units; codes need at least 64.")
    about: dict[str, Any] = {
        "version": VERSION,
        "model": str(model.info.path.absolute()),
        "weights": weights_of(model.info.path),
        "layer": layer,
        "units": units,
        "bits": bits,
    }
    keys, places = _write_features(folder / "features.f16", model, layer, images, progress)
    _write_codes(folder, (len(keys), units), bits)
    about["keys"] = keys
    about["labels"] = [labels[place] for place in places] if labels else []
    about["classes"] = classes
    write_checksummed(folder / "about.json", about)
    return IndexInfo(
        index=str(request.out),
        images=len(keys),
        layer=layer,
        units=units,
        bits=bits,
        bytes=sum(path.stat().st_size for path in folder.iterdir()),
        model=about["model"],
        weights=about["weights"],
        precision=open_index(folder).precision() if labels else None,
        unreadable=len(images) - len(keys),
    )


def _write_features(
    path: Path, model: Model, layer: str, images: Any, progress: Progress
) -> tuple[list[str], list[int]]:
    """Write the features of images that can be read; return their names and their places.

    Raises:
        InputError: if none can be read, or features are not finite.
    """
    keys: list[str] = []
    places: list[int] = []
    first_bad = ""
    with progress.track("features", len(images)) as bar, write_atomically(path) as file:
        for place, (name, found) in enumerate(model.features_each(images, layer)):
            bar.advance()
            if isinstance(found, ImageError):
                first_bad = first_bad or f"{on_one_line(name)}: {found.problem}"
                continue
            file.write(_to_half(found, name).tobytes())
            keys.append(name)
            places.append(place)
    if not keys:
        raise InputError(f"no image could be read, first {first_bad}")
    return keys, places


def _to_half(features: np.ndarray, image: str) -> np.ndarray:
    """Return the features of an image as float16 (U,).

    Raises:
        InputError: if half precision has no finite numbers for them.
    """
    with np.errstate(over="ignore"):
        half = features.ravel().astype(np.float16)
    if not np.isfinite(half).all():
        raise InputError(f"{on_one_line(image)}: its features are no finite numbers.")
    return half


def _write_codes(folder: Path, shape: tuple[int, int], bits: int) -> None:
    """Fit binary codes to the features (N, U) in a folder; write both kinds of rounded ones."""
    features = _map(folder / "features.f16", np.float16, shape)
    sample = np.random.default_rng(0).permutation(len(features))[:SAMPLE]
    encoder = fit_encoder(to_single(features[np.sort(sample)]), bits)
    arrays = []  # of `Rounded` besides the codes, (6, 1024)
    with (
        write_atomically(folder / "codes.u8") as binary,
        write_atomically(folder / "rounded.i8") as rounded,
    ):
        for start in range(0, len(features), 1024):
            block = features[start : start + 1024]
            binary.write(encoder.encode(to_single(block)).tobytes())
            codes, *others = round_features(block)
            rounded.write(codes.tobytes())
            arrays.append(np.stack(others))
    with write_atomically(folder / "arrays.npz") as file:
        np.savez(
            file,
            mean=encoder.mean,
            directions=encoder.directions,
            rounded=np.concatenate(arrays, axis=1),
        )


def _map(path: Path, dtype: type, shape: tuple[int, int]) -> np.ndarray:
    """Map a file of exactly this size into memory.

    Raises:
        ValueError: if it has another size.
        OSError: if it cannot be read.
    """
    expected = shape[0] * shape[1] * np.dtype(dtype).itemsize
    if (size := path.stat().st_size) != expected:
        raise ValueError(f"{path.name} has {size:,} bytes, not {expected:,}")
    return np.memmap(path, dtype, "c", shape=shape)
