"""`alexnet eval`: a checkpoint on a split -> top-1 and top-5 error (paper sections 4.1 and 6)."""

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from alexnet_cli.data.dataset_ref import DatasetRef
from alexnet_cli.distributed.device_plan import DevicePlan, plan_devices
from alexnet_cli.distributed.launcher import on_replicas
from alexnet_cli.distributed.oom_errors import friendly_oom_errors
from alexnet_cli.distributed.replicas import place_in_group
from alexnet_cli.distributed.runtime_config import DEFAULT_RUNTIME, RuntimeConfig
from alexnet_cli.inference.classifier import build_classifier
from alexnet_cli.inference.metrics import Scores, score
from alexnet_cli.inference.predict_split import (
    BATCH_SIZE,
    FREE_MEMORY,
    open_pair,
    predict_split,
    score_split,
)
from alexnet_cli.io.progress import SILENT, Progress
from alexnet_cli.model.checkpoint import read_recipe


@dataclass(frozen=True, slots=True)
class EvalRequest:
    """A checkpoint to measure, and the split to measure it on.

    Attributes:
        num_views: 1, 9 or 10.
        predictions: file to which the probabilities of every image are written.
    """

    checkpoint: Path
    dataset: DatasetRef
    split: str = "val"
    num_views: int = 10
    predictions: Path | None = None
    runtime: RuntimeConfig = DEFAULT_RUNTIME


@dataclass(frozen=True, slots=True)
class EvalResult:
    """Errors, as fractions.

    Attributes:
        precision: arithmetic of the forward pass: "fp32", "tf32" or "bf16".
        center: scores of the center view, if several views were averaged.
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


def evaluate(request: EvalRequest, progress: Progress = SILENT) -> EvalResult | None:
    """Measure a checkpoint on every image of a split; only the main replica returns a result.

    Raises:
        AlexNetError: if the checkpoint, dataset or device cannot be used, or they do not fit.
    """
    net_columns = read_recipe(request.checkpoint).columns
    plan = plan_devices(request.runtime, net_columns, progress)
    return on_replicas(partial(_evaluate, request, plan, progress), plan, progress)


def _evaluate(request: EvalRequest, plan: DevicePlan, progress: Progress) -> EvalResult | None:
    shown = progress if place_in_group().is_main else SILENT
    split, num_views = request.split, request.num_views
    checkpoint, dataset = open_pair(request.checkpoint, request.dataset, split, shown)
    with plan.joined(progress) as runtime, friendly_oom_errors(BATCH_SIZE, FREE_MEMORY):
        classifier = build_classifier(checkpoint, runtime, request.checkpoint)
        if request.predictions:
            found = predict_split(
                classifier,
                dataset,
                split,
                num_views=num_views,
                weights_hash=checkpoint.weights_hash(),
                replicas=runtime.replicas,
                progress=shown,
            )
        else:
            scores = score_split(
                classifier,
                dataset,
                split,
                num_views=num_views,
                replicas=runtime.replicas,
                progress=shown,
            )
    if not runtime.replicas.is_main:
        return None
    if request.predictions:
        found.save(request.predictions)
        scores = [score(probs, found.labels) for probs in (found.probs, found.center_probs)]
    return EvalResult(
        checkpoint=str(request.checkpoint),
        dataset=str(request.dataset),
        split=split,
        images=len(dataset.split(split)),
        views=num_views,
        precision=request.runtime.precision,
        **asdict(scores[0]),
        center=scores[1] if num_views > 1 else None,
        predictions=str(request.predictions) if request.predictions else None,
    )
