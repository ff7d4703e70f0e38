"""A model file that `alexnet export` wrote: its checksum, and the checks before it is opened.

Models come from anywhere. A file of a few hundred bytes can ask for gigabytes and hours, even while
onnxruntime only opens it, because it computes whatever depends on constants alone. So the only
graph that is opened is the one that export writes for the recipe in the file's metadata.
"""

import json
import math
import os
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from alexnet_cli.errors import CheckpointError, RecipeError, hint, on_one_line
from alexnet_cli.model.architecture import Layer, layers_of
from alexnet_cli.recipes.recipe import Recipe
from alexnet_cli.types import USUAL_RULES, DecodeRules

if TYPE_CHECKING:
    import onnx

METADATA_KEY, CHECKSUM_KEY = "alexnet", "alexnet.crc32"
CONSTANT_VALUES = (7, 5, 9)  # in onnx.proto: ModelProto.graph, .initializer, .raw_data
KEPT_BYTES = 1024  # of a constant's values; shapes and bounds are shorter
FLOAT = 1  # TensorProto.FLOAT; onnx is imported while the checksum is computed
SKELETON_BYTES = 8 << 20  # limit; 20,000 classes take two
# Limits for the outputs of all layers and the multiplications of one crop. The paper's network has
# 1.9e6 and 8e8; four times as wide, which takes seconds, is still allowed.
MAX_VALUES, MAX_PRODUCTS = 1 << 23, 15 * 10**9


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """The metadata of an exported model.

    Attributes:
        classes: (wnid, name) in label order.
        image_size: side of the images it takes.
        views: how many views it averages inside.
        origin: checkpoint, dataset and epoch, as short texts.
    """

    recipe: Recipe
    classes: list[tuple[str, str]]
    image_size: int
    views: int
    origin: dict[str, str]
    rules: DecodeRules = USUAL_RULES


@dataclass(frozen=True, slots=True)
class OnnxFile:
    """A checked model file, or a checkpoint in its place.

    Attributes:
        constants: float32 by name, read only and in the graph's shapes; the large ones are views of
            the memory-mapped model file, read from the disk when they are used. The same for any
            number of views.
        opened: the state of the model file when it was checked; None of a checkpoint.
    """

    path: Path
    info: ModelInfo
    constants: dict[str, np.ndarray]
    opened: os.stat_result | None = None

    def check_unchanged(self) -> None:
        """Check that nobody has written over the file, which may have ended the process.

        A file that was removed or replaced by another stays mapped.

        Raises:
            CheckpointError: if somebody has.
        """
        try:
            now = self.path.stat()
        except OSError:
            return
        if (
            self.opened
            and os.path.samestat(now, self.opened)
            and (now.st_size, now.st_mtime_ns) != (self.opened.st_size, self.opened.st_mtime_ns)
        ):
            raise CheckpointError(
                f"{self.path}: was written over since it was opened.",
                hint="Open it again; a file that is moved to its place does not disturb.",
            )


def metadata_of(info: ModelInfo) -> dict[str, str]:
    """Return the metadata of an exported model as its file has it."""
    about = {
        "classes": info.classes,
        "image_size": info.image_size,
        "views": info.views,
        "origin": info.origin,
        "recipe": json.loads(info.recipe.to_json()),
        **({"decode_rules": rules} if (rules := info.rules.to_json()) else {}),
    }
    return {METADATA_KEY: json.dumps(about)}


def add_checksum(content: bytes) -> bytes:
    """Append a CRC-32 to a serialized model, as one more entry of its metadata."""
    return content + _checksum_entry(zlib.crc32(content))


def is_export(path: Path) -> bool:
    """Return whether an ONNX file has the metadata of `alexnet export`; damage is not noticed."""
    import onnx
    from google.protobuf.message import DecodeError

    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as mapped:
        try:
            skeleton, _ = skeleton_of(memoryview(mapped))
            entries = onnx.ModelProto.FromString(skeleton).metadata_props
        except (ValueError, DecodeError):
            return False
    return any(entry.key == METADATA_KEY for entry in entries)


def open_onnx_file(path: Path, *, to_run: bool = False) -> OnnxFile:
    """Check a model file without running it, and return its metadata and constants.

    Memory-maps the file: parsing all of 245 MB takes half a second and 500 MB.

    Args:
        to_run: whether onnxruntime is imported as well while the checksum is computed.

    Raises:
        CheckpointError: if the file is damaged or is not a model that export writes.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file.", hint=hint("export_model", path=path))
    if not path.stat().st_size:
        raise CheckpointError(f"{path}: not an ONNX model; the file is empty.")
    with path.open("rb") as file:
        opened = os.fstat(file.fileno())
        content = memoryview(mmap(file.fileno(), 0, access=ACCESS_READ))
    with ThreadPoolExecutor(1) as pool:
        is_damaged = pool.submit(_is_damaged, content)
        import onnx  # noqa: F401 - takes as long as the checksum, meanwhile

        if to_run:
            import onnxruntime  # noqa: F401
    if is_damaged.result():
        raise CheckpointError(f"{path}: damaged, its checksum does not match.")
    try:
        skeleton, places = skeleton_of(content)
    except ValueError as error:
        raise CheckpointError(f"{path}: not an ONNX model, or a damaged one ({error}).") from error
    try:
        info, model = _check_skeleton(skeleton)
        return OnnxFile(path, info, _constants_of(model, content, places), opened)
    except (ValueError, RecipeError) as error:
        raise CheckpointError(
            f"{path}: an ONNX model, but not one of alexnet export ({on_one_line(str(error))}).",
            hint="If another version of alexnet wrote it, export its checkpoint again.",
        ) from error


def _is_damaged(content: memoryview) -> bool:
    """Return whether a file has a checksum that does not match."""
    size = len(_checksum_entry(0))
    if content[-size:-8] != _checksum_entry(0)[:-8]:
        return False
    return content[-size:] != _checksum_entry(zlib.crc32(content[:-size]))


def _checksum_entry(checksum: int) -> bytes:
    """Return the entry as protobuf: field 14 of ModelProto, a key (1) and a value (2)."""
    key, value = CHECKSUM_KEY.encode(), f"{checksum:08x}".encode()
    pair = b"\x0a%c%b\x12%c%b" % (len(key), key, len(value), value)
    return b"\x72%c%b" % (len(pair), pair)


def skeleton_of(
    content: memoryview, path: tuple[int, ...] = CONSTANT_VALUES
) -> tuple[bytes, list[tuple[int, int]]]:
    """Return a serialized message in which long values of the field at `path` are empty.

    Returns:
        The message, and the start and length of each value that was left out.

    Raises:
        ValueError: if it is not laid out as a model, or holds much besides constants.
    """
    kept, places, end = bytearray(), [], 0
    while end < len(content):
        start = end
        key, place = read_varint(content, start)
        length, end = read_varint(content, place)  # or the value itself
        if key & 7 not in (0, 2):
            raise ValueError("its fields are not those of an ONNX model")
        is_message = key & 7 == 2
        body, end = end, end + length * is_message
        if end > len(content):
            raise ValueError("it is cut short")
        if is_message and key >> 3 == path[0] and (path[1:] or length > KEPT_BYTES):
            part = b""
            if path[1:]:
                part, inside = skeleton_of(content[body:end], path[1:])
                places += [(body + start, length) for start, length in inside]
            else:
                places.append((body, length))
            kept += _varint(key) + _varint(len(part)) + part
        else:
            kept += content[start:end]
        if len(kept) > SKELETON_BYTES:
            raise ValueError("it holds too much besides its weights")
    return bytes(kept), places


def read_varint(content: memoryview, place: int) -> tuple[int, int]:
    """Return a number and the place after it."""
    value = 0
    for shift, byte in enumerate(content[place : place + 10]):
        value |= (byte & 127) << 7 * shift
        if byte < 128:
            return value, place + shift + 1
    raise ValueError("its fields are not those of an ONNX model")


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])


def _check_skeleton(skeleton: bytes) -> tuple[ModelInfo, "onnx.ModelProto"]:
    """Check that a model is the one that export writes for its recipe; return it parsed.

    Raises:
        ValueError, RecipeError: if it is not, or if its network is too large.
    """
    import onnx
    from google.protobuf.message import DecodeError

    from alexnet_cli.onnx.graph import expected_graph

    try:
        model = onnx.ModelProto.FromString(skeleton)
    except DecodeError as error:
        raise ValueError("its graph cannot be read") from error
    info = _parse_metadata({entry.key: entry.value for entry in model.metadata_props})
    num_classes = len(info.classes)
    _check_cost(info, layers_of(info.recipe, num_classes))
    expected = expected_graph(info.recipe, num_classes, info.image_size, info.views)
    _check_graph(model, expected)
    return info, model


def _constants_of(
    model: "onnx.ModelProto", content: memoryview, places: list[tuple[int, int]]
) -> dict[str, np.ndarray]:
    """Return the float constants of a checked model whose large values are elsewhere.

    Args:
        content: the file.
        places: start and length of the large values in it, in the order of the constants.

    Raises:
        ValueError: if the values are not as many as the shapes say.
    """
    remaining, found = iter(places), {}
    for constant in model.graph.initializer:
        if constant.data_type != FLOAT:
            continue
        num_bytes = 4 * math.prod(constant.dims)
        values: bytes | memoryview = constant.raw_data
        if num_bytes > KEPT_BYTES and not values:
            start, length = next(remaining, (0, 0))
            values = content[start : start + length]
        if len(values) != num_bytes:
            raise ValueError(f"{constant.name} does not have as many values as its shape says")
        found[constant.name] = np.frombuffer(values, "<f4").reshape(constant.dims)
    if next(remaining, None):
        raise ValueError("it has more values than its shapes say")
    return found


def _parse_metadata(metadata: dict[str, str]) -> ModelInfo:
    """Return the metadata of an exported model.

    Raises:
        ValueError: if its metadata is not that of an exported model.
    """
    try:
        about = json.loads(metadata[METADATA_KEY])
        classes = [(wnid, name) for wnid, name in about["classes"]]
        image_size, views = about["image_size"], about["views"]
        origin = {str(key): str(value) for key, value in about["origin"].items()}
        recipe = Recipe.from_json(json.dumps(about["recipe"]))
        rules = DecodeRules.from_json(about.get("decode_rules", {}))
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError("its metadata does not describe a network") from error
    is_text = all(isinstance(text, str) for pair in classes for text in pair)
    if not is_text or type(image_size) is not int or type(views) is not int:
        raise ValueError("its metadata does not describe a network")
    if views not in (1, 9, 10):
        raise ValueError(f"it has {views} views")
    return ModelInfo(recipe, classes, image_size, views, origin, rules)


def _check_cost(info: ModelInfo, layers: list[Layer]) -> None:
    """Check that a batch takes seconds and less than a gigabyte.

    Raises:
        ValueError: if it takes more.
    """
    if not info.recipe.crop_size <= info.image_size <= math.isqrt(MAX_VALUES):
        raise ValueError(f"its images are {info.image_size} pixels wide")
    values = products = 0
    for layer in layers:
        values += math.prod(layer.output)
        products += layer.products + _products_of_step(info.recipe, layer)
        if layer.kind == "local-conv":  # the inputs of every position are copied side by side
            _, window, positions = layer.parameters["weight"]
            values += window * positions
            products += window**2 * positions
    if values > MAX_VALUES:
        raise ValueError("its layers need more memory than is allowed")
    if products > MAX_PRODUCTS:
        raise ValueError("its layers take more time than is allowed")


def _products_of_step(recipe: Recipe, layer: Layer) -> int:
    """Return the multiplications of a pooling or normalization layer as ONNX nodes."""
    num = math.prod(layer.output)
    match layer.kind:
        case "norm":
            return num * layer.output[0] // layer.groups
        case "spatial-norm" | "contrast-norm":
            return 2 * num * recipe.spatial_size**2
        case "max-pool" | "average-pool":
            return num * recipe.pool_size**2
    return 0


def _check_graph(model: "onnx.ModelProto", expected: "onnx.ModelProto") -> None:
    """Check that two models are the same but for metadata and the values of float constants.

    Raises:
        ValueError: if they are not; the message names the first node that differs.
    """
    for node, other in zip(model.graph.node, expected.graph.node, strict=False):
        if node != other:
            name = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
            raise ValueError(f"its operator {name} is not what its recipe has at that place")
    bare = type(model)()
    bare.CopyFrom(model)
    bare.ClearField("metadata_props")
    for constant in bare.graph.initializer:
        if constant.data_type == FLOAT:
            constant.ClearField("raw_data")
    if bare != expected:
        raise ValueError("its constants or its inputs and outputs are not those of its recipe")
