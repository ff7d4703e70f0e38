"""An exported model on onnxruntime, without torch: uint8 pictures in, class probabilities out."""

import contextlib
import ctypes
import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime

from alexnet_cli.errors import CheckpointError, DeviceError

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
METADATA_KEY = "alexnet"


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
    except (KeyError, ValueError, TypeError) as error:
        raise CheckpointError(f"{path}: an ONNX model, but not one of alexnet export.") from error
    return OnnxClassifier(session, classes, size, views, session.get_providers()[0], about)


def _open_session(path: Path, device: str) -> onnxruntime.InferenceSession:
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file. Make one: alexnet export CKPT -o {path}")
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
