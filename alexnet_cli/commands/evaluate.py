"""`alexnet eval`: a checkpoint on a split -> top-1 and top-5 error (paper sections 4.1 and 6)."""

from dataclasses import dataclass
from pathlib import Path

from alexnet_cli.engine.devices import choose_devices
from alexnet_cli.engine.inference import predict_with_checkpoint
from alexnet_cli.metrics import Scores, score
from alexnet_cli.progress import SILENT, Progress


@dataclass(frozen=True, slots=True)
class EvalResult:
    """Errors are fractions; `center` is the centre view's, when several were averaged."""

    checkpoint: str
    dataset: str
    split: str
    images: int
    views: int
    top1_error: float
    top5_error: float
    log_loss: float
    center: Scores | None
    predictions: str | None


def evaluate(
    checkpoint_path: Path,
    folder: Path,
    *,
    split: str = "val",
    num_views: int = 10,
    predictions_path: Path | None = None,
    device: str = "auto",
    num_devices: int | None = None,
    progress: Progress = SILENT,
) -> EvalResult:
    """Measure a checkpoint on every image of a split, each exactly once.

    Raises:
        AlexNetError: the checkpoint, the dataset or the device cannot be used, or they do not fit.
    """
    found = predict_with_checkpoint(
        checkpoint_path,
        folder,
        split,
        num_views=num_views,
        devices=choose_devices(device, num_devices),
        progress=progress,
    )
    if predictions_path:
        found.save(predictions_path)
    scores = score(found.probs, found.labels)
    return EvalResult(
        checkpoint=str(checkpoint_path),
        dataset=str(folder),
        split=split,
        images=len(found.labels),
        views=num_views,
        top1_error=scores.top1_error,
        top5_error=scores.top5_error,
        log_loss=scores.log_loss,
        center=score(found.center_probs, found.labels) if num_views > 1 else None,
        predictions=str(predictions_path) if predictions_path else None,
    )
