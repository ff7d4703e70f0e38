"""`alexnet eval`: a checkpoint on a split -> top-1 and top-5 error (paper sections 4.1 and 6)."""

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from alexnet_cli.data.dataset_ref import DatasetRef
from alexnet_cli.distributed.device_plan import DevicePlan, plan_devices
from alexnet_cli.distributed.launcher import on_replicas
from alexnet_cli.distributed.oom_errors import ANY_DEVICE, friendly_oom_errors
from alexnet_cli.distributed.precision import warn_of_slow_bf16
from alexnet_cli.distributed.replicas import place_in_group
from alexnet_cli.inference.classifier import build_classifier
from alexnet_cli.inference.metrics import Scores, score
from alexnet_cli.inference.predict_split import BATCH_SIZE, open_pair, predict_split, score_split
from alexnet_cli.io.progress import SILENT, Progress
from alexnet_cli.model.checkpoint import read_recipe


@dataclass(frozen=True, slots=True)
class EvalResult:
    """Errors are fractions; `center` is the center view's, when several were averaged.

    Attributes:
        precision: of the forward pass: "fp32", "tf32" or "bf16".
    """

    checkpoint: str
    dataset: str
    split: str
    images: int
    views: int
    precision: str
    top1_error: float
    top5_error: float
    log_loss: float
    center: Scores | None
    predictions: str | None


def evaluate(
    checkpoint_path: Path,
    location: DatasetRef | Path,
    *,
    split: str = "val",
    num_views: int = 10,
    predictions_path: Path | None = None,
    device: str = "auto",
    num_devices: int | None = None,
    columns: int | None = None,
    precision: str = "fp32",
    progress: Progress = SILENT,
) -> EvalResult | None:
    """Measure a checkpoint on every image of a split, each exactly once, over any replicas.

    Only the first of several replicas has a result.

    Args:
        precision: of the forward pass, one of `PRECISIONS`; probabilities are float32.

    Raises:
        AlexNetError: the checkpoint, the dataset or the device cannot be used, or they do not fit.
    """
    net_columns = read_recipe(checkpoint_path).columns
    layout = plan_devices(device, num_devices, columns, net_columns=net_columns)
    what = (checkpoint_path, location, split, num_views, predictions_path, precision)
    return on_replicas(partial(_evaluate_here, *what, layout, progress), layout)


def _evaluate_here(
    checkpoint_path: Path,
    location: DatasetRef | Path,
    split: str,
    num_views: int,
    predictions_path: Path | None,
    precision: str,
    layout: DevicePlan,
    progress: Progress,
) -> EvalResult | None:
    shown = progress if place_in_group().is_main else SILENT
    checkpoint, dataset = open_pair(checkpoint_path, location, split, shown)
    with layout.taken() as (devices, replicas), friendly_oom_errors(BATCH_SIZE, ANY_DEVICE):
        warn_of_slow_bf16(precision, devices[0], shown)
        classifier = build_classifier(checkpoint, devices, checkpoint_path, precision)
        how = {"num_views": num_views, "replicas": replicas, "progress": shown}
        if predictions_path:
            weights_hash = checkpoint.weights_hash()
            found = predict_split(classifier, dataset, split, weights_hash=weights_hash, **how)
        else:
            scores = score_split(classifier, dataset, split, **how)
    if not replicas.is_main:
        return None
    if predictions_path:
        found.save(predictions_path)
        scores = [score(probs, found.labels) for probs in (found.probs, found.center_probs)]
    return EvalResult(
        checkpoint=str(checkpoint_path),
        dataset=str(location),
        split=split,
        images=len(dataset.split(split)),
        views=num_views,
        precision=precision,
        **asdict(scores[0]),
        center=scores[1] if num_views > 1 else None,
        predictions=str(predictions_path) if predictions_path else None,
    )
