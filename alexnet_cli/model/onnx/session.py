"""An exported model on onnxruntime, without torch: uint8 pictures in, class probabilities out."""

import contextlib
import ctypes
import io
import json
import mmap
import os
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime

from alexnet_cli.errors import CheckpointError, DeviceError

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
METADATA_KEY, SEAL_KEY = "alexnet", "alexnet.crc32"


@dataclass(frozen=True, slots=True)
class OnnxClassifier:
    """A session, and what the file says about itself.

    Attributes:
        classes: (wnid, name) in label order.
        image_size: side of the pictures it takes.
        views: how many views it averages inside.
        provider: what really runs it.
        about: everything the file's metadata says: origin, recipe.
    """

    session: onnxruntime.InferenceSession
    classes: list[tuple[str, str]]
    image_size: int
    views: int
    provider: str
    about: dict

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Map uint8 RGB (N, H, W, 3) to float32 (N, K)."""
        return self.session.run(None, {"images": images})[0]


def seal(content: bytes) -> bytes:
    """Append a checksum to a serialized model, as one more entry of its metadata."""
    return content + _entry(zlib.crc32(content))


def _entry(checksum: int) -> bytes:
    """Return the entry as protobuf: field 14 of ModelProto, a key (1) and a value (2)."""
    key, value = SEAL_KEY.encode(), f"{checksum:08x}".encode()
    pair = b"\x0a%c%b\x12%c%b" % (len(key), key, len(value), value)
    return b"\x72%c%b" % (len(pair), pair)


def _check_seal(path: Path) -> None:
    """Refuse a model that is not as it was sealed; older ones, and those of others, have no seal.

    Raises:
        CheckpointError: it changed since.
    """
    head, size = _entry(0)[:-8], len(_entry(0))
    with path.open("rb") as file:
        if not file.seek(0, os.SEEK_END) > size:
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            if content[-size:-8] != head:
                return
            with memoryview(content) as view, view[:-size] as model:
                checksum = zlib.crc32(model)
            if content[-8:] != f"{checksum:08x}".encode():
                raise CheckpointError(f"{path}: damaged, its checksum does not match.")


def load_onnx(path: Path, device: str = "auto") -> OnnxClassifier:
    """Open a model that `alexnet export` wrote.

    Raises:
        CheckpointError: it is none, or is damaged.
        DeviceError: CUDA was asked for and cannot run here.
    """
    session = _open_session(path, device)
    try:
        about = json.loads(session.get_modelmeta().custom_metadata_map[METADATA_KEY])
        classes = [(wnid, name) for wnid, name in about["classes"]]
        size, views = int(about["image_size"]), int(about["views"])
        _check_ends(session, size, len(classes))
    except (KeyError, ValueError, TypeError) as error:
        raise CheckpointError(f"{path}: an ONNX model, but not one of alexnet export.") from error
    return OnnxClassifier(session, classes, size, views, session.get_providers()[0], about)


def _check_ends(session: onnxruntime.InferenceSession, size: int, num_classes: int) -> None:
    """See that a model takes our pictures and gives a number for each class.

    Raises:
        ValueError: it does not.
    """
    (images,), (probs, *_) = session.get_inputs(), session.get_outputs()
    ends = (images.name, images.type, images.shape[1:], probs.type, probs.shape[1:])
    ours = ("images", "tensor(uint8)", [size, size, 3], "tensor(float)", [num_classes])
    if ends != ours:
        raise ValueError(f"it maps {ends[:3]} to {ends[3:]}")


def _open_session(path: Path, device: str) -> onnxruntime.InferenceSession:
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file. Make one: alexnet export CKPT -o {path}")
    _check_seal(path)
    providers = [CUDA, CPU] if device == "cuda" or (device == "auto" and _has_cuda()) else [CPU]
    if CUDA in providers:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does not find
            onnxruntime.preload_dlls()
    onnxruntime.set_default_logger_severity(4)  # our own message says what failed
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    # Copying 245 MB of weights into another layout costs 0.3 s; it pays after 300 pictures.
    options.add_session_config_entry("session.disable_prepacking", "1")
    try:
        session = onnxruntime.InferenceSession(path, options, providers=providers)
    except Exception as error:  # onnxruntime's faults share no base but Exception
        detail = " ".join(str(error).split())[:120]
        raise CheckpointError(f"{path}: not an ONNX model, or a damaged one ({detail}).") from error
    if device == "cuda" and session.get_providers()[0] != CUDA:
        raise DeviceError(
            "onnxruntime cannot use CUDA here: its CUDA or cuDNN libraries do not load.\n"
            "Run on the CPU: --device cpu. onnxruntime must not be installed beside -gpu."
        )
    return session


def _has_cuda() -> bool:
    """Tell whether an NVIDIA driver is here, in microseconds."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True
