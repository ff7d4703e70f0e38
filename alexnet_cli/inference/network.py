"""The network behind a path as a checkpoint: that of a file or run folder, or an exported model."""

from pathlib import Path

from alexnet_cli.errors import CheckpointError
from alexnet_cli.model.checkpoint import Checkpoint, load_checkpoint, read_recipe
from alexnet_cli.pretrained.names import is_onnx
from alexnet_cli.recipes.recipe import Recipe


def load_network(path: Path) -> Checkpoint:
    """Return the network of a checkpoint, a run folder or an exported model, for use.

    Raises:
        CheckpointError: if the file is damaged or is none of these.
    """
    if not is_onnx(path):
        return load_checkpoint(path)
    from alexnet_cli.onnx.model_file import open_onnx_file
    from alexnet_cli.onnx.parameters import checkpoint_of

    checkpoint = checkpoint_of(open_onnx_file(path))
    if name := checkpoint.not_finite():
        raise CheckpointError(f"{path}: {name} has values that are not finite.")
    return checkpoint


def recipe_of_network(path: Path) -> Recipe:
    """Return the recipe of what `load_network` reads; damaged tensors may not be noticed."""
    if not is_onnx(path):
        return read_recipe(path)
    from alexnet_cli.onnx.model_file import open_onnx_file

    return open_onnx_file(path).info.recipe
