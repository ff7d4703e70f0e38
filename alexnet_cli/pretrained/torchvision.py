"""A state dict of torchvision's `alexnet`, read without running any code of the file."""

import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from alexnet_cli.errors import has_package, require_package
from alexnet_cli.pretrained.torch_file import read_torch_file
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
PARALLEL = "module."  # DataParallel's prefix


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
    if not zipfile.is_zipfile(path):
        require_package("torch")  # for the format before torch 1.6
    elif _unpacked_bytes(path) > MAX_FILE_BYTES:
        raise UnknownNetworkError("it unpacks to more than a gigabyte")
    try:
        content = _read_with_torch(path) if has_package("torch") else read_torch_file(path)
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError) as error:
        reason = "it is cut short, or holds code besides tensors"
        raise UnknownNetworkError(reason) from error
    for key in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict):
        raise UnknownNetworkError("it is not a state dict")
    return {
        str(name).removeprefix(PARALLEL): tensor.astype(np.float32, copy=False)
        for name, tensor in content.items()
        if isinstance(tensor, np.ndarray)
    }


def _unpacked_bytes(path: Path) -> int:
    try:
        with zipfile.ZipFile(path) as archive:
            return sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise UnknownNetworkError("it is a damaged archive") from error


def _read_with_torch(path: Path) -> Any:
    """Return what `torch.load` reads, with numpy arrays for the tensors of its dicts."""
    import torch

    def to_numpy(item: Any) -> Any:
        if isinstance(item, torch.Tensor):
            return item.detach().float().numpy()
        return {k: to_numpy(v) for k, v in item.items()} if isinstance(item, dict) else item

    with warnings.catch_warnings(action="ignore"):
        return to_numpy(torch.load(path, map_location="cpu", weights_only=True))
