"""`alexnet ensemble`: the average of several networks' probabilities (paper section 6).

M members, N images, K classes.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from alexnet_cli.data.dataset_ref import DatasetRef
from alexnet_cli.distributed.runtime_config import DEFAULT_RUNTIME, RuntimeConfig
from alexnet_cli.errors import CheckpointError, UsageError, hint
from alexnet_cli.inference.metrics import score, topk_credit
from alexnet_cli.inference.predictions import Predictions, check_same_images, load_predictions
from alexnet_cli.io.progress import SILENT, Progress

SEARCH_PASSES = 5


@dataclass(frozen=True, slots=True)
class EnsembleRequest:
    """Networks to average.

    Attributes:
        members: checkpoints, and predictions files (.npz).
        dataset: on which checkpoints are run; predictions files need none.
        num_views: 1, 9 or 10, of the checkpoints.
        weights: "equal", "search", or one number per member separated by commas.
        runtime: of the checkpoints.
    """

    members: tuple[Path, ...]
    dataset: DatasetRef | None = None
    split: str = "val"
    num_views: int = 10
    weights: str = "equal"
    runtime: RuntimeConfig = DEFAULT_RUNTIME


@dataclass(frozen=True, slots=True)
class Member:
    """One network of the ensemble, and its own errors."""

    file: str
    views: int
    top1_error: float
    top5_error: float
    log_loss: float


@dataclass(frozen=True, slots=True)
class EnsembleResult:
    """Errors, as fractions.

    Attributes:
        weights: of the members; their sum is one.
        images: number of images that were scored.
        searched_on: number of other images on which the weights were searched; 0 if they were not.
        precision: of the checkpoints' forward passes; None if all members are predictions files.
    """

    members: list[Member]
    weights: list[float]
    images: int
    searched_on: int
    precision: str | None
    top1_error: float
    top5_error: float
    log_loss: float


def ensemble(request: EnsembleRequest, progress: Progress = SILENT) -> EnsembleResult:
    """Average the probabilities of predictions files (.npz) and checkpoints.

    Raises:
        UsageError: if there are fewer than two members, or the weights are invalid.
        InputError: if a member has other classes or images, or is there twice.
    """
    paths = request.members
    if len(paths) < 2:
        raise UsageError("an ensemble needs at least two checkpoints or predictions files.")
    weights = _parse_weights(request.weights, len(paths))
    checkpoints = [path for path in paths if path.suffix != ".npz"]
    if checkpoints and request.dataset is None:
        raise UsageError(
            f"{checkpoints[0]} is a checkpoint, which needs a dataset.", hint=hint("name_dataset")
        )
    found = {path: load_predictions(path) for path in paths if path.suffix == ".npz"}
    if checkpoints:
        _predict_checkpoints(request, found, progress)
    members = [(str(path), found[path]) for path in paths]
    check_same_images(members)
    precision = request.runtime.precision if checkpoints else None
    return _score_members(members, weights, precision, progress)


def _predict_checkpoints(
    request: EnsembleRequest, found: dict[Path, Predictions], progress: Progress
) -> None:
    """Add the predictions of the checkpoints to those of the files.

    All members are compared before the first network is run, checkpoints by their headers.
    """
    # Imported here, because an ensemble of predictions files does not need torch.
    from alexnet_cli.distributed.device_plan import Runtime, choose_devices
    from alexnet_cli.distributed.oom_errors import friendly_oom_errors
    from alexnet_cli.inference import predict_split as splits
    from alexnet_cli.inference.classifier import build_classifier
    from alexnet_cli.model.checkpoint import load_checkpoint, read_header

    assert request.dataset is not None
    config, split, num_views = request.runtime, request.split, request.num_views
    runtime = Runtime(choose_devices(config, progress=progress), config.precision)
    headers = {path: read_header(path) for path in request.members if path not in found}
    dataset = request.dataset.open((split,), fetch_now=True, progress=progress)
    announced = []
    for path in request.members:
        expected = found.get(path)
        if expected is None:
            try:
                wnids = [wnid for wnid, _ in headers[path]["classes"]]
                checksum = headers[path]["checksum"]
            except (LookupError, TypeError, ValueError) as error:
                raise CheckpointError(f"{path}: its header is damaged ({error!r}).") from error
            splits.check_classes(path, wnids, dataset)
            nothing = [np.zeros((0, len(wnids)), np.float32)]
            expected = splits.pack_predictions(dataset, split, num_views, checksum, nothing)
        announced.append((str(path), expected))
    check_same_images(announced)
    for path in headers:
        checkpoint = load_checkpoint(path)
        splits.check_fit(path, checkpoint, dataset)
        with friendly_oom_errors(splits.BATCH_SIZE, splits.FREE_MEMORY):
            found[path] = splits.predict_split(
                build_classifier(checkpoint, runtime, path),
                dataset,
                split,
                num_views=num_views,
                weights_hash=checkpoint.weights_hash(),
                progress=progress,
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
    labels = members[0][1].labels
    searched_on, reported = slice(0, 0), slice(None)
    if weights is None:
        searched_on, reported = slice(0, None, 2), slice(1, None, 2)
        half = [member.probs[searched_on] for _, member in members]
        weights = search_weights(half, labels[searched_on], progress)
    probs = [member.probs[reported] for _, member in members]
    together = score(weighted_sum(probs, weights), labels[reported])
    return EnsembleResult(
        members=[
            Member(name, member.views, **asdict(score(own_probs, labels[reported])))
            for (name, member), own_probs in zip(members, probs, strict=True)
        ],
        weights=weights,
        images=len(labels[reported]),
        searched_on=len(labels[searched_on]),
        precision=precision,
        **asdict(together),
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
