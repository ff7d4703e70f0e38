"""An exported model on onnxruntime, without torch: uint8 images in, class probabilities out."""

import contextlib
import io
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

from alexnet_cli.data.views import center_view, views_of
from alexnet_cli.distributed.runtime_config import kind_and_index
from alexnet_cli.errors import (
    CheckpointError,
    DeviceError,
    MachineError,
    brief,
    hint,
    on_one_line,
)
from alexnet_cli.io.cores import limited_cores
from alexnet_cli.onnx.cuda_faults import find_cuda_fault, find_library_fault, has_driver
from alexnet_cli.onnx.model_file import KEPT_BYTES, ModelInfo, OnnxFile, open_onnx_file

if TYPE_CHECKING:
    import onnx

BY_VIEW = "by_view"  # node of the graphs of several views: probabilities (V, N, K)
CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
_STDOUT = threading.Lock()
MACHINE_FAULT = re.compile(
    r"(?i)failed to allocate|bad.?alloc|out of memory|(cuda|cublas|cudnn) failure"
)


@dataclass(frozen=True, slots=True)
class OnnxClassifier:
    """An open model.

    Attributes:
        views: how many views it averages.
        provider: the execution provider that runs the model.
    """

    file: OnnxFile
    session: onnxruntime.InferenceSession
    views: int
    provider: str

    @property
    def info(self) -> ModelInfo:
        """The metadata of the file; its number of views is the one it was exported with."""
        return self.file.info

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Map uint8 RGB (N, H, W, 3) to float32 (N, K).

        Raises:
            CheckpointError: if the model fails, or its output is not probabilities.
            MachineError: if memory is full, or the GPU failed.
        """
        return self._run(images)[0]

    def with_center(self, images: np.ndarray) -> list[np.ndarray]:
        """Return `probabilities`, and if they average several views, those of the center view."""
        if self.views == 1:
            return [self.probabilities(images)]
        probs, by_view = self._run(images)
        sizes = self.info.image_size, self.info.recipe.crop_size
        return [probs, by_view[views_of(self.views, *sizes).index(center_view(*sizes))]]

    def _run(self, images: np.ndarray) -> list[np.ndarray]:
        found = run_session(self.session, None, images, self.file.path)
        probs = found[0]
        if probs.shape != (len(images), len(self.info.classes)) or not np.isfinite(probs).all():
            raise CheckpointError(f"{self.file.path}: its output is not probabilities.")
        return found


def load_onnx(path: Path, device: str = "auto", views: int | None = None) -> OnnxClassifier:
    """Open a model that `alexnet export` wrote.

    Args:
        views: 1, 9 or 10 crops to average over; by default those the model was exported with.

    Raises:
        CheckpointError: if the file is damaged or is not such a model.
        DeviceError: if CUDA was asked for and cannot run here.
    """
    file = open_onnx_file(path)
    return open_classifier(file, device, views or file.info.views)


def open_classifier(file: OnnxFile, device: str, views: int) -> OnnxClassifier:
    """Open a checked model for a number of views; errors are those of `open_session`."""
    graph = graph_of(file, views)
    if views > 1:
        graph.graph.output.add(name=BY_VIEW)
    session = open_session(file, graph, device)
    return OnnxClassifier(file, session, views, session.get_providers()[0])


def open_layer_session(file: OnnxFile, layer: str, device: str) -> onnxruntime.InferenceSession:
    """Open a checked model so that it returns one layer's output for the center view instead."""
    model = graph_of(file, 1)
    graph = model.graph
    names = [node.output[0] for node in graph.node]
    output = next((name for name in (f"{layer}/both", layer) if name in names), layer)
    del graph.node[names.index(output) + 1 :], graph.output[:]
    graph.output.add(name=output)
    read = {name for node in graph.node for name in node.input}
    constants = [constant for constant in graph.initializer if constant.name in read]
    del graph.initializer[:]
    graph.initializer.extend(constants)
    return open_session(file, model, device)


def graph_of(file: OnnxFile, views: int) -> "onnx.ModelProto":
    """Return the graph of a model file for a number of views, without values of constants."""
    # Imported here: the onnx package loads while the file's checksum is computed.
    from alexnet_cli.onnx.graph import expected_graph

    return expected_graph(file.info.recipe, len(file.info.classes), file.info.image_size, views)


def open_session(
    file: OnnxFile, model: "onnx.ModelProto", device: str
) -> onnxruntime.InferenceSession:
    """Open a graph with the constants of a file.

    onnxruntime copies the large ones straight out of the file; parsed as parts of the graph, they
    would be in memory twice, for half a second.

    Raises:
        CheckpointError: if onnxruntime cannot open it, or the file was written over.
        DeviceError: if CUDA was asked for and cannot run here.
    """
    file.check_unchanged()
    large = {}
    for constant in model.graph.initializer:
        if constant.name not in file.constants:
            continue
        values = file.constants[constant.name]
        if values.nbytes <= KEPT_BYTES:
            constant.raw_data = values.tobytes()
            continue
        large[constant.name] = values
        constant.data_location = constant.EXTERNAL
        where = {"location": "memory", "offset": "0", "length": str(values.nbytes)}
        for key, value in where.items():
            constant.external_data.add(key=key, value=value)
    return start_session(model.SerializeToString(), device, file.path, large)


def start_session(
    content: bytes, device: str, path: Path, constants: dict[str, np.ndarray]
) -> onnxruntime.InferenceSession:
    """Start onnxruntime with a serialized model that is known to be harmless.

    Args:
        path: for messages.
        constants: values of those that the model says are outside it.

    Raises:
        CheckpointError: if onnxruntime cannot open it.
        DeviceError: if CUDA was asked for and cannot run here.
    """
    kind, index = kind_and_index(device)
    if kind == "mps":
        raise DeviceError(
            f"{path}: onnxruntime runs models on cuda or cpu.", hint=hint("on_one_cpu")
        )
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
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in constants.values()]
    options.add_external_initializers(list(constants), values)
    try:
        with _silent_stdout(is_needed=len(providers) > 1):  # it prints errors, and tries again
            session = onnxruntime.InferenceSession(content, options, providers=providers)
    except Exception as error:  # onnxruntime's errors share no base but Exception
        raise CheckpointError(
            f"{path}: not an ONNX model, or a damaged one ({_detail(error)})."
        ) from error
    if kind == "cuda" and session.get_providers()[0] != CUDA:
        raise find_library_fault() or DeviceError(
            f"onnxruntime cannot use {device} here.", hint=hint("on_one_cpu")
        )
    return session


def run_session(
    session: onnxruntime.InferenceSession, outputs: list[str] | None, images: np.ndarray, path: Path
) -> list[np.ndarray]:
    """Return outputs of an opened model, all if none are named, for uint8 RGB (N, H, W, 3).

    Args:
        path: for messages.

    Raises:
        CheckpointError: if the model fails.
        MachineError: if memory is full, or the GPU failed.
    """
    try:
        return session.run(outputs, {"images": images})
    except Exception as error:  # onnxruntime's errors share no base but Exception
        detail = _detail(error)
        if MACHINE_FAULT.search(str(error)):
            raise MachineError(
                f"out of memory, or the GPU failed, with batches of {len(images)} ({detail}).",
                hint=hint("free_memory"),
            ) from error
        raise CheckpointError(f"{path}: the model failed ({detail}).") from error


@contextlib.contextmanager
def _silent_stdout(is_needed: bool = True) -> Iterator[None]:
    """Drop what is printed; one thread at a time, so that the last gives stdout back."""
    if not is_needed:
        yield
        return
    with _STDOUT, contextlib.redirect_stdout(io.StringIO()):
        yield


def _detail(error: Exception) -> str:
    return on_one_line(brief(error))
