"""`alexnet errors`: which classes a network gets wrong, what for, and how surely.

N images, K outputs of the network.
"""

import csv
import io
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from alexnet_cli.data.imagenet_classes import shown_name
from alexnet_cli.errors import UsageError
from alexnet_cli.inference.evaluate import EvalRequest, predict_dataset
from alexnet_cli.inference.metrics import topk_credit
from alexnet_cli.inference.predictions import Predictions, load_predictions
from alexnet_cli.inference.statistics import wilson_interval
from alexnet_cli.io.atomic import check_output, write_output
from alexnet_cli.io.progress import SILENT, Progress
from alexnet_cli.pretrained.names import is_predictions
from alexnet_cli.types import ImageClass


@dataclass(frozen=True, slots=True)
class ClassErrors:
    """The errors of one class, as fractions; None if it has no images.

    Attributes:
        confused_with: wnid of the wrong class that its images are taken for most often.
        confused_images: number of these images.
    """

    wnid: str
    name: str
    images: int
    top1_error: float | None
    top1_interval: tuple[float, float] | None
    top5_error: float | None
    confused_with: str | None
    confused_name: str | None
    confused_images: int


@dataclass(frozen=True, slots=True)
class ConfusedPair:
    """A class and the one that it is taken for.

    Attributes:
        images: number of images of the first class that are taken for the second.
        fraction: of the images of the first class.
    """

    wnid: str
    name: str
    predicted_wnid: str
    predicted_name: str
    images: int
    fraction: float


@dataclass(frozen=True, slots=True)
class Mistake:
    """An image that is taken for another class.

    Attributes:
        probability: of the predicted class.
        label_probability: of the image's own class.
    """

    image: str
    wnid: str
    name: str
    predicted_wnid: str
    predicted_name: str
    probability: float
    label_probability: float


@dataclass(frozen=True, slots=True)
class MistakesResult:
    """The mistakes of a network.

    Attributes:
        top1_error: as a fraction, of all images.
        classes: of the dataset, in its order.
        pairs: those with the most images first.
        mistakes: those with the highest probability first.
        csv: file to which the classes were written.
    """

    source: str
    split: str
    images: int
    top1_error: float
    classes: list[ClassErrors]
    pairs: list[ConfusedPair]
    mistakes: list[Mistake]
    csv: str | None


def find_mistakes(
    source: Path,
    request: EvalRequest | None = None,
    *,
    num_shown: int = 10,
    among_classes_of_dataset: bool = False,
    csv_path: Path | None = None,
    progress: Progress = SILENT,
) -> MistakesResult | None:
    """Find the mistakes in a predictions file, or of a model on a dataset.

    Args:
        source, request, among_classes_of_dataset: as in `find_predictions`.
        num_shown: maximum number of pairs and mistakes.
        csv_path: file to which the errors of every class are written.

    Returns:
        None in other replicas than the main one.

    Raises:
        UsageError: if a model has no dataset, or a predictions file has one.
        InputError: if the file, model or dataset cannot be used.
    """
    if csv_path:
        check_output(csv_path)
    found = find_predictions(source, request, among_classes_of_dataset, progress)
    if found is None:
        return None
    result = mistakes_in(found, str(source), num_shown, str(csv_path) if csv_path else None)
    if csv_path:
        with write_output(csv_path) as file:
            file.write(to_csv(result.classes).encode())
    return result


def find_predictions(
    source: Path,
    request: EvalRequest | None = None,
    among_classes_of_dataset: bool = False,
    progress: Progress = SILENT,
) -> Predictions | None:
    """Return the content of a predictions file, or what a model predicts on a dataset.

    Args:
        source: a predictions file, or the model of `request`.
        request: None for a predictions file.
        among_classes_of_dataset: whether to leave out what the dataset has no classes for.

    Returns:
        None in other replicas than the main one.

    Raises:
        UsageError: if a model has no dataset, or a predictions file has one.
        InputError: if the file, model or dataset cannot be used.
    """
    if is_predictions(source):
        if request:
            raise UsageError(
                f"{source} is a predictions file, which needs no dataset.",
                hint="Leave out the dataset.",
            )
        found: Predictions | None = load_predictions(source)
    elif request is None:
        raise UsageError(
            f"{source} is a network, which needs a dataset.", hint="Name it after the network."
        )
    else:
        found = predict_dataset(request, progress)
    if found and among_classes_of_dataset:
        return found.among_classes_of_dataset()
    return found


def mistakes_in(
    found: Predictions, source: str, num_shown: int = 10, csv_path: str | None = None
) -> MistakesResult:
    """Find the mistakes in predictions; arguments as in `find_mistakes`."""
    found = replace(found, names=tuple(map(shown_name, found.classes, found.names)))
    counts = confusions(found)
    return MistakesResult(
        source,
        found.split,
        len(found.keys),
        1.0 - float(topk_credit(found.probs, found.labels, 1).mean()),
        _errors_of_classes(found, counts),
        [_pair(found, *pair) for pair in counts[:num_shown]],
        _most_confident(found, num_shown),
        csv_path,
    )


def _classes(found: Predictions) -> list[ImageClass]:
    return [ImageClass(*pair) for pair in zip(found.classes, found.names, strict=True)]


def confusions(found: Predictions) -> list[tuple[int, int, int]]:
    """Return (label, predicted label, number of images) of mistakes, the most frequent first."""
    predicted = found.probs.argmax(axis=1)
    wrong = predicted != found.labels
    pairs, counts = np.unique(
        np.stack([found.labels[wrong], predicted[wrong]], axis=1), axis=0, return_counts=True
    )
    order = np.argsort(-counts, kind="stable")
    rows = np.column_stack([pairs, counts])[order].tolist()
    return [(label, other, count) for label, other, count in rows]


def _errors_of_classes(
    found: Predictions, confusions: list[tuple[int, int, int]]
) -> list[ClassErrors]:
    num_outputs, classes = len(found.classes), _classes(found)
    images = np.bincount(found.labels, minlength=num_outputs)
    wrong = [
        np.bincount(
            found.labels, 1.0 - topk_credit(found.probs, found.labels, k), minlength=num_outputs
        )
        for k in (1, 5)
    ]
    first: dict[int, tuple[int, int]] = {}
    for label, other, count in confusions:
        first.setdefault(label, (other, count))
    rows = []
    for label in found.outputs:
        num = int(images[label])
        top1, top5 = (float(errors[label]) / num if num else None for errors in wrong)
        other, count = first.get(label, (-1, 0))
        rows.append(
            ClassErrors(
                wnid=classes[label].wnid,
                name=classes[label].name,
                images=num,
                top1_error=top1,
                top1_interval=None if top1 is None else wilson_interval(top1, num),
                top5_error=top5,
                confused_with=classes[other].wnid if count else None,
                confused_name=classes[other].name if count else None,
                confused_images=count,
            )
        )
    return rows


def _pair(found: Predictions, label: int, other: int, count: int) -> ConfusedPair:
    of_class = int((found.labels == label).sum())
    classes, names = found.classes, found.names
    return ConfusedPair(
        classes[label], names[label], classes[other], names[other], count, count / of_class
    )


def _most_confident(found: Predictions, num_shown: int) -> list[Mistake]:
    rows = np.arange(len(found.labels))
    predicted = found.probs.argmax(axis=1)
    probs = found.probs[rows, predicted]
    wrong = rows[predicted != found.labels]
    order = wrong[np.argsort(-probs[wrong], kind="stable")][:num_shown]
    return [
        Mistake(
            found.keys[row],
            found.classes[found.labels[row]],
            found.names[found.labels[row]],
            found.classes[predicted[row]],
            found.names[predicted[row]],
            float(probs[row]),
            float(found.probs[row, found.labels[row]]),
        )
        for row in order.tolist()
    ]


CSV_COLUMNS = (
    "wnid", "name", "images", "top1_error", "top1_from", "top1_to", "top5_error", "confused_with",
    "confused_name", "confused_images",
)  # fmt: skip


def to_csv(classes: list[ClassErrors]) -> str:
    """Return a table with a row for each class; errors are fractions, empty without images."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for row in classes:
        low, high = row.top1_interval or (None, None)
        errors = (row.top1_error, low, high, row.top5_error)
        confused = (row.confused_with, row.confused_name, row.confused_images)
        writer.writerow([row.wnid, row.name, row.images, *errors, *confused])
    return text.getvalue()
