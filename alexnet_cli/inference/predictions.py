"""Class probabilities of a split in a file: written by `eval`, read by `ensemble` without torch.

N images, K classes.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from alexnet_cli.errors import CheckpointError, InputError, hint, on_one_line
from alexnet_cli.io.atomic import write_atomically


@dataclass(frozen=True, slots=True)
class Predictions:
    """The probabilities that one network assigns to every image of a split.

    Attributes:
        keys: of the images, in stored order.
        probs: float32 (N, K), averaged over the views.
        center_probs: float32 (N, K) of the center view; with one view the same array as `probs`,
            which the file contains once.
        labels: int64 (N,).
        classes: wnids in label order.
        fingerprint: of the dataset.
        weights_hash: identifies the network's weights.
    """

    keys: tuple[str, ...]
    probs: np.ndarray
    center_probs: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    fingerprint: str
    split: str
    views: int
    weights_hash: str

    def save(self, path: Path) -> None:
        """Write a predictions file atomically; create its folder if it is missing."""
        about = {
            "classes": self.classes,
            "dataset": self.fingerprint,
            "split": self.split,
            "views": self.views,
            "weights": self.weights_hash,
        }
        arrays: dict[str, Any] = {"keys": np.array(self.keys), "probs": self.probs}
        if self.views > 1:
            arrays["center_probs"] = self.center_probs
        arrays |= {"labels": self.labels, "about": json.dumps(about)}
        path.parent.mkdir(parents=True, exist_ok=True)
        with write_atomically(path) as file:
            np.savez(file, **arrays)


def load_predictions(path: Path) -> Predictions:
    """Read a predictions file.

    Raises:
        CheckpointError: if the file is missing, damaged, or something else.
    """
    advice = hint("make_predictions", path=path)
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
            about = json.loads(str(content["about"]))
            probs = content["probs"]
            predictions = Predictions(
                keys=tuple(content["keys"].tolist()),
                probs=probs,
                center_probs=content["center_probs"] if about["views"] > 1 else probs,
                labels=content["labels"],
                classes=tuple(about["classes"]),
                fingerprint=about["dataset"],
                split=about["split"],
                views=about["views"],
                weights_hash=about["weights"],
            )
    except Exception as error:  # zip, npy, JSON and key errors of a damaged file
        why = on_one_line(str(error))
        raise CheckpointError(
            f"{path}: not a predictions file, or a damaged one ({why}).", hint=advice
        ) from error
    if fault := _fault(predictions):
        raise CheckpointError(f"{path}: {fault}.", hint=advice)
    return predictions


def _fault(found: Predictions) -> str:
    """Return why the contents are invalid; empty if they are valid."""
    shape = (len(found.keys), len(found.classes))
    labels = found.labels
    if not found.probs.shape == found.center_probs.shape == shape or labels.shape != shape[:1]:
        return "its probabilities do not fit its images and classes"
    if labels.dtype.kind != "i" or ((labels < 0) | (labels >= shape[1])).any():
        return "its labels are not among its classes"
    both = (found.probs, found.center_probs)
    if not all(probs.dtype.kind == "f" and np.isfinite(probs).all() for probs in both):
        return "its probabilities are not all finite numbers"
    return ""


def check_same_images(members: list[tuple[str, Predictions]]) -> None:
    """Check that members predict the same images and classes, and are different networks.

    Args:
        members: (name for messages, predictions).

    Raises:
        InputError: naming the first member that differs from the first one, and in what.
    """
    first_name, first = members[0]
    seen = {first.weights_hash: first_name}
    for name, member in members[1:]:
        for what, mine, theirs in (
            ("classes", first.classes, member.classes),
            ("split", first.split, member.split),
            ("dataset", first.fingerprint, member.fingerprint),
            ("images", first.keys, member.keys),
        ):
            if mine != theirs:
                raise InputError(
                    f"{name} and {first_name} differ in {what}: "
                    f"{_brief(theirs)} and {_brief(mine)}.",
                    hint="Give networks and predictions of the same classes and images.",
                )
        if member.weights_hash in seen:
            raise InputError(f"{name} and {seen[member.weights_hash]} are the same network.")
        seen[member.weights_hash] = name


def _brief(value: str | tuple[str, ...]) -> str:
    return value if isinstance(value, str) else f"{len(value)} ({value[0] if value else '-'}, ...)"
