"""`alexnet ensemble`: the average of several networks' probabilities (paper section 6).

M members, N images, K classes.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from alexnet_cli.data.dataset_ref import DatasetRef
from alexnet_cli.data.shards.dataset import Dataset
from alexnet_cli.distributed.runtime_config import DEFAULT_RUNTIME, RuntimeConfig
from alexnet_cli.errors import CheckpointError, UsageError, hint
from alexnet_cli.inference.class_map import ClassMap, map_classes, with_class_names
from alexnet_cli.inference.evaluate import EvalRequest, predict_dataset
from alexnet_cli.inference.metrics import Measured, measured, score, topk_credit, within
from alexnet_cli.inference.network import runs_on_onnxruntime
from alexnet_cli.inference.predictions import (
    Predictions,
    check_image_size,
    check_same_images,
    in_order_of,
    load_predictions,
    pack_predictions,
)
from alexnet_cli.io.progress import SILENT, Progress
from alexnet_cli.pretrained.names import is_onnx, is_predictions

SEARCH_PASSES = 5


@dataclass(frozen=True, slots=True)
class EnsembleRequest:
    """Networks to average.

    Attributes:
        members: checkpoints or run folders, ONNX files, and predictions files (.npz).
        dataset: on which networks are run; predictions files need none.
        num_views: 1, 9 or 10, of the networks.
        weights: "equal", "search", or one number per member separated by commas.
        runtime: of the networks.
        class_names: file of the names of the dataset's classes, as in `with_class_names`.
    """

    members: tuple[Path, ...]
    dataset: DatasetRef | None = None
    split: str = "val"
    num_views: int = 10
    weights: str = "equal"
    runtime: RuntimeConfig = DEFAULT_RUNTIME
    class_names: Path | None = None


@dataclass(frozen=True, slots=True)
class Member(Measured):
    """One network of the ensemble, and its own errors.

    Attributes:
        subset: errors among the classes of the dataset, if the network knows others as well.
    """

    file: str
    views: int
    subset: Measured | None


@dataclass(frozen=True, slots=True)
class EnsembleResult:
    """Errors, as fractions.

    Attributes:
        weights: of the members; their sum is one.
        images: number of images that were scored.
        searched_on: number of other images on which the weights were searched; 0 if they were not.
        precision: of the checkpoints' forward passes; None if all members are predictions files.
        model_classes: number of outputs of the networks.
        dataset_classes: number of classes of the dataset.
        subset: errors among the classes of the dataset, if the networks know others as well.
    """

    members: list[Member]
    weights: list[float]
    images: int
    searched_on: int
    precision: str | None
    model_classes: int
    dataset_classes: int
    top1_error: float
    top5_error: float
    log_loss: float
    top1_interval: tuple[float, float]
    top5_interval: tuple[float, float]
    subset: Measured | None


def ensemble(request: EnsembleRequest, progress: Progress = SILENT) -> EnsembleResult:
    """Average the probabilities of predictions files (.npz) and networks.

    Raises:
        UsageError: if there are fewer than two members, or the weights are invalid.
        InputError: if a member has other classes or images, or is there twice.
    """
    paths = request.members
    if len(paths) < 2:
        raise UsageError("an ensemble needs at least two networks or predictions files.")
    weights = _parse_weights(request.weights, len(paths))
    networks = [path for path in paths if not is_predictions(path)]
    if networks and request.dataset is None:
        raise UsageError(
            f"{networks[0]} is a network, which needs a dataset.", hint=hint("name_dataset")
        )
    if request.class_names and not networks:
        raise UsageError("predictions files keep what their classes are called.")
    found = {path: load_predictions(path) for path in paths if is_predictions(path)}
    if networks:
        _predict_networks(request, found, progress)
    members = _aligned([(str(path), found[path]) for path in paths])
    precision = request.runtime.precision if networks else None
    return _score_members(members, weights, precision, progress)


def _aligned(members: list[tuple[str, Predictions]]) -> list[tuple[str, Predictions]]:
    """Return the members with their outputs in the order of the first.

    Raises:
        InputError: if a member has other classes or images, or is there twice.
    """
    first = members[0][1]
    aligned = [(name, in_order_of(first, member)) for name, member in members]
    check_same_images(aligned)
    return aligned


def _predict_networks(
    request: EnsembleRequest, found: dict[Path, Predictions], progress: Progress
) -> None:
    """Add the predictions of the networks to those of the files.

    All members are compared before the first network is run, networks by their headers.
    """
    assert request.dataset is not None
    split, num_views = request.split, request.num_views
    networks = [path for path in request.members if path not in found]
    headers = {path: _read_header(path) for path in networks}
    dataset = request.dataset.open((split,), fetch_now=True, progress=progress)
    if request.class_names:
        dataset = with_class_names(dataset, request.class_names)
    announced, maps = [], {}
    for path in request.members:
        expected = found.get(path)
        if expected is None:
            classes, checksum = headers[path]
            maps[path] = map_classes(str(path), classes, dataset)
            nothing = [np.zeros((0, len(classes)), np.float32)]
            expected = pack_predictions(dataset, split, num_views, checksum, maps[path], nothing)
        announced.append((str(path), expected))
    _aligned(announced)
    for path in networks:
        if runs_on_onnxruntime(path):
            # What needs torch is refused for a checkpoint, and left out for an exported model.
            runtime = RuntimeConfig(request.runtime.device) if is_onnx(path) else request.runtime
            wanted = EvalRequest(
                path, request.dataset, split, num_views, None, runtime, request.class_names
            )
            predictions = predict_dataset(wanted, progress)
            assert predictions is not None
            found[path] = predictions
    _predict_checkpoints(request, dataset, maps, found, progress)


def _read_header(path: Path) -> tuple[list[tuple[str, str]], str]:
    """Return the classes of a network, and a text that identifies it."""
    if is_onnx(path):
        from alexnet_cli.onnx.model_file import open_onnx_file

        info = open_onnx_file(path).info
        return info.classes, info.origin.get("weights", "")
    from alexnet_cli.model.checkpoint import read_header

    header = read_header(path)
    try:
        return [(wnid, name) for wnid, name in header["classes"]], header["checksum"]
    except (LookupError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: its header is damaged ({error!r}).") from error


def _predict_checkpoints(
    request: EnsembleRequest,
    dataset: Dataset,
    maps: dict[Path, ClassMap],
    found: dict[Path, Predictions],
    progress: Progress,
) -> None:
    """Add the predictions of the members that are not in `found` yet."""
    paths = [path for path in request.members if path not in found]
    if not paths:
        return
    # Imported here, because an ensemble without checkpoints does not need torch.
    from alexnet_cli.distributed.device_plan import Runtime, choose_devices
    from alexnet_cli.distributed.oom_errors import friendly_oom_errors
    from alexnet_cli.inference import predict_split as splits
    from alexnet_cli.inference.classifier import build_classifier
    from alexnet_cli.model.checkpoint import load_checkpoint

    config = request.runtime
    runtime = Runtime(choose_devices(config, progress=progress), config.precision)
    for path in paths:
        checkpoint = load_checkpoint(path)
        check_image_size(path, len(checkpoint.pixels["mean_image"]), dataset)
        with friendly_oom_errors(splits.BATCH_SIZE, splits.FREE_MEMORY):
            found[path] = splits.predict_split(
                build_classifier(checkpoint, runtime, path),
                dataset,
                request.split,
                num_views=request.num_views,
                weights_hash=checkpoint.weights_hash(),
                progress=progress,
                class_map=maps[path],
            )


def _parse_weights(text: str, num_members: int) -> list[float] | None:
    """Return the weights, whose sum is one; None if they are to be searched."""
    if text == "search":
        return None
    try:
        values = [1.0] * num_members if text == "equal" else [float(v) for v in text.split(",")]
    except ValueError:
        values = []
    total = sum(values)
    if len(values) != num_members or min(values) < 0 or not 0 < total < float("inf"):
        raise UsageError(
            f"weights {text!r}: write equal, search, or {num_members} numbers such as 0.5,1."
        )
    return [value / total for value in values]


def _score_members(
    members: list[tuple[str, Predictions]],
    weights: list[float] | None,
    precision: str | None,
    progress: Progress,
) -> EnsembleResult:
    """Score the members and their average; after a search, on the half that it did not use."""
    first = members[0][1]
    labels = first.labels
    searched_on, reported = slice(0, 0), slice(None)
    if weights is None:
        searched_on, reported = slice(0, None, 2), slice(1, None, 2)
        half = [member.probs[searched_on] for _, member in members]
        weights = search_weights(half, labels[searched_on], progress)
    labels = labels[reported]
    dataset_labels = first.dataset_labels[reported]
    probs = [member.probs[reported] for _, member in members]

    def measure(probs_NK: np.ndarray) -> Measured:
        return measured(score(probs_NK, labels), len(labels))

    def measure_subset(probs_NK: np.ndarray) -> Measured | None:
        if not first.is_subset:
            return None
        chosen = within(probs_NK, first.outputs)
        return measured(score(chosen, dataset_labels), len(labels))

    together = weighted_sum(probs, weights)
    return EnsembleResult(
        members=[
            Member(
                **asdict(measure(own_probs)),
                file=name,
                views=member.views,
                subset=measure_subset(own_probs),
            )
            for (name, member), own_probs in zip(members, probs, strict=True)
        ],
        weights=weights,
        images=len(labels),
        searched_on=len(first.labels[searched_on]),
        precision=precision,
        model_classes=len(first.classes),
        dataset_classes=len(first.outputs),
        **asdict(measure(together)),
        subset=measure_subset(together),
    )


def weighted_sum(probs_MNK: Sequence[np.ndarray], weights: list[float]) -> np.ndarray:
    """Return the weighted sum of the members' probabilities, float64 (N, K)."""
    total = np.zeros(probs_MNK[0].shape)
    for probs_NK, weight in zip(probs_MNK, weights, strict=True):
        total += weight * probs_NK
    return total


def search_weights(
    probs_MNK: Sequence[np.ndarray], labels: np.ndarray, progress: Progress = SILENT
) -> list[float]:
    """Search for the weights with the lowest top-5 error, by coordinate descent.

    Each weight in turn takes the best of 0, 0.05, ... 1 while the others are fixed, in five passes
    that begin at 0.5. A weight only changes if that is an improvement (2012 code, avg-valid.py:49).

    Returns:
        Weights whose sum is one.
    """
    weights = [0.5] * len(probs_MNK)
    with progress.track("search weights", SEARCH_PASSES * len(probs_MNK)) as bar:
        for _ in range(SEARCH_PASSES):
            for member, probs_NK in enumerate(probs_MNK):
                others = weighted_sum(probs_MNK, [*weights[:member], 0.0, *weights[member + 1 :]])
                has_others = sum(weights) > weights[member]
                steps = [weights[member], *(i / 20 for i in range(0 if has_others else 1, 21))]
                errors = [
                    1.0 - topk_credit(others + step * probs_NK, labels, 5).mean() for step in steps
                ]
                weights[member] = steps[int(np.argmin(errors))]
                bar.advance(note=f"top-5 error {min(errors):.2%}")
    return [weight / sum(weights) for weight in weights]
