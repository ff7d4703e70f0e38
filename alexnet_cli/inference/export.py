"""`alexnet export`: a checkpoint -> one ONNX file that maps images to probabilities."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch

from alexnet_cli.distributed.device_plan import Runtime
from alexnet_cli.distributed.oom_errors import friendly_oom_errors
from alexnet_cli.errors import CheckpointError, InputError, hint
from alexnet_cli.inference.classifier import Classifier, load_classifier
from alexnet_cli.io.atomic import PARTIAL_SUFFIX, write_bytes
from alexnet_cli.io.progress import SILENT, Progress
from alexnet_cli.model.checkpoint import Checkpoint
from alexnet_cli.onnx.graph import build_graph
from alexnet_cli.onnx.runtime import METADATA_KEY, OnnxClassifier, load_onnx, seal

CHECKED_BATCHES = (1, 3, 32)
CHECKED_VIEWS = 1000  # 1,000 images of one view, or 100 of ten views
NOT_WRITTEN = "No file was written."
MAX_DIFFERENCE = 1e-4
MAX_TIE = 1e-6  # two classes whose probabilities differ less may be exchanged


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What was written.

    Attributes:
        checked: number of images on which torch and onnxruntime were compared.
        batches: batch sizes of the comparison.
        max_abs_difference: of the probabilities, over all classes and images.
        top1_differing: number of images whose most probable class differs, by a near tie.
    """

    onnx: str
    checkpoint: str
    views: int
    classes: int
    bytes: int
    opset: int
    checked: int
    batches: list[int]
    max_abs_difference: float
    top1_differing: int


@dataclass(slots=True)
class _Comparison:
    """The differences between torch's and onnxruntime's probabilities of the same images.

    Attributes:
        largest_gap: between torch's probabilities of its own and of onnxruntime's first class.
    """

    images: int = 0
    largest_difference: float = 0.0
    top1_differing: int = 0
    largest_gap: float = 0.0

    def add(self, expected: np.ndarray, found: np.ndarray) -> None:
        """Compare probabilities (N, K) of a batch."""
        gaps = expected.max(axis=1) - expected[np.arange(len(found)), found.argmax(axis=1)]
        self.images += len(found)
        difference = float(np.abs(found - expected).max())
        self.largest_difference = float(np.maximum(self.largest_difference, difference))
        self.top1_differing += int((found.argmax(axis=1) != expected.argmax(axis=1)).sum())
        self.largest_gap = max(self.largest_gap, float(gaps.max()))

    def fault(self) -> str:
        """Return why the two are not the same network; empty if they are."""
        if not self.largest_difference <= MAX_DIFFERENCE:
            return (
                f"its probabilities differ from torch's by {self.largest_difference:.2g}, more "
                f"than {MAX_DIFFERENCE:g}"
            )
        if not self.largest_gap <= MAX_TIE:
            return f"its first class is not torch's for {self.top1_differing} images"
        return ""


def export(
    checkpoint_path: Path,
    onnx_path: Path,
    *,
    num_views: int = 1,
    force: bool = False,
    progress: Progress = SILENT,
) -> ExportResult:
    """Write the ONNX model, after comparing it with torch on random images.

    Raises:
        InputError: if the file exists and `force` is not set.
        CheckpointError: if the checkpoint cannot be used, or the model's probabilities differ.
        MachineError: if memory is full; nothing is written.
    """
    if onnx_path.exists() and not force:
        raise InputError(
            f"{onnx_path} exists.", kept="It is left as it is.", hint=hint("replace_file")
        )
    if not onnx_path.parent.is_dir():
        raise InputError(f"{onnx_path.parent}: no such folder.")
    advice = "Close other programs, then run the same command again."
    with friendly_oom_errors(max(CHECKED_BATCHES), advice, NOT_WRITTEN):
        return _export(checkpoint_path, onnx_path, num_views, progress)


def _export(
    checkpoint_path: Path, onnx_path: Path, num_views: int, progress: Progress
) -> ExportResult:
    classifier, checkpoint = load_classifier(checkpoint_path, Runtime((torch.device("cpu"),)))
    model = build_graph(
        checkpoint.recipe,
        checkpoint.weights,
        checkpoint.pixels["mean_image"],
        views=num_views,
        metadata={METADATA_KEY: json.dumps(_about(checkpoint, num_views))},
    )
    onnx.checker.check_model(model, full_check=True)
    content = seal(model.SerializeToString())
    compared = _write_checked(onnx_path, content, classifier, num_views, progress)
    return ExportResult(
        onnx=str(onnx_path),
        checkpoint=str(checkpoint_path),
        views=num_views,
        classes=len(checkpoint.classes),
        bytes=len(content),
        opset=model.opset_import[0].version,
        checked=compared.images,
        batches=list(CHECKED_BATCHES),
        max_abs_difference=compared.largest_difference,
        top1_differing=compared.top1_differing,
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
) -> _Comparison:
    """Rename the file to its final name only after its probabilities were checked."""
    trial = path.with_name(f"{path.name}.check{PARTIAL_SUFFIX}")
    try:
        write_bytes(trial, content)
        compared = _compare(classifier, _reopen(trial, path), num_views, progress)
        if fault := compared.fault():
            raise CheckpointError(f"{path}: {fault}.", kept=NOT_WRITTEN)
        trial.replace(path)
    finally:
        trial.unlink(missing_ok=True)
    return compared


def _reopen(trial: Path, path: Path) -> OnnxClassifier:
    """Open the model by its temporary name."""
    try:
        return load_onnx(trial, "cpu")
    except CheckpointError as error:
        problem = error.problem.replace(trial.name, path.name)
        raise error.replaced(problem=problem, kept=NOT_WRITTEN) from error


def _compare(
    classifier: Classifier, exported: OnnxClassifier, num_views: int, progress: Progress
) -> _Comparison:
    rng, size, compared = np.random.default_rng(0), exported.image_size, _Comparison()
    sizes = _batch_sizes(num_views)
    with progress.track("check against torch", sum(sizes)) as bar:
        for num_images in sizes:
            images = _random_images(rng, num_images, size)
            expected = classifier.probabilities(images, classifier.views(num_views)).mean(axis=0)
            compared.add(expected, exported.probabilities(images))
            bar.advance(num_images)
    return compared


def _batch_sizes(num_views: int) -> list[int]:
    """Return each size once, and the largest until there are enough images."""
    missing, largest = CHECKED_VIEWS // num_views - sum(CHECKED_BATCHES), max(CHECKED_BATCHES)
    return [*CHECKED_BATCHES, *[largest] * -(-missing // largest)]


def _random_images(rng: np.random.Generator, num_images: int, size: int) -> np.ndarray:
    """Draw uint8 images of blocks; on white noise all predictions would be alike."""
    cells = rng.integers(0, 256, (num_images, 8, 8, 3), dtype=np.uint8)
    return cells.repeat(size // 8 + 1, axis=1).repeat(size // 8 + 1, axis=2)[:, :size, :size]
