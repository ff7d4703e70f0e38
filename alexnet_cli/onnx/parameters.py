"""Between the constants of an exported model and a network's parameters, in a checkpoint."""

from pathlib import Path

import numpy as np

from alexnet_cli.errors import CheckpointError
from alexnet_cli.model.architecture import Layer, layers_of
from alexnet_cli.model.checkpoint import Checkpoint, TrainState
from alexnet_cli.onnx.graph import constants_of
from alexnet_cli.onnx.model_file import ModelInfo, OnnxFile


def layer_parameters(file: OnnxFile, layer: Layer) -> dict[str, np.ndarray]:
    """Return the parameters of one layer by name, in torch's shapes.

    Raises:
        CheckpointError: if the file was written over since it was opened.
    """
    file.check_unchanged()
    found = {}
    for name, shape in layer.parameters.items():
        array = file.constants[f"{layer.name}.{name}"]
        if layer.kind == "local-conv":  # (P, inputs, filters) and (P, 1, filters) in the graph
            array = array.transpose(2, 1, 0).reshape(shape)
        # In the graph weights are scaled by what dropout kept before them.
        kept = np.float32(_kept_before(file, layer)) if name == "weight" else np.float32(1.0)
        found[name] = array / kept
    return found


def _kept_before(file: OnnxFile, layer: Layer) -> float:
    """Return the share that dropout keeps of a layer's inputs."""
    kept = 1.0
    for other in layers_of(file.info.recipe, len(file.info.classes)):
        if other.name == layer.name:
            break
        kept = 1.0 - other.dropout if other.kind == "dropout" else kept
        kept = 1.0 if other.parameters else kept
    return kept


def checkpoint_of(file: OnnxFile) -> Checkpoint:
    """Return an exported network as a checkpoint.

    The file has the center crop of the mean image and no color components, because no more is
    needed to classify. Around that crop the mean image continues its border, and color noise is
    none; training takes both from its dataset.

    Raises:
        CheckpointError: if weights are not finite.
    """
    info = file.info
    weights = {
        f"{layer.name}.{name}": array
        for layer in layers_of(info.recipe, len(info.classes))
        for name, array in layer_parameters(file, layer).items()
    }
    center = file.constants["mean"][0].transpose(1, 2, 0)
    before = (info.image_size - len(center)) // 2
    after = info.image_size - len(center) - before
    mean_image = np.pad(center, [(before, after), (before, after), (0, 0)], mode="edge")
    origin = info.origin
    prefix = "init_from_"
    checkpoint = Checkpoint(
        recipe=info.recipe,
        weights=weights,
        pixels={
            "mean_image": mean_image,
            "eigenvalues": np.zeros(3),
            "eigenvectors": np.eye(3),
        },
        classes=info.classes,
        fingerprint=origin.get("dataset", "unknown"),
        train_state=TrainState(
            epoch=_number(origin.get("epoch", "")), total_steps=_number(origin.get("step", ""))
        ),
        init_from={
            name.removeprefix(prefix): text
            for name, text in origin.items()
            if name.startswith(prefix)
        },
        rules=info.rules,
        tool=origin.get("tool", "unknown"),
        exported_hash=origin.get("weights", ""),
    )
    if name := checkpoint.not_finite():
        raise CheckpointError(f"{file.path}: {name} has values that are not finite.")
    return checkpoint


def info_of(checkpoint: Checkpoint, views: int) -> ModelInfo:
    """Return what an exported model says of itself."""
    return ModelInfo(
        recipe=checkpoint.recipe,
        classes=checkpoint.classes,
        image_size=len(checkpoint.pixels["mean_image"]),
        views=views,
        origin={**checkpoint.origin(), "weights": checkpoint.weights_hash()},
        rules=checkpoint.rules,
    )


def as_onnx_file(path: Path, checkpoint: Checkpoint) -> OnnxFile:
    """Return a checkpoint as what exporting it with ten views would write."""
    mean_image = checkpoint.pixels["mean_image"]
    constants = constants_of(checkpoint.recipe, checkpoint.weights, mean_image)
    return OnnxFile(path, info_of(checkpoint, 10), constants)


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else 0
