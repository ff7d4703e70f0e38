"""Caffe's AlexNet: its layers in order, from a .caffemodel or from an ONNX file made of one.

A .caffemodel is a protobuf message, NetParameter (caffe.proto), of which names, types and blobs of
the layers are read. Field numbers are those of its two layouts: LayerParameter, and
V1LayerParameter of before 2014.
"""

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from alexnet_cli.onnx.model_file import read_varint
from alexnet_cli.pretrained.weights import Imported, UnknownNetworkError, adapt
from alexnet_cli.recipes.imported import BVLC, CAFFENET

# Blue, green, red: the mean color of ILSVRC-2012's training images (Caffe, ilsvrc_2012_mean.npy).
MEAN_BGR = (104.00698793, 116.66876762, 122.67891434)
MEAN_SIDE = 256
# Types of V1LayerParameter, and of LayerParameter, in the words of ONNX.
V1_KINDS = {4: "Conv", 6: "Dropout", 14: "Gemm", 15: "LRN", 17: "MaxPool", 18: "Relu"}
KINDS = {
    "Convolution": "Conv",
    "Dropout": "Dropout",
    "InnerProduct": "Gemm",
    "LRN": "LRN",
    "Pooling": "MaxPool",
    "ReLU": "Relu",
}
# (layers of NetParameter, name, type, blobs, lrn_param)
V2_FIELDS, V1_FIELDS = (100, 1, 2, 7, 118), (2, 4, 5, 6, 18)
SIZE, ALPHA, BETA, K = 1, 2, 3, 5  # LRNParameter
MAX_FIELDS = 100_000
STEM = {"bvlc": ("LRN", "MaxPool"), "caffenet": ("MaxPool", "LRN")}
NAMES = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")
Value = int | memoryview


@dataclass(slots=True)
class CaffeLayer:
    """One layer: its kind in the words of ONNX, its weight and bias, its LRN constants."""

    kind: str
    blobs: list[np.ndarray] = field(default_factory=list)
    lrn: dict[str, float] = field(default_factory=dict)


def read_caffemodel(path: Path, mean: np.ndarray | None = None) -> Imported:
    """Return the network of a .caffemodel.

    Args:
        mean: what `read_mean` returns; by default the mean color.

    Raises:
        UnknownNetworkError: if the file holds another network, or is damaged.
    """
    try:
        layers = [layer for layer in _layers(memoryview(path.read_bytes())) if layer.kind]
    except (ValueError, struct.error, IndexError) as error:
        raise UnknownNetworkError(f"its fields cannot be read ({error})") from error
    return arrange(layers, mean)


def arrange(layers: list[CaffeLayer], mean: np.ndarray | None = None) -> Imported:
    """Return the network that layers in this order make up.

    Raises:
        UnknownNetworkError: if it is neither BVLC AlexNet nor CaffeNet.
    """
    kinds = tuple(layer.kind for layer in layers)
    for recipe in (BVLC, CAFFENET):
        if kinds == _kinds_of(recipe.name):
            break
    else:
        raise UnknownNetworkError(
            f"its {len(kinds)} layers do not follow each other as in bvlc_alexnet or "
            "bvlc_reference_caffenet"
        )
    for layer in layers:
        _check_lrn(layer)
    stored: dict[str, Any] = {}
    holders = (layer for layer in layers if layer.kind in ("Conv", "Gemm"))
    for name, layer in zip(NAMES, holders, strict=True):
        if len(layer.blobs) != 2:
            raise UnknownNetworkError(f"{name} has {len(layer.blobs)} tensors, not 2")
        weight, bias = layer.blobs
        stored[f"{name}.bias"] = bias.reshape(-1)
        is_matrix = layer.kind == "Gemm"
        stored[f"{name}.weight"] = weight.reshape(weight.shape[-2:]) if is_matrix else weight
    stored["conv1.weight"] = stored["conv1.weight"][:, ::-1]  # BGR
    fitted, weights = adapt(recipe, stored, np.ones(3))
    return Imported(fitted, weights, np.array(MEAN_BGR[::-1], np.float32) if mean is None else mean)


def _kinds_of(name: str) -> tuple[str, ...]:
    stem = ("Conv", "Relu", *STEM[name])
    hidden = ("Gemm", "Relu", "Dropout")
    return (*stem, *stem, *("Conv", "Relu") * 3, "MaxPool", *hidden, *hidden, "Gemm")


def _check_lrn(layer: CaffeLayer) -> None:
    expected = {"size": BVLC.lrn_size, "alpha": BVLC.lrn_alpha, "beta": BVLC.lrn_beta, "k": 1.0}
    for name, value in layer.lrn.items():
        if not math.isclose(value, expected[name], rel_tol=1e-6):
            raise UnknownNetworkError(f"its LRN has {name} {value:g}, not {expected[name]:g}")


def read_mean(path: Path) -> np.ndarray:
    """Return the mean image of a .binaryproto as float32 RGB (256, 256, 3).

    Raises:
        UnknownNetworkError: if the file is not a mean image of that size.
    """
    try:
        blob = _blob(memoryview(path.read_bytes()))
    except (ValueError, struct.error, IndexError) as error:
        raise UnknownNetworkError(f"its fields cannot be read ({error})") from error
    if blob.shape != (1, 3, MEAN_SIDE, MEAN_SIDE):
        raise UnknownNetworkError(f"it is {blob.shape}, not (1, 3, {MEAN_SIDE}, {MEAN_SIDE})")
    return np.ascontiguousarray(blob[0, ::-1].transpose(1, 2, 0))


def _fields(message: memoryview) -> Iterator[tuple[int, Value]]:
    """Yield the number and the value of each field: an integer, or its bytes.

    Raises:
        ValueError: if the message is damaged, or has too many fields.
    """
    place = 0
    for _ in range(MAX_FIELDS):
        if place >= len(message):
            return
        key, place = read_varint(message, place)
        match key & 7:
            case 0:
                value, place = read_varint(message, place)
                yield key >> 3, value
                continue
            case 1 | 5:
                length = 8 if key & 7 == 1 else 4
            case 2:
                length, place = read_varint(message, place)
            case _:
                raise ValueError("a field of unknown type")
        if place + length > len(message):
            raise ValueError("it is cut short")
        yield key >> 3, message[place : place + length]
        place += length
    raise ValueError("it has too many fields")


def _bytes(value: Value) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a number in place of a message")
    return value


def _layers(content: memoryview) -> Iterator[CaffeLayer]:
    for number, value in _fields(content):
        for fields in (V2_FIELDS, V1_FIELDS):
            if number == fields[0]:
                yield _layer(_bytes(value), fields)


def _layer(message: memoryview, fields: tuple[int, ...]) -> CaffeLayer:
    _, _, kind, blobs, lrn = fields
    layer = CaffeLayer("")
    for number, value in _fields(message):
        if number == kind:
            if isinstance(value, int):
                layer.kind = V1_KINDS.get(value, "")
            else:
                layer.kind = KINDS.get(bytes(value[:40]).decode("ascii", "replace"), "")
        elif number == blobs:
            layer.blobs.append(_blob(_bytes(value)))
        elif number == lrn:
            layer.lrn = _lrn(_bytes(value))
    return layer


def _lrn(message: memoryview) -> dict[str, float]:
    found = {"size": 5.0, "alpha": 1.0, "beta": 0.75, "k": 1.0}  # caffe.proto's defaults
    names = {SIZE: "size", ALPHA: "alpha", BETA: "beta", K: "k"}
    for number, value in _fields(message):
        if name := names.get(number):
            found[name] = value if isinstance(value, int) else struct.unpack("<f", value)[0]
    return found


def _blob(message: memoryview) -> np.ndarray:
    """Return a BlobProto as float32: packed data, and its shape in either layout."""
    sides, shape, data = {1: 1, 2: 1, 3: 1, 4: 1}, [], []  # num, channels, height, width
    for number, value in _fields(message):
        if number in sides and isinstance(value, int):
            sides[number] = value
        elif number == 7:
            shape = _shape(_bytes(value))
        elif number == 5:
            data.append(np.frombuffer(_bytes(value), "<f4"))
    values = np.concatenate(data) if data else np.empty(0, np.float32)
    return values.reshape(shape or list(sides.values()))


def _shape(message: memoryview) -> list[int]:
    found = []
    for number, value in _fields(message):
        if number == 1 and isinstance(value, int):
            found.append(value)
        elif number == 1:
            place, packed = 0, _bytes(value)
            while place < len(packed):
                side, place = read_varint(packed, place)
                found.append(side)
    return found
