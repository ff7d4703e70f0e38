"""`alexnet export`: a checkpoint -> one ONNX file that maps images to probabilities."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch

from alexnet_cli.distributed.device_plan import Runtime
from alexnet_cli.distributed.oom_errors import friendly_oom_errors
from alexnet_cli.errors import CheckpointError, UsageError, counted, hint
from alexnet_cli.inference.classifier import Classifier, load_classifier
from alexnet_cli.io.atomic import PARTIAL_SUFFIX, check_new, check_output, write_bytes
from alexnet_cli.io.progress import SILENT, Progress
from alexnet_cli.onnx.graph import build_graph
from alexnet_cli.onnx.model_file import add_checksum, metadata_of
from alexnet_cli.onnx.parameters import info_of
from alexnet_cli.onnx.runtime import load_onnx

CHECKED_VIEWS = 1000  # 1,000 images of one view, or 100 of ten views
MAX_CROPS = 32  # in a batch: ten views of as many images of the paper's network take 5 GB
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
        UsageError: if the name is not one of an ONNX file, or a folder's.
        InputError: if the file exists and `force` is not set.
        CheckpointError: if the checkpoint cannot be used, or the model's probabilities differ.
        MachineError: if memory is full; nothing is written.
    """
    if onnx_path.suffix.lower() != ".onnx":
        raise UsageError(
            f"{onnx_path}: does not end in .onnx, by which models are recognized.",
            hint=hint("name_onnx", path=f"{onnx_path}.onnx"),
        )
    check_new(onnx_path, force=force)
    check_output(onnx_path)
    advice = "Close other programs, then run the same command again."
    with friendly_oom_errors(MAX_CROPS // num_views, advice, NOT_WRITTEN):
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
        metadata=metadata_of(info_of(checkpoint, num_views)),
    )
    onnx.checker.check_model(model, full_check=True)
    content = add_checksum(model.SerializeToString())
    trial = onnx_path.with_name(f"{onnx_path.name}.check{PARTIAL_SUFFIX}")
    try:  # the file gets its name after its probabilities were checked
        onnx_path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(trial, content)
        expected, found = _predict_both(classifier, trial, onnx_path, num_views, progress)
        _check_equal(expected, found, onnx_path)
        trial.replace(onnx_path)
    finally:
        trial.unlink(missing_ok=True)
    return ExportResult(
        onnx=str(onnx_path),
        checkpoint=str(checkpoint_path),
        views=num_views,
        classes=len(checkpoint.classes),
        bytes=len(content),
        opset=model.opset_import[0].version,
        checked=len(found),
        batches=_checked_batches(num_views),
        max_abs_difference=float(np.abs(found - expected).max()),
        top1_differing=int((found.argmax(axis=1) != expected.argmax(axis=1)).sum()),
    )


def _predict_both(
    classifier: Classifier, trial: Path, path: Path, num_views: int, progress: Progress
) -> tuple[np.ndarray, np.ndarray]:
    """Return torch's and onnxruntime's probabilities (N, K) of the same random images."""
    try:
        exported = load_onnx(trial, "cpu")
    except CheckpointError as error:
        problem = error.problem.replace(trial.name, path.name)
        raise error.replaced(problem=problem, kept=NOT_WRITTEN) from error
    rng = np.random.default_rng(0)
    sizes = _batch_sizes(num_views)
    expected, found = [], []
    with progress.track("check against torch", sum(sizes)) as bar:
        for num_images in sizes:
            images = _random_images(rng, num_images, exported.info.image_size)
            views = classifier.probabilities(images, classifier.views(num_views))
            expected.append(views.mean(axis=0))
            found.append(exported.probabilities(images))
            bar.advance(num_images)
    return np.concatenate(expected), np.concatenate(found)


def _check_equal(expected: np.ndarray, found: np.ndarray, path: Path) -> None:
    """Check that two networks assign the same probabilities (N, K), but for rounding.

    Raises:
        CheckpointError: if they do not.
    """
    difference = np.abs(found - expected).max()
    chosen = found.argmax(axis=1)
    gap = (expected.max(axis=1) - expected[np.arange(len(found)), chosen]).max()
    if not difference <= MAX_DIFFERENCE:
        fault = f"differ from torch's by {difference:.2g}, more than {MAX_DIFFERENCE:g}"
        raise CheckpointError(f"{path}: its probabilities {fault}.", kept=NOT_WRITTEN)
    if not gap <= MAX_TIE:
        num = (chosen != expected.argmax(axis=1)).sum()
        raise CheckpointError(
            f"{path}: its first class is not torch's for {counted(num, 'image')}.", kept=NOT_WRITTEN
        )


def _checked_batches(num_views: int) -> list[int]:
    """Return the batch sizes on which torch and onnxruntime are compared, the largest last."""
    return [1, 2, MAX_CROPS // num_views]


def _batch_sizes(num_views: int) -> list[int]:
    """Return each size once, and the largest until there are enough images."""
    sizes = _checked_batches(num_views)
    missing = CHECKED_VIEWS // num_views - sum(sizes)
    return [*sizes, *[sizes[-1]] * -(-missing // sizes[-1])]


def _random_images(rng: np.random.Generator, num_images: int, size: int) -> np.ndarray:
    """Draw uint8 images of blocks; on white noise all predictions would be alike."""
    cells = rng.integers(0, 256, (num_images, 8, 8, 3), dtype=np.uint8)
    return cells.repeat(size // 8 + 1, axis=1).repeat(size // 8 + 1, axis=2)[:, :size, :size]
