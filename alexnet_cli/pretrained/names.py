"""What a path that names a model means: an ONNX file, a checkpoint, or a published network."""

from pathlib import Path

from alexnet_cli.errors import CheckpointError, did_you_mean
from alexnet_cli.io.progress import SILENT, Progress

NAMES = ("torchvision", "bvlc")  # those of `importer.PUBLISHED`, which loads more


def is_onnx(path: Path) -> bool:
    """Return whether a model is an ONNX file, and no checkpoint, by its name."""
    return path.suffix.lower() == ".onnx"


def is_predictions(path: Path) -> bool:
    """Return whether a file has the predictions of a network in its place, by its name."""
    return path.suffix.lower() == ".npz"


def find_model(model: Path, progress: Progress = SILENT) -> Path:
    """Return the path of a model; a published network is imported into the cache on first use.

    A file or folder of that name comes first.

    Raises:
        AlexNetError: if the published file cannot be fetched, is another one, or does not fit.
    """
    if model.exists():
        return model
    if str(model) not in NAMES:
        if near := did_you_mean(str(model), NAMES):
            raise CheckpointError(f"{model}: no such file.", hint=near)
        return model
    from alexnet_cli.pretrained.importer import import_into_cache

    return import_into_cache(str(model), progress)
