"""An exported model on onnxruntime, without torch: uint8 images in, class probabilities out."""

import contextlib
import io
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from alexnet_cli.distributed.runtime_config import kind_and_index
from alexnet_cli.errors import (
    CheckpointError,
    DeviceError,
    MachineError,
    UsageError,
    brief,
    hint,
    on_one_line,
)
from alexnet_cli.io.cores import limited_cores
from alexnet_cli.onnx.cuda_faults import find_cuda_fault, find_library_fault, has_driver
from alexnet_cli.onnx.model_file import ModelInfo, read_model_info

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
_STDOUT = threading.Lock()
MACHINE_FAULT = re.compile(
    r"(?i)failed to allocate|bad.?alloc|out of memory|(cuda|cublas|cudnn) failure"
)


@dataclass(frozen=True, slots=True)
class OnnxClassifier:
    """An open model and its metadata.

    Attributes:
        path: for messages.
        provider: the execution provider that runs the model.
    """

    path: Path
    session: onnxruntime.InferenceSession
    info: ModelInfo
    provider: str

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Map uint8 RGB (N, H, W, 3) to float32 (N, K).

        Raises:
            CheckpointError: if the model fails, or its output is not probabilities.
            MachineError: if memory is full, or the GPU failed.
        """
        try:
            probs = self.session.run(None, {"images": images})[0]
        except Exception as error:  # onnxruntime's errors share no base but Exception
            detail = _detail(error)
            if MACHINE_FAULT.search(str(error)):
                raise MachineError(
                    f"out of memory, or the GPU failed, with batches of {len(images)} ({detail}).",
                    hint=hint("free_memory"),
                ) from error
            raise CheckpointError(f"{self.path}: the model failed ({detail}).") from error
        if probs.shape != (len(images), len(self.info.classes)) or not np.isfinite(probs).all():
            raise CheckpointError(f"{self.path}: its output is not probabilities.")
        return probs


def other_views_error(path: Path, asked: int, exported: int) -> UsageError:
    """Return the error of a model that averages another number of views than was asked for."""
    return UsageError(
        f"{asked} views: {path} was exported with {exported}.",
        hint=hint("exported_views", views=exported),
    )


def load_onnx(path: Path, device: str = "auto") -> OnnxClassifier:
    """Open a model that `alexnet export` wrote.

    Raises:
        CheckpointError: if the file is damaged or is not such a model.
        DeviceError: if CUDA was asked for and cannot run here.
    """
    info = read_model_info(path)
    session = open_session(path, device)
    return OnnxClassifier(path, session, info, session.get_providers()[0])


def open_session(
    path: Path, device: str, content: bytes | None = None
) -> onnxruntime.InferenceSession:
    """Open a model file that is known to be harmless.

    Args:
        content: what to open instead of the file's own content.

    Raises:
        CheckpointError: if onnxruntime cannot open it.
        DeviceError: if CUDA was asked for and cannot run here.
    """
    kind, index = kind_and_index(device)
    if kind == "mps":
        raise DeviceError(f"{path}: ONNX models run on cuda or cpu.", hint=hint("on_one_cpu"))
    if kind == "cuda" and (fault := find_cuda_fault()):
        raise fault
    providers: list[Any] = [CPU]
    if kind != "cpu" and CUDA in onnxruntime.get_available_providers() and has_driver():
        # Without use_tf32, the CUDA provider computes in TensorFloat-32 where the GPU can.
        providers = [(CUDA, {"use_tf32": "0", "device_id": str(index or 0)}), CPU]
        with _silent_stdout():  # it prints which libraries are missing
            onnxruntime.preload_dlls()
    onnxruntime.set_default_logger_severity(4)  # our own message says what failed
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    # Copying 245 MB of weights into another layout costs 0.3 s; it pays after 300 images.
    options.add_session_config_entry("session.disable_prepacking", "1")
    # A thread that waits sleeps after 0.3 ms, so that predictions keep their share of a machine
    # that other programs use; sleeping at once costs up to a fifth of the speed alone.
    options.add_session_config_entry("session.intra_op.spin_duration_us", "300")
    if count := limited_cores(knows_affinity=False):
        options.intra_op_num_threads = count
    try:
        with _silent_stdout(is_needed=len(providers) > 1):  # it prints errors, and tries again
            session = onnxruntime.InferenceSession(content or path, options, providers=providers)
    except Exception as error:  # onnxruntime's errors share no base but Exception
        raise CheckpointError(
            f"{path}: not an ONNX model, or a damaged one ({_detail(error)})."
        ) from error
    if kind == "cuda" and session.get_providers()[0] != CUDA:
        raise find_library_fault() or DeviceError(
            f"onnxruntime cannot use {device} here.", hint=hint("on_one_cpu")
        )
    return session


@contextlib.contextmanager
def _silent_stdout(is_needed: bool = True) -> Iterator[None]:
    """Drop what is printed; one thread at a time, so that the last gives stdout back."""
    if not is_needed:
        yield
        return
    with _STDOUT, contextlib.redirect_stdout(io.StringIO()):
        yield


def open_layer_session(path: Path, layer: str, device: str) -> onnxruntime.InferenceSession:
    """Open a checked model so that it returns one layer's output, (V N, ...), instead."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    del model.graph.output[:]
    model.graph.output.append(onnx.ValueInfoProto(name=layer))
    return open_session(path, device, model.SerializeToString())


def read_constants(path: Path, names: list[str]) -> dict[str, np.ndarray]:
    """Return constants of a checked model by name."""
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    wanted = [tensor for tensor in graph.initializer if tensor.name in names]
    return {tensor.name: onnx.numpy_helper.to_array(tensor).copy() for tensor in wanted}


def _detail(error: Exception) -> str:
    return on_one_line(brief(error))
