"""`alexnet ensemble`: the average of several networks' probabilities (paper section 6)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alexnet_cli.data.dataset_ref import DatasetRef
from alexnet_cli.errors import UsageError
from alexnet_cli.inference.metrics import score, topk_credit
from alexnet_cli.inference.predictions import Predictions, check_same_images, load_predictions
from alexnet_cli.io.progress import SILENT, Progress

SEARCH_PASSES = 5


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
    """Errors are fractions.

    Attributes:
        weights: as used, summing to one.
        images: how many the errors are of.
        searched_on: how many other images the weights were searched on; 0 if they were not.
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


def ensemble(
    paths: list[Path],
    location: DatasetRef | Path | None = None,
    *,
    split: str = "val",
    num_views: int = 10,
    weights: str = "equal",
    device: str = "auto",
    num_devices: int | None = None,
    precision: str = "fp32",
    progress: Progress = SILENT,
) -> EnsembleResult:
    """Average the probabilities of predictions files (.npz) and checkpoints.

    Args:
        location: the dataset that checkpoints are run on; predictions files need none.
        weights: "equal", "search", or one number a member with commas between.
        precision: of the checkpoints' forward passes, one of `PRECISIONS`.

    Raises:
        UsageError: fewer than two members, checkpoints without a dataset, or other weights.
        InputError: a member has other classes or images, or is there twice.
    """
    if len(paths) < 2:
        raise UsageError("an ensemble needs at least two checkpoints or predictions files.")
    given = _parse_weights(weights, len(paths))
    checkpoints = [path for path in paths if path.suffix != ".npz"]
    if checkpoints and location is None:
        raise UsageError(
            f"{checkpoints[0]} is a checkpoint: say on what to run it, --data DATASET."
        )

    found = {path: load_predictions(path) for path in paths if path.suffix == ".npz"}
    if checkpoints:
        _check_members(paths, found, location, split, num_views)
        # Here, because predictions files alone must not wait for torch.
        from alexnet_cli.distributed.device_plan import choose_devices
        from alexnet_cli.distributed.precision import warn_of_slow_bf16
        from alexnet_cli.inference.predict_split import predict_with_checkpoint

        devices = choose_devices(device, num_devices)
        warn_of_slow_bf16(precision, devices[0], progress)
        for path in checkpoints:
            found[path] = predict_with_checkpoint(
                path,
                location,
                split,
                num_views=num_views,
                devices=devices,
                precision=precision,
                progress=progress,
            )
    check_same_images([(str(path), found[path]) for path in paths])
    names, members = [str(path) for path in paths], [found[path] for path in paths]
    return _score_together(names, members, given, precision if checkpoints else None, progress)


def _check_members(
    paths: list[Path],
    files: dict[Path, Predictions],
    location: DatasetRef | Path,
    split: str,
    num_views: int,
) -> None:
    """Refuse a member that is damaged or does not fit the others, before hours go into any."""
    from alexnet_cli.inference.predict_split import announce_with_checkpoint

    announced = [
        files.get(path) or announce_with_checkpoint(path, location, split, num_views=num_views)
        for path in paths
    ]
    check_same_images([(str(path), member) for path, member in zip(paths, announced, strict=True)])


def _parse_weights(text: str, num_members: int) -> list[float] | None:
    """Return the weights, summing to one; None when they are to be searched."""
    if text == "search":
        return None
    try:
        values = [1.0] * num_members if text == "equal" else [float(v) for v in text.split(",")]
    except ValueError:
        values = []
    total = sum(values)
    if len(values) != num_members or min(values) < 0 or not 0 < total < float("inf"):
        raise UsageError(
            f"--weights {text}: write equal, search, or {num_members} numbers such as 0.5,1."
        )
    return [value / total for value in values]


def _score_together(
    names: list[str],
    members: list[Predictions],
    weights: list[float] | None,
    precision: str | None,
    progress: Progress,
) -> EnsembleResult:
    """Score members and average; where weights are searched, on the half not searched on."""
    labels = members[0].labels
    searched_on, reported = slice(0, 0), slice(None)
    if weights is None:
        searched_on, reported = slice(0, None, 2), slice(1, None, 2)
        half = [member.probs[searched_on] for member in members]
        weights = search_weights(half, labels[searched_on], progress)
    labels = labels[reported]
    probs = [member.probs[reported] for member in members]
    together = score(weighted_sum(probs, weights), labels)
    rows = []
    for name, member, own_probs in zip(names, members, probs, strict=True):
        own = score(own_probs, labels)
        rows.append(Member(name, member.views, own.top1_error, own.top5_error, own.log_loss))
    return EnsembleResult(
        members=rows,
        weights=weights,
        images=len(labels),
        searched_on=len(members[0].labels[searched_on]),
        precision=precision,
        top1_error=together.top1_error,
        top5_error=together.top5_error,
        log_loss=together.log_loss,
    )


def weighted_sum(probs_MNK: Sequence[np.ndarray], weights: list[float]) -> np.ndarray:
    """Return float64 (N, K), the members' probabilities times their weights."""
    total = np.zeros(probs_MNK[0].shape)
    for probs_NK, weight in zip(probs_MNK, weights, strict=True):
        total += weight * probs_NK
    return total


def search_weights(
    probs_MNK: Sequence[np.ndarray], labels: np.ndarray, progress: Progress = SILENT
) -> list[float]:
    """Search for the weights of least top-5 error, one at a time (2012 code, avg-valid.py:49).

    Each weight in turn takes the best of 0, 0.05, ... 1, the others as they are; five passes from
    0.5. A weight stays where it is unless another is better.

    Returns:
        weights that sum to one.
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
