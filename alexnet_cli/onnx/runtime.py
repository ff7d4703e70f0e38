"""An exported model on onnxruntime, without torch: uint8 images in, class probabilities out."""

import contextlib
import ctypes
import io
import json
import mmap
import re
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime

from alexnet_cli.errors import CheckpointError, DeviceError, MachineError
from alexnet_cli.onnx.skeleton import skeleton_of

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
METADATA_KEY, SEAL_KEY = "alexnet", "alexnet.crc32"
PATCHES = 32
MACHINE_FAULT = re.compile(
    r"(?i)failed to allocate|bad.?alloc|out of memory|(cuda|cublas|cudnn) failure"
)


@dataclass(frozen=True, slots=True)
class OnnxClassifier:
    """A session, and what the file says about itself.

    Attributes:
        path: for messages.
        classes: (wnid, name) in label order.
        image_size: side of the images it takes.
        views: how many views it averages inside.
        provider: what really runs it.
        about: everything the file's metadata says: origin, recipe.
    """

    path: Path
    session: onnxruntime.InferenceSession
    classes: list[tuple[str, str]]
    image_size: int
    views: int
    provider: str
    about: dict

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Map uint8 RGB (N, H, W, 3) to float32 (N, K).

        Raises:
            CheckpointError: the model fails, or gives something else.
            MachineError: the memory is full, or the GPU failed.
        """
        try:
            probs = self.session.run(None, {"images": images})[0]
        except Exception as error:  # onnxruntime's faults share no base but Exception
            detail = " ".join(str(error).split())[:120]
            if MACHINE_FAULT.search(str(error)):
                raise MachineError(
                    f"out of memory, or the GPU failed, with batches of {len(images)} ({detail}).\n"
                    "Close other programs that use this memory. On a GPU also try: --device cpu"
                ) from error
            raise CheckpointError(f"{self.path}: the model failed ({detail}).") from error
        if probs.shape != (len(images), len(self.classes)) or not np.isfinite(probs).all():
            raise CheckpointError(f"{self.path}: what it gives for an image is no probability.")
        return probs


def seal(content: bytes) -> bytes:
    """Append a checksum to a serialized model, as one more entry of its metadata."""
    return content + _entry(zlib.crc32(content))


def _entry(checksum: int) -> bytes:
    """Return the entry as protobuf: field 14 of ModelProto, a key (1) and a value (2)."""
    key, value = SEAL_KEY.encode(), f"{checksum:08x}".encode()
    pair = b"\x0a%c%b\x12%c%b" % (len(key), key, len(value), value)
    return b"\x72%c%b" % (len(pair), pair)


def _check_seal(path: Path, content: memoryview) -> None:
    """Refuse a model that is not as it was sealed; older ones, and those of others, have no seal.

    Raises:
        CheckpointError: it changed since.
    """
    head, size = _entry(0)[:-8], len(_entry(0))
    if content[-size:-8] != head:
        return
    if content[-8:] != f"{zlib.crc32(content[:-size]):08x}".encode():
        raise CheckpointError(f"{path}: damaged, its checksum does not match.")


def _read_skeleton(path: Path) -> bytes:
    """Return what a model that is undamaged holds besides weights.

    Raises:
        CheckpointError: it is damaged, or none.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file. Make one: alexnet export CKPT -o {path}")
    if not path.stat().st_size:
        raise CheckpointError(f"{path}: not an ONNX model; it is empty.")
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        memoryview(mapped) as content,
    ):
        _check_seal(path, content)
        try:
            return skeleton_of(content)
        except ValueError as error:
            raise CheckpointError(
                f"{path}: not an ONNX model, or a damaged one ({error})."
            ) from error


def load_onnx(path: Path, device: str = "auto", num_crops: int = PATCHES) -> OnnxClassifier:
    """Open a model that `alexnet export` wrote.

    Args:
        num_crops: images times views that it will be given at once, at most; what memory and
            time it may take is for so many.

    Raises:
        CheckpointError: it is none, or is damaged.
        DeviceError: CUDA was asked for and cannot run here.
    """
    with ThreadPoolExecutor(1) as pool:
        skeleton = pool.submit(_read_skeleton, path)
        from alexnet_cli.onnx import allowance  # onnx, a tenth of a second: meanwhile

    content = skeleton.result()
    try:
        model = allowance.read_skeleton(content)
        about = _read_about({entry.key: entry.value for entry in model.metadata_props})
        num_images = max(1, num_crops // about["views"])
        allowance.check_allowed(model, path.stat().st_size, num_images)
    except ValueError as error:
        raise _not_ours(path, error) from error
    session = _open_session(path, device)
    classes = [(wnid, name) for wnid, name in about["classes"]]
    try:
        _check_ends(session, about["image_size"], len(classes))
    except ValueError as error:
        raise _not_ours(path, error) from error
    size, views = about["image_size"], about["views"]
    provider = session.get_providers()[0]
    return OnnxClassifier(path, session, classes, size, views, provider, about)


def _not_ours(path: Path, error: ValueError) -> CheckpointError:
    return CheckpointError(f"{path}: an ONNX model, but not one of alexnet export ({error}).")


def _read_about(metadata: dict[str, str]) -> dict:
    """Return what a model says about itself.

    Raises:
        ValueError: it does not, or not as export does.
    """
    try:
        about = json.loads(metadata[METADATA_KEY])
        names = [text for wnid, name in about["classes"] for text in (wnid, name)]
        numbers = (about["image_size"], about["views"])
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise ValueError("its metadata does not say what it is") from error
    if {type(n) for n in numbers} != {int} or {type(text) for text in names} != {str}:
        raise ValueError("its metadata does not say what it is")
    if about["views"] not in (1, 9, 10):
        raise ValueError(f"it has {about['views']} views")
    return about


def _check_ends(session: onnxruntime.InferenceSession, size: int, num_classes: int) -> None:
    """See that a model takes our images and gives a number for each class.

    Raises:
        ValueError: it does not.
    """
    (images,), (probs, *_) = session.get_inputs(), session.get_outputs()
    ends = (images.name, images.type, images.shape[1:], probs.type, probs.shape[1:])
    ours = ("images", "tensor(uint8)", [size, size, 3], "tensor(float)", [num_classes])
    if ends != ours:
        raise ValueError(f"it maps {ends[:3]} to {ends[3:]}")


def _open_session(path: Path, device: str) -> onnxruntime.InferenceSession:
    providers = [CUDA, CPU] if device == "cuda" or (device == "auto" and _has_cuda()) else [CPU]
    if CUDA in providers:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does not find
            onnxruntime.preload_dlls()
    onnxruntime.set_default_logger_severity(4)  # our own message says what failed
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    # Copying 245 MB of weights into another layout costs 0.3 s; it pays after 300 images.
    options.add_session_config_entry("session.disable_prepacking", "1")
    # A thread that waits sleeps after 0.3 ms, so that predictions keep their share of a machine
    # that other programs use; sleeping at once costs up to a fifth of the speed alone.
    options.add_session_config_entry("session.intra_op.spin_duration_us", "300")
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints some faults, and tries again
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
