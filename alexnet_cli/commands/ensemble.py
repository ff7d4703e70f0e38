"""`alexnet ensemble`: the average of several networks' probabilities (paper section 6)."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alexnet_cli.data.predictions import Predictions, check_same_images, load_predictions
from alexnet_cli.errors import UsageError
from alexnet_cli.metrics import score
from alexnet_cli.progress import SILENT, Progress


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
    """Errors are fractions."""

    members: list[Member]
    weights: list[float]
    images: int
    top1_error: float
    top5_error: float
    log_loss: float


def ensemble(
    paths: list[Path],
    folder: Path | None = None,
    *,
    split: str = "val",
    num_views: int = 10,
    device: str = "auto",
    num_devices: int | None = None,
    progress: Progress = SILENT,
) -> EnsembleResult:
    """Average the probabilities of predictions files (.npz) and checkpoints, with equal weights.

    Args:
        folder: the dataset that checkpoints are run on; predictions files need none.

    Raises:
        UsageError: fewer than two members, or checkpoints without a dataset.
        InputError: a member has other classes or images, or is there twice.
    """
    if len(paths) < 2:
        raise UsageError("an ensemble needs at least two checkpoints or predictions files.")
    checkpoints = [path for path in paths if path.suffix != ".npz"]
    if checkpoints and folder is None:
        raise UsageError(
            f"{checkpoints[0]} is a checkpoint: say on what to run it, --data DATASET."
        )

    def predictions_of(path: Path) -> Predictions:
        if path.suffix == ".npz":
            return load_predictions(path)
        # Here, because predictions files alone must not wait for torch.
        from alexnet_cli.engine.devices import choose_devices
        from alexnet_cli.engine.inference import predict_with_checkpoint

        devices = choose_devices(device, num_devices)
        return predict_with_checkpoint(
            path, folder, split, num_views=num_views, devices=devices, progress=progress
        )

    found = [(str(path), predictions_of(path)) for path in paths]
    check_same_images(found)
    return _average([name for name, _ in found], [member for _, member in found])


def _average(names: list[str], members: list[Predictions]) -> EnsembleResult:
    weights = [1.0 / len(members)] * len(members)
    pairs = zip(weights, members, strict=True)
    probs = np.sum([weight * member.probs.astype(np.float64) for weight, member in pairs], axis=0)
    labels = members[0].labels
    together = score(probs, labels)
    rows = []
    for name, member in zip(names, members, strict=True):
        own = score(member.probs, labels)
        rows.append(Member(name, member.views, own.top1_error, own.top5_error, own.log_loss))
    return EnsembleResult(
        members=rows,
        weights=weights,
        images=len(labels),
        top1_error=together.top1_error,
        top5_error=together.top5_error,
        log_loss=together.log_loss,
    )
