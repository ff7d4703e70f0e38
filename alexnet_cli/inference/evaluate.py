"""`alexnet eval`: a network on a split -> top-1 and top-5 error (paper sections 4.1 and 6).

Nothing here needs torch for an ONNX model, nor for a checkpoint on one device in fp32.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from alexnet_cli.data.batches.loader import batches_of
from alexnet_cli.data.dataset_ref import DatasetRef
from alexnet_cli.data.shards.dataset import Dataset
from alexnet_cli.distributed.runtime_config import DEFAULT_RUNTIME, RuntimeConfig
from alexnet_cli.errors import counted
from alexnet_cli.inference.class_map import ClassMap, map_classes
from alexnet_cli.inference.metrics import (
    Measured,
    Scores,
    measured,
    scores_from_sums,
    sums_of_batches,
)
from alexnet_cli.inference.network import (
    open_for_onnxruntime,
    recipe_of_network,
    runs_on_onnxruntime,
)
from alexnet_cli.inference.predictions import (
    Predictions,
    check_image_size,
    gather,
    open_named,
    pack_predictions,
)
from alexnet_cli.io.atomic import check_output
from alexnet_cli.io.progress import SILENT, Progress
from alexnet_cli.types import DecodeRules

if TYPE_CHECKING:
    from alexnet_cli.distributed.device_plan import DevicePlan
    from alexnet_cli.onnx.runtime import OnnxClassifier

CROPS_PER_BATCH = {"CPUExecutionProvider": 32}  # of an ONNX model, images times views
CROPS_PER_GPU_BATCH = 640


@dataclass(frozen=True, slots=True)
class EvalRequest:
    """A network to measure, and the split to measure it on.

    Attributes:
        model: a checkpoint, a run folder for its best checkpoint, or an ONNX file.
        num_views: 1, 9 or 10, whatever number an ONNX file was exported with.
        predictions: file to which the probabilities of every image are written.
        class_names: file of the names of the dataset's classes, as in `with_class_names`.
    """

    model: Path
    dataset: DatasetRef
    split: str = "val"
    num_views: int = 10
    predictions: Path | None = None
    runtime: RuntimeConfig = DEFAULT_RUNTIME
    class_names: Path | None = None


@dataclass(frozen=True, slots=True)
class SubsetErrors(Measured):
    """Errors among the classes of the dataset only, whose probabilities are renormalized.

    Attributes:
        classes: number of these classes.
        center: scores of the center view, if several views were averaged.
    """

    classes: int
    center: Measured | None


@dataclass(frozen=True, slots=True)
class DecodeRulesUsed:
    """How images became pixels for the training of the network, and for the dataset."""

    model: DecodeRules
    dataset: DecodeRules
    differ: bool


@dataclass(frozen=True, slots=True)
class EvalResult:
    """Errors, as fractions, over all outputs of the network.

    Attributes:
        model_classes: number of outputs of the network.
        dataset_classes: number of classes of the dataset.
        matched_by: how the classes were matched, as in `ClassMap`.
        precision: arithmetic of the forward pass: "fp32", "tf32" or "bf16".
        center: scores of the center view, if several views were averaged and it is known.
        subset: errors among the dataset's classes, if the network knows others as well.
    """

    model: str
    dataset: str
    split: str
    images: int
    model_classes: int
    dataset_classes: int
    matched_by: str
    views: int
    precision: str
    top1_error: float
    top5_error: float
    log_loss: float
    top1_interval: tuple[float, float]
    top5_interval: tuple[float, float]
    center: Measured | None
    subset: SubsetErrors | None
    decode_rules: DecodeRulesUsed
    predictions: str | None


@dataclass(frozen=True, slots=True)
class _Found:
    """What running a network on a split found.

    Attributes:
        scores: of the averaged views and, if known, of the center view.
        subset_scores: the same among the dataset's classes, if they are a subset.
        predictions: if they were asked for.
    """

    num_images: int
    class_map: ClassMap
    rules: DecodeRulesUsed
    num_views: int
    scores: list[Scores]
    subset_scores: list[Scores]
    predictions: Predictions | None


def evaluate(request: EvalRequest, progress: Progress = SILENT) -> EvalResult | None:
    """Measure a network on every image of a split; only the main replica returns a result.

    Raises:
        AlexNetError: if the model, dataset or device cannot be used, or they do not fit.
    """
    found = _run(request, False, progress)
    return _result(request, found) if found else None


def predict_dataset(request: EvalRequest, progress: Progress = SILENT) -> Predictions | None:
    """Return the predictions of a network on a split; None in other replicas than the main one.

    Raises:
        AlexNetError: as `evaluate`.
    """
    found = _run(request, True, progress)
    return found.predictions if found else None


def _result(request: EvalRequest, found: _Found) -> EvalResult:
    whole = [measured(scores, found.num_images) for scores in found.scores]
    subset = [measured(scores, found.num_images) for scores in found.subset_scores]
    num_classes = len(found.class_map.outputs)
    return EvalResult(
        model=str(request.model),
        dataset=str(request.dataset),
        split=request.split,
        images=found.num_images,
        model_classes=len(found.class_map.classes),
        dataset_classes=num_classes,
        matched_by=found.class_map.matched_by,
        views=found.num_views,
        precision=request.runtime.precision,
        **asdict(whole[0]),
        center=_center(whole),
        subset=(
            SubsetErrors(**asdict(subset[0]), classes=num_classes, center=_center(subset))
            if subset
            else None
        ),
        decode_rules=found.rules,
        predictions=str(request.predictions) if request.predictions else None,
    )


def _center(views: list[Measured]) -> Measured | None:
    return views[1] if len(views) > 1 else None


def _run(request: EvalRequest, wants_predictions: bool, progress: Progress) -> _Found | None:
    """Run a network, and write its predictions if the request names a file for them."""
    if request.predictions:
        check_output(request.predictions)
    runtime = request.runtime
    needs_torch = runtime.num_devices or runtime.columns or runtime.precision != "fp32"
    if not needs_torch and runs_on_onnxruntime(request.model):
        return _run_onnx(request, wants_predictions, progress)
    # Imported here, because torch takes two seconds to load and ONNX models do not need it.
    from alexnet_cli.distributed.device_plan import plan_devices
    from alexnet_cli.distributed.launcher import on_replicas

    plan = plan_devices(runtime, recipe_of_network(request.model).columns, progress)
    run = partial(_run_checkpoint, request, wants_predictions, plan, progress)
    return on_replicas(run, plan, progress)


def _run_checkpoint(
    request: EvalRequest, wants_predictions: bool, plan: "DevicePlan", progress: Progress
) -> _Found | None:
    from alexnet_cli.distributed.oom_errors import friendly_oom_errors
    from alexnet_cli.distributed.replicas import place_in_group
    from alexnet_cli.inference import predict_split as splits
    from alexnet_cli.inference.classifier import build_classifier

    shown = progress if place_in_group().is_main else SILENT
    num_views = request.num_views
    checkpoint, dataset, class_map = splits.open_pair(
        request.model, request.dataset, request.split, shown, request.class_names
    )
    predictions = None
    advice = friendly_oom_errors(splits.BATCH_SIZE, splits.FREE_MEMORY)
    with plan.joined(progress) as runtime, advice:
        classifier = build_classifier(checkpoint, runtime, request.model)
        if wants_predictions or request.predictions:
            predictions = splits.predict_split(
                classifier,
                dataset,
                request.split,
                num_views=num_views,
                weights_hash=checkpoint.weights_hash(),
                replicas=runtime.replicas,
                progress=shown,
                class_map=class_map,
            )
        else:
            scores = splits.score_split(
                classifier,
                dataset,
                request.split,
                num_views=num_views,
                replicas=runtime.replicas,
                progress=shown,
                class_map=class_map,
            )
    if not runtime.replicas.is_main:
        return None
    rules = _compare(checkpoint.rules, dataset)
    if predictions:
        return _keep(request, wants_predictions, predictions, class_map, rules)
    each, num_images = 2 if num_views > 1 else 1, len(dataset.split(request.split))
    return _Found(num_images, class_map, rules, num_views, scores[:each], scores[each:], None)


def _compare(of_model: DecodeRules, dataset: Dataset) -> DecodeRulesUsed:
    return DecodeRulesUsed(of_model, dataset.rules, of_model != dataset.rules)


def _keep(
    request: EvalRequest,
    wants_predictions: bool,
    predictions: Predictions,
    class_map: ClassMap,
    rules: DecodeRulesUsed,
) -> _Found:
    """Write predictions where the request says, and score them."""
    if request.predictions:
        predictions.save(request.predictions)
    return _Found(
        len(predictions.keys),
        class_map,
        rules,
        predictions.views,
        predictions.scores(),
        predictions.among_classes_of_dataset().scores() if predictions.is_subset else [],
        predictions if wants_predictions else None,
    )


def _run_onnx(request: EvalRequest, wants_predictions: bool, progress: Progress) -> _Found:
    file = open_for_onnxruntime(request.model)
    from alexnet_cli.onnx.runtime import open_classifier

    info = file.info
    num_views = request.num_views
    model = open_classifier(file, request.runtime.device, num_views)
    dataset = open_named(
        request.dataset,
        request.split,
        info.image_size,
        info.rules,
        progress,
        request.class_names,
    )
    class_map = map_classes(str(request.model), info.classes, dataset)
    check_image_size(request.model, info.image_size, dataset)
    num_arrays = 2 if num_views > 1 else 1
    batches = _onnx_batches(model, dataset, request.split, progress)
    rules = _compare(info.rules, dataset)
    labels = dataset.split(request.split).labels
    if wants_predictions or request.predictions:
        arrays = gather(batches, (len(labels), len(info.classes)), num_arrays)
        weights = info.origin.get("weights", "")
        predictions = pack_predictions(
            dataset, request.split, num_views, weights, class_map, arrays
        )
        return _keep(request, wants_predictions, predictions, class_map, rules)
    sums = sums_of_batches(batches, labels, class_map, num_arrays).reshape(-1, 4)
    scores = [scores_from_sums(of_view) for of_view in sums]
    whole, subset = scores[:num_arrays], scores[num_arrays:]
    return _Found(len(labels), class_map, rules, num_views, whole, subset, None)


def _onnx_batches(
    model: "OnnxClassifier", dataset: Dataset, split_name: str, progress: Progress
) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
    """Yield positions, and probabilities (N, K): averaged and, of several, of the center view."""
    split = dataset.split(split_name)
    crops = CROPS_PER_BATCH.get(model.provider, CROPS_PER_GPU_BATCH)
    what = f"{split_name}, {counted(model.views, 'view')}"
    with progress.track(what, len(split)) as bar:
        for batch in batches_of(split, max(1, crops // model.views)):
            found = model.with_center(batch.images)
            bar.advance(len(batch.positions))
            yield batch.positions, found
