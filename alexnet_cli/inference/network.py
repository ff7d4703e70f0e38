"""The network behind a path, a checkpoint, run folder or exported model, as one or the other."""

from pathlib import Path
from typing import TYPE_CHECKING

from alexnet_cli.errors import has_package
from alexnet_cli.model.checkpoint import Checkpoint, load_checkpoint, read_recipe
from alexnet_cli.pretrained.names import is_onnx
from alexnet_cli.recipes.recipe import Recipe

if TYPE_CHECKING:
    from alexnet_cli.onnx.model_file import OnnxFile


def load_network(path: Path) -> Checkpoint:
    """Return the network of a checkpoint, a run folder or an exported model, for use.

    Raises:
        CheckpointError: if the file is damaged or is none of these.
    """
    if not is_onnx(path):
        return load_checkpoint(path)
    from alexnet_cli.onnx.model_file import open_onnx_file
    from alexnet_cli.onnx.parameters import checkpoint_of

    return checkpoint_of(open_onnx_file(path))


def recipe_of_network(path: Path) -> Recipe:
    """Return the recipe of what `load_network` reads; damaged tensors may not be noticed."""
    if not is_onnx(path):
        return read_recipe(path)
    from alexnet_cli.onnx.model_file import open_onnx_file

    return open_onnx_file(path).info.recipe


def runs_on_onnxruntime(path: Path) -> bool:
    """Return whether a network runs there: an exported model, or any where torch is missing."""
    return is_onnx(path) or not has_package("torch")


def open_for_onnxruntime(path: Path) -> "OnnxFile":
    """Return an exported model; or a checkpoint in its place, to run where torch is missing.

    Raises:
        CheckpointError: if the file is damaged or is none of these.
    """
    if not is_onnx(path):
        from alexnet_cli.onnx.parameters import as_onnx_file

        return as_onnx_file(path, load_network(path))
    from alexnet_cli.onnx.model_file import open_onnx_file

    return open_onnx_file(path, to_run=True)
