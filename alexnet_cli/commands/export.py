"""`alexnet export`: a checkpoint -> one ONNX file that takes pictures and gives probabilities."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch

from alexnet_cli.atomic import PARTIAL_SUFFIX, write_bytes
from alexnet_cli.engine.classifier import Classifier, load_classifier
from alexnet_cli.errors import CheckpointError, InputError
from alexnet_cli.model.checkpoint import Checkpoint
from alexnet_cli.model.onnx.graph import build_graph
from alexnet_cli.model.onnx.session import METADATA_KEY, OnnxClassifier, load_onnx, seal
from alexnet_cli.progress import SILENT, Progress

CHECKED_BATCHES = (1, 3, 32)
MAX_DIFFERENCE = 1e-4


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What was written.

    Attributes:
        max_abs_difference: between torch's and onnxruntime's probabilities, all batches.
        batches: the batch sizes checked.
    """

    onnx: str
    checkpoint: str
    views: int
    classes: int
    bytes: int
    opset: int
    batches: list[int]
    max_abs_difference: float


def export(
    checkpoint_path: Path,
    onnx_path: Path,
    *,
    num_views: int = 1,
    force: bool = False,
    progress: Progress = SILENT,
) -> ExportResult:
    """Write the ONNX model, after comparing it with torch on random pictures.

    Raises:
        InputError: a file of that name exists and `force` is not set.
        CheckpointError: the checkpoint cannot be used, or the model's probabilities differ.
    """
    if onnx_path.exists() and not force:
        raise InputError(f"{onnx_path} exists; it is left as it is. Add --force to replace it.")
    if not onnx_path.parent.is_dir():
        raise InputError(f"{onnx_path.parent}: no such folder.")
    classifier, checkpoint = load_classifier(checkpoint_path, (torch.device("cpu"),))
    model = build_graph(
        checkpoint.recipe,
        checkpoint.weights,
        checkpoint.pixels["mean_image"],
        views=num_views,
        metadata={METADATA_KEY: json.dumps(_about(checkpoint, num_views))},
    )
    onnx.checker.check_model(model, full_check=True)
    content = seal(model.SerializeToString())
    difference = _write_checked(onnx_path, content, classifier, num_views, progress)
    return ExportResult(
        onnx=str(onnx_path),
        checkpoint=str(checkpoint_path),
        views=num_views,
        classes=len(checkpoint.classes),
        bytes=len(content),
        opset=model.opset_import[0].version,
        batches=list(CHECKED_BATCHES),
        max_abs_difference=difference,
    )


def _about(checkpoint: Checkpoint, num_views: int) -> dict:
    return {
        "classes": checkpoint.classes,
        "image_size": len(checkpoint.pixels["mean_image"]),
        "views": num_views,
        "origin": {**checkpoint.origin(), "weights": checkpoint.weights_hash()},
        "recipe": json.loads(checkpoint.recipe.to_json()),
    }


def _write_checked(
    path: Path, content: bytes, classifier: Classifier, num_views: int, progress: Progress
) -> float:
    """Give the file its name only after its probabilities were found right."""
    trial = path.with_name(f"{path.name}.check{PARTIAL_SUFFIX}")
    try:
        write_bytes(trial, content)
        difference = _largest_difference(classifier, load_onnx(trial, "cpu"), num_views, progress)
        if not difference <= MAX_DIFFERENCE:
            raise CheckpointError(
                f"{path}: its probabilities differ from torch's by {difference:.2g}, more than "
                f"{MAX_DIFFERENCE:g}. The file was not written."
            )
        trial.replace(path)
    finally:
        trial.unlink(missing_ok=True)
    return difference


def _largest_difference(
    classifier: Classifier, exported: OnnxClassifier, num_views: int, progress: Progress
) -> float:
    rng, size, largest = np.random.default_rng(0), exported.image_size, 0.0
    with progress.track("check against torch", sum(CHECKED_BATCHES)) as bar:
        for num_images in CHECKED_BATCHES:
            images = _random_pictures(rng, num_images, size)
            expected = classifier.probabilities(images, classifier.views(num_views)).mean(axis=0)
            found = exported.probabilities(images)
            largest = max(largest, float(np.abs(found - expected).max()))
            bar.advance(num_images)
    return largest


def _random_pictures(rng: np.random.Generator, num_images: int, size: int) -> np.ndarray:
    """Draw blocky uint8 pictures; of flat noise a network would say the same each time."""
    cells = rng.integers(0, 256, (num_images, 8, 8, 3), dtype=np.uint8)
    return cells.repeat(size // 8 + 1, axis=1).repeat(size // 8 + 1, axis=2)[:, :size, :size]
