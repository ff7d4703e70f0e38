"""Opening a trained network by its path."""

from pathlib import Path

from alexnet_cli.data.views import NAMES_OF_VIEWS
from alexnet_cli.errors import CheckpointError, UsageError, hint
from alexnet_cli.inference.model import Model
from alexnet_cli.inference.network import open_for_onnxruntime, runs_on_onnxruntime
from alexnet_cli.model.checkpoint import checkpoint_file
from alexnet_cli.pretrained.names import find_model


def load_model(path: str | Path, *, views: int | None = None, device: str = "auto") -> Model:
    """Open a trained network.

    Args:
        path: an .onnx file of `alexnet export`; a checkpoint, or a run folder for its best one; or
            the name of published weights, "torchvision" or "bvlc", which are fetched on first use.
            All but ONNX files run on torch, or where it is not installed on onnxruntime.
        views: 1, 9 or 10 crops to average over. By default 10, or for an ONNX model as many as it
            was exported with.
        device: "auto", "cuda", "cuda:N", "mps" or "cpu".

    Raises:
        CheckpointError: if the file is damaged or is none of these.
        DeviceError: if the device is not here, or its libraries do not load.
        UsageError: if there is no such number of views.
    """
    if views not in (None, *NAMES_OF_VIEWS):
        raise UsageError(f"{views!r} views: an image has 1, 9 or 10.")
    path = checkpoint_file(find_model(Path(path)))
    if runs_on_onnxruntime(path):
        file = open_for_onnxruntime(path)
        from alexnet_cli.inference.onnx_model import OnnxModel

        return OnnxModel(file, views, device)
    # Imported here, because torch takes two seconds to load and ONNX models do not need it.
    from alexnet_cli.inference.torch_model import TorchModel

    return TorchModel(path, views or 10, device)


def newest_checkpoint(runs: Path) -> Path:
    """Return the best checkpoint of the run that was written last.

    Raises:
        CheckpointError: if there is no run.
    """
    found = sorted(runs.glob("*/best.safetensors"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise CheckpointError(f"no run in {runs}/ here.", hint=hint("name_model"))
    return found[-1]
