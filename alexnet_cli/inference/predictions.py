"""Class probabilities of a split in a file: written by `eval`, read by others without torch.

N images, K outputs of the network.
"""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from alexnet_cli.data.dataset_ref import DatasetRef
from alexnet_cli.data.shards.dataset import Dataset
from alexnet_cli.errors import CheckpointError, InputError, hint, on_one_line, some_names
from alexnet_cli.inference.class_map import ClassMap, first_difference, with_class_names
from alexnet_cli.inference.metrics import Scores, score, within
from alexnet_cli.io.atomic import write_atomically
from alexnet_cli.io.progress import Progress
from alexnet_cli.types import DecodeRules


@dataclass(frozen=True, slots=True)
class Predictions:
    """The probabilities that one network assigns to every image of a split.

    Attributes:
        keys: of the images, in stored order.
        probs: float32 (N, K), averaged over the views.
        center_probs: float32 (N, K) of the center view; with one view the same array as `probs`,
            which the file contains once. None if the file has only the average of several views.
        labels: int64 (N,), labels of the network.
        classes: wnids of the network's outputs in label order.
        names: the words for them.
        outputs: the network's label of each class of the dataset, in the dataset's order.
        fingerprint: of the dataset.
        weights_hash: identifies the network's weights.
    """

    keys: tuple[str, ...]
    probs: np.ndarray
    center_probs: np.ndarray | None
    labels: np.ndarray
    classes: tuple[str, ...]
    names: tuple[str, ...]
    outputs: tuple[int, ...]
    fingerprint: str
    split: str
    views: int
    weights_hash: str

    @property
    def is_subset(self) -> bool:
        """Whether the network knows classes that the dataset does not have."""
        return len(self.outputs) < len(self.classes)

    @property
    def dataset_labels(self) -> np.ndarray:
        """int64 (N,): the labels in the dataset's order of classes."""
        place = np.full(len(self.classes), -1, np.int64)
        place[list(self.outputs)] = np.arange(len(self.outputs))
        return place[self.labels]

    def scores(self) -> list[Scores]:
        """Return the scores of the averaged probabilities and of the center view, where known."""
        has_center = self.views > 1 and self.center_probs is not None
        both = (self.probs, self.center_probs) if has_center else (self.probs,)
        return [score(probs, self.labels) for probs in both if probs is not None]

    def among_classes_of_dataset(self) -> "Predictions":
        """Return the probabilities among the classes of the dataset only, renormalized."""
        center = None if self.center_probs is None else within(self.center_probs, self.outputs)
        return replace(
            self,
            probs=within(self.probs, self.outputs),
            center_probs=center,
            labels=self.dataset_labels,
            classes=tuple(self.classes[label] for label in self.outputs),
            names=tuple(self.names[label] for label in self.outputs),
            outputs=tuple(range(len(self.outputs))),
        )

    def save(self, path: Path) -> None:
        """Write a predictions file atomically; create its folder if it is missing."""
        about = {
            "classes": self.classes,
            "names": self.names,
            "outputs": self.outputs,
            "dataset": self.fingerprint,
            "split": self.split,
            "views": self.views,
            "weights": self.weights_hash,
        }
        arrays: dict[str, Any] = {"keys": np.array(self.keys), "probs": self.probs}
        if self.views > 1 and self.center_probs is not None:
            arrays["center_probs"] = self.center_probs
        arrays |= {"labels": self.labels, "about": json.dumps(about)}
        path.parent.mkdir(parents=True, exist_ok=True)
        with write_atomically(path) as file:
            np.savez(file, **arrays)


def open_named(
    ref: DatasetRef,
    split: str,
    image_size: int,
    rules: DecodeRules,
    progress: Progress,
    class_names: Path | None,
) -> Dataset:
    """Open a dataset to measure a network on, its classes called as a file says, if there is one.

    Args:
        image_size, rules: of the network; the images of tars are decoded by them.
    """
    dataset = ref.open(
        (split,), fetch_now=True, image_size=image_size, rules=rules, progress=progress
    )
    return with_class_names(dataset, class_names) if class_names else dataset


def check_image_size(path: Path, image_size: int, dataset: Dataset) -> None:
    """Raise a CheckpointError if a network's images have another size than a dataset's."""
    if image_size != dataset.image_size:
        raise CheckpointError(
            f"{path}: made for {image_size}-pixel images, {dataset.name} has {dataset.image_size}."
        )


def gather(
    batches: Iterable[tuple[np.ndarray, list[np.ndarray]]], shape: tuple[int, int], num_arrays: int
) -> list[np.ndarray]:
    """Return the probabilities of all batches, float32 (N, K), zero where there are none.

    Args:
        batches: positions in the split, and `num_arrays` arrays of probabilities of these images.
    """
    arrays = [np.zeros(shape, np.float32) for _ in range(num_arrays)]
    for positions, found in batches:
        for array, probs in zip(arrays, found, strict=True):
            array[positions] = probs
    return arrays


def pack_predictions(
    dataset: Dataset,
    split_name: str,
    num_views: int,
    weights_hash: str,
    class_map: ClassMap,
    arrays: list[np.ndarray],
) -> Predictions:
    """Return predictions of the averaged probabilities and, if known, of the center view."""
    split = dataset.split(split_name)
    has_center = len(arrays) > 1 or num_views == 1
    return Predictions(
        keys=tuple(split.keys()),
        probs=arrays[0],
        center_probs=arrays[-1] if has_center else None,
        labels=class_map.labels(split.labels),
        classes=tuple(entry.wnid for entry in class_map.classes),
        names=tuple(entry.name for entry in class_map.classes),
        outputs=class_map.outputs,
        fingerprint=dataset.fingerprint,
        split=split_name,
        views=num_views,
        weights_hash=weights_hash,
    )


def load_predictions(path: Path) -> Predictions:
    """Read a predictions file.

    Raises:
        CheckpointError: if the file is missing, damaged, or something else.
    """
    if path.is_dir() or path.suffix.lower() in (".safetensors", ".onnx"):
        raise CheckpointError(
            f"{path}: a network, not a predictions file.", hint=hint("predictions_of", model=path)
        )
    advice = hint("make_predictions", path=path)
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
            about = json.loads(str(content["about"]))
            probs = content["probs"]
            center = content.get("center_probs")
            predictions = Predictions(
                keys=tuple(content["keys"].tolist()),
                probs=probs,
                center_probs=center if about["views"] > 1 else probs,
                labels=content["labels"],
                classes=tuple(about["classes"]),
                names=tuple(map(str, about.get("names", about["classes"]))),
                outputs=tuple(map(int, about.get("outputs", range(len(about["classes"]))))),
                fingerprint=about["dataset"],
                split=about["split"],
                views=about["views"],
                weights_hash=about["weights"],
            )
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror or error}.", hint=advice) from error
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
    labels, outputs = found.labels, found.outputs
    arrays = [found.probs] if found.center_probs is None else [found.probs, found.center_probs]
    if any(probs.shape != shape for probs in arrays) or labels.shape != shape[:1]:
        return "its probabilities do not fit its images and classes"
    if len(found.names) != shape[1] or not {*outputs} <= {*range(shape[1])}:
        return "its classes do not fit each other"
    if len({*outputs}) != len(outputs):
        return "two of its classes are the same output"
    if labels.dtype.kind != "i" or not np.isin(labels, outputs).all():
        return "its labels are not among its classes"
    if not all(probs.dtype.kind == "f" and np.isfinite(probs).all() for probs in arrays):
        return "its probabilities are not all finite numbers"
    if not found.keys:
        return "it has no images"
    if twice := [key for key, count in Counter(found.keys).items() if count > 1]:
        return f"some images are in it twice: {some_names(twice)}"
    # Averages of views differ from 1 by far less, logarithms and scores by more.
    if any(np.any(probs < 0) or np.any(np.abs(probs.sum(1) - 1) > 0.01) for probs in arrays):
        return "the probabilities of an image do not add up to 1"
    return ""


def in_order_of(first: Predictions, other: Predictions) -> Predictions:
    """Return the predictions of a network with its outputs in another network's order.

    They are returned as they are if the networks do not have the same classes.
    """
    if first.classes == other.classes or {*first.classes} != {*other.classes}:
        return other
    place = {wnid: label for label, wnid in enumerate(other.classes)}
    if len(place) != len(first.classes) or len(place) != len(other.classes):
        return other
    order = [place[wnid] for wnid in first.classes]
    back = np.argsort(order)
    center = other.center_probs
    return replace(
        other,
        probs=other.probs[:, order],
        center_probs=None if center is None else center[:, order],
        labels=back[other.labels],
        classes=first.classes,
        names=tuple(other.names[label] for label in order),
        outputs=tuple(back[list(other.outputs)].tolist()),
    )


def check_same_images(members: list[tuple[str, Predictions]], *, to_average: bool = True) -> None:
    """Check that members predict the same images, with the same labels.

    Args:
        members: (name for messages, predictions).
        to_average: whether they must also be different networks with the same outputs.

    Raises:
        InputError: naming the first member that differs from the first one, and in what.
    """
    first_name, first = members[0]
    seen = {first.weights_hash: first_name}
    for name, member in members[1:]:
        what = _difference(first, member, to_average)
        if what:
            raise InputError(
                f"{name} and {first_name} differ in {what}.",
                hint="Give networks and predictions of the same classes and images.",
            )
        if to_average and member.weights_hash in seen:
            raise InputError(f"{name} and {seen[member.weights_hash]} are the same network.")
        seen[member.weights_hash] = name


def _difference(first: Predictions, member: Predictions, same_classes: bool) -> str:
    """Return in what two members differ, the second one first; empty if in nothing."""
    if same_classes and (differing := first_difference(member.classes, first.classes)):
        counts = f"{len(member.classes)} and {len(first.classes)}"
        label, *wnids = differing
        return on_one_line(f"classes: {counts}; class {label} is {' and '.join(wnids)}")
    pairs: tuple[tuple[str, str | tuple[str, ...], str | tuple[str, ...]], ...] = (
        ("split", first.split, member.split),
        ("dataset", first.fingerprint, member.fingerprint),
        ("images", first.keys, member.keys),
    )
    for what, mine, theirs in pairs:
        if mine != theirs:
            return on_one_line(f"{what}: {_brief(theirs)} and {_brief(mine)}")
    if not np.array_equal(first.dataset_labels, member.dataset_labels):
        return "the labels of their images"
    return ""


def _brief(value: str | tuple[str, ...]) -> str:
    return value if isinstance(value, str) else f"{len(value)} ({value[0] if value else '-'}, ...)"
