"""A state dict of torchvision's `alexnet`, read without running any code of the file."""

import math
import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from alexnet_cli.errors import has_package
from alexnet_cli.pretrained.torch_file import as_float32, read_torch_file
from alexnet_cli.pretrained.weights import (
    MAX_FILE_BYTES,
    Imported,
    UnknownNetworkError,
    adapt,
)
from alexnet_cli.recipes.imported import OWT

# torchvision/transforms/_presets.py, of pixels from 0 to 1.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LAYERS = {
    "features.0": "conv1",
    "features.3": "conv2",
    "features.6": "conv3",
    "features.8": "conv4",
    "features.10": "conv5",
    "classifier.1": "fc6",
    "classifier.4": "fc7",
    "classifier.6": "fc8",
}
WRAPPERS = ("state_dict", "model_state_dict", "model")  # keys under which training scripts keep it
FIRST = "features.0.weight"


def read_torchvision(path: Path) -> Imported:
    """Return the network of a .pth file.

    Raises:
        UnknownNetworkError: if it is not a state dict of this network.
    """
    state = _load(path)
    stored = {}
    for theirs, ours in LAYERS.items():
        for kind in ("weight", "bias"):
            tensor = state.get(f"{theirs}.{kind}")
            if tensor is None:
                raise UnknownNetworkError(f"there is no {theirs}.{kind}")
            stored[f"{ours}.{kind}"] = tensor
    if more := sorted(set(state) - {f"{name}.{k}" for name in LAYERS for k in ("weight", "bias")}):
        raise UnknownNetworkError(f"it also has {more[0]}")
    recipe, weights = adapt(OWT, stored, 255.0 * np.array(STD))
    return Imported(recipe, weights, (255.0 * np.array(MEAN)).astype(np.float32))


def _load(path: Path) -> dict[str, np.ndarray]:
    """Return the tensors of a state dict as float32, by name without prefix."""
    if zipfile.is_zipfile(path) and _unpacked_bytes(path) > MAX_FILE_BYTES:
        raise UnknownNetworkError("it unpacks to more than a gigabyte")
    read = _read_with_torch if has_package("torch") else read_torch_file
    try:
        state = _state_dict(read(path))
        if 4 * sum(math.prod(tensor.shape) for tensor in state.values()) > MAX_FILE_BYTES:
            raise UnknownNetworkError("its tensors take more than a gigabyte")
        return {name: _as_float32(tensor) for name, tensor in state.items()}
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError) as error:
        reason = "it is cut short, or holds code besides tensors"
        raise UnknownNetworkError(reason) from error


def _state_dict(content: Any) -> dict[str, Any]:
    """Return the tensors by name, without what training scripts put around them."""
    if not isinstance(content, dict):
        raise UnknownNetworkError("it is not a state dict")
    for _ in WRAPPERS:  # one in another
        inner = (content.get(key) for key in WRAPPERS)
        content = next((item for item in inner if isinstance(item, dict)), content)
    found = {
        name: item
        for name, item in content.items()
        if isinstance(name, str) and hasattr(item, "shape")
    }
    first = next((name for name in found if name.endswith(FIRST)), FIRST)
    prefix = first.removesuffix(FIRST)  # such as "module." of DataParallel
    return {name.removeprefix(prefix): tensor for name, tensor in found.items()}


def _as_float32(tensor: Any) -> np.ndarray:
    if isinstance(tensor, np.ndarray):
        return as_float32(tensor)
    return tensor.detach().float().numpy()


def _unpacked_bytes(path: Path) -> int:
    try:
        with zipfile.ZipFile(path) as archive:
            return sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise UnknownNetworkError("it is a damaged archive") from error


def _read_with_torch(path: Path) -> Any:
    import torch

    with warnings.catch_warnings(action="ignore"):
        return torch.load(path, map_location="cpu", weights_only=True)
