"""A safetensors file that may be a checkpoint: its header, then its tensors, none of it trusted."""

import json
import re
from pathlib import Path

import numpy as np
import safetensors

from alexnet_cli.errors import CheckpointError

PIXELS, VELOCITY, AVERAGE = "pixels.", "velocity.", "average."
HEADER_BYTES = 8 << 20  # at most: 20,000 classes take one or two
KINDS = {"F32": "float32", "F64": "float64", "F16": "float16", "BF16": "bfloat16"}
READ = ("F32", "F64")  # weights; eigenvalues and eigenvectors
UNREADABLE = (safetensors.SafetensorError, OSError)
# torch's DistributedDataParallel puts `module.` before the name of every parameter.
PARALLEL = "module."
PREFIXES = re.compile(r"(?:module\.)?((?:pixels|velocity|average)\.)?(?:module\.)?")


def read_header(path: Path) -> dict:
    """Return what a file says about itself; one that says very much is none of ours.

    Raises:
        CheckpointError: it is no checkpoint.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file. Checkpoints are runs/NAME/best.safetensors.")
    try:
        with path.open("rb") as file:
            if int.from_bytes(file.read(8), "little") > HEADER_BYTES:
                raise ValueError("its header is too long")
        with safetensors.safe_open(path, framework="numpy") as file:
            return json.loads(file.metadata()["alexnet"])
    except (*UNREADABLE, KeyError, TypeError, ValueError, RecursionError) as error:
        raise _not_ours(path) from error


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """Return a file's tensors by name.

    Raises:
        CheckpointError: it is cut short, or a tensor is neither float32 nor float64.
    """
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            names = list(file.keys())
            for name in names:
                if (kind := file.get_slice(name).get_dtype()) not in READ:
                    raise _rounded(path, name, KINDS.get(kind, kind))
            return {name: file.get_tensor(name) for name in names}
    except UNREADABLE as error:
        raise _not_ours(path) from error


def without_parallel(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the tensors by our names, where all weights carry the prefix of data parallelism."""
    weights = [name for name in tensors if not name.startswith((PIXELS, VELOCITY, AVERAGE))]
    if not all(name.startswith(PARALLEL) for name in weights):
        return tensors
    bare = {PREFIXES.sub(r"\1", name, count=1): tensor for name, tensor in tensors.items()}
    return bare if len(bare) == len(tensors) else tensors


def _not_ours(path: Path) -> CheckpointError:
    return CheckpointError(
        f"{path}: not an alexnet checkpoint, or a damaged one.\n"
        "Checkpoints are the .safetensors files that alexnet train writes."
    )


def _rounded(path: Path, name: str, kind: str) -> CheckpointError:
    return CheckpointError(
        f"{path}: {name} is {kind}, not float32: it was converted after training.\n"
        "Use the checkpoint that alexnet train wrote."
    )
