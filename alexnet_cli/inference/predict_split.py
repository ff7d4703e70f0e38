"""Every image of a split once through a network: center-view and ten-view probabilities."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch

from alexnet_cli.data.batches.loader import batches_of
from alexnet_cli.data.dataset_ref import DatasetRef
from alexnet_cli.data.shards.dataset import Dataset
from alexnet_cli.distributed.prefetch import from_device, to_device
from alexnet_cli.distributed.replicas import ALONE, Replicas
from alexnet_cli.errors import CheckpointError, DivergedError, hint
from alexnet_cli.inference.classifier import Classifier, check_tensors
from alexnet_cli.inference.metrics import Scores, score_sums, scores_from_sums
from alexnet_cli.inference.predictions import Predictions
from alexnet_cli.io.progress import SILENT, Progress
from alexnet_cli.model.checkpoint import Checkpoint, load_checkpoint
from alexnet_cli.types import Batch

BATCH_SIZE = 64
FREE_MEMORY = hint("free_memory")


def open_pair(
    path: Path, ref: DatasetRef, split_name: str, progress: Progress = SILENT
) -> tuple[Checkpoint, Dataset]:
    """Load a checkpoint and open a dataset with the same classes and image size.

    Raises:
        AlexNetError: if one of them cannot be used, or they do not fit each other.
    """
    checkpoint = load_checkpoint(path)
    check_tensors(checkpoint, path)
    size = len(checkpoint.pixels["mean_image"])
    dataset = ref.open(
        (split_name,),
        fetch_now=True,
        image_size=size,
        rules=checkpoint.rules,
        progress=progress,
    )
    check_fit(path, checkpoint, dataset)
    return checkpoint, dataset


def check_fit(path: Path, checkpoint: Checkpoint, dataset: Dataset) -> None:
    """Check that a checkpoint and a dataset have the same classes and image size.

    Raises:
        CheckpointError: if they differ.
    """
    check_classes(path, [wnid for wnid, _ in checkpoint.classes], dataset)
    size = len(checkpoint.pixels["mean_image"])
    if size != dataset.image_size:
        raise CheckpointError(
            f"{path}: made for {size}-pixel images, {dataset.name} has {dataset.image_size}."
        )


def check_classes(path: Path, wnids: list[str], dataset: Dataset) -> None:
    """Check that a dataset has the classes of a checkpoint, in the same order.

    Raises:
        CheckpointError: if they differ.
    """
    theirs = [entry.wnid for entry in dataset.classes]
    advice = hint("name_classes") if dataset.streamed else None
    if len(wnids) != len(theirs):
        raise CheckpointError(
            f"{path}: made for {len(wnids)} classes, {dataset.name} has {len(theirs)}.", hint=advice
        )
    for label, (mine, other) in enumerate(zip(wnids, theirs, strict=True)):
        if mine != other:
            raise CheckpointError(
                f"{path}: its class {label} is {mine}, that of {dataset.name} is {other}.",
                hint=advice,
            )


def _probabilities(
    classifier: Classifier,
    dataset: Dataset,
    split_name: str,
    *,
    num_views: int,
    replicas: Replicas,
    progress: Progress,
    before_batch: Callable[[], None] = lambda: None,
) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
    """Yield positions and probabilities (N, K) of this replica's batches of a split.

    These are the mean over the views and, with several views, also those of the center view. The
    results of a batch are awaited after the next one was launched, so that a GPU is never idle.

    Raises:
        DatasetError: if the split is empty or damaged.
        DivergedError: if the network's scores overflow.
    """
    split = dataset.split(split_name)
    views = classifier.views(num_views)
    center = views.index(classifier.augmenter.center)
    what = f"{split_name}, {num_views} view{'s' if num_views > 1 else ''}"
    size = BATCH_SIZE * replicas.world_size
    read: deque[np.ndarray] = deque()  # positions of batches that are being copied
    launched: deque[tuple[np.ndarray, Callable[[], list[np.ndarray]]]] = deque()

    def note_positions(batches: Iterable[Batch]) -> Iterator[Batch]:
        for batch in batches:
            read.append(batch.positions)
            yield batch

    with progress.track(what, -(-len(split) // replicas.world_size)) as bar:

        def finish() -> tuple[np.ndarray, list[np.ndarray]]:
            positions, wait = launched.popleft()
            probs = wait()
            if not np.isfinite(probs[0]).all():
                raise DivergedError(f"the network's scores of {split_name} are not finite")
            bar.advance(len(positions))
            return positions, probs

        batches = note_positions(batches_of(split, size, share=replicas.share))
        for images, _ in to_device(batches, classifier.augmenter.device):
            before_batch()
            probs_VNK = classifier.on_device(images, views)
            found = [probs_VNK.mean(dim=0), probs_VNK[center]] if num_views > 1 else [probs_VNK[0]]
            launched.append((read.popleft(), from_device(*found)))
            if len(launched) > 1:
                yield finish()
        while launched:
            yield finish()


def score_split(
    classifier: Classifier,
    dataset: Dataset,
    split_name: str,
    *,
    num_views: int,
    replicas: Replicas = ALONE,
    progress: Progress = SILENT,
    before_batch: Callable[[], None] = lambda: None,
) -> list[Scores]:
    """Return the scores of all images of a split, in memory that does not grow with the split.

    Args:
        replicas: share the images; each returns the scores of all images.
        before_batch: called before every batch.

    Returns:
        The scores of the averaged probabilities and, with several views, of the center view.

    Raises:
        DatasetError: if the split is empty or damaged.
        DivergedError: if the network's scores overflow.
    """
    labels = dataset.split(split_name).labels
    sums = np.zeros((2 if num_views > 1 else 1, 4))
    probabilities = _probabilities(
        classifier,
        dataset,
        split_name,
        num_views=num_views,
        replicas=replicas,
        progress=progress,
        before_batch=before_batch,
    )
    for positions, found in probabilities:
        sums += [score_sums(probs, labels[positions]) for probs in found]
    replicas.all_reduce(torch.from_numpy(sums))
    return [scores_from_sums(of_view) for of_view in sums]


def predict_split(
    classifier: Classifier,
    dataset: Dataset,
    split_name: str,
    *,
    num_views: int,
    weights_hash: str = "",
    replicas: Replicas = ALONE,
    progress: Progress = SILENT,
) -> Predictions:
    """Return the probabilities of all images of a split, in stored order.

    Probabilities, not scores, are averaged over the views (2012 code, layer.cu:1809).

    Args:
        replicas: share the images; each returns the probabilities of all images.

    Raises:
        DatasetError: if the split is empty or damaged.
        DivergedError: if the network's scores overflow.
    """
    shape = (len(dataset.split(split_name)), len(dataset.classes))
    arrays = [np.zeros(shape, np.float32) for _ in range(2 if num_views > 1 else 1)]
    probabilities = _probabilities(
        classifier, dataset, split_name, num_views=num_views, replicas=replicas, progress=progress
    )
    for positions, found in probabilities:
        for array, probs in zip(arrays, found, strict=True):
            array[positions] = probs
    for array in arrays:  # each row is computed by one replica, and zero in the others
        replicas.all_reduce(torch.from_numpy(array))
    return pack_predictions(dataset, split_name, num_views, weights_hash, arrays)


def pack_predictions(
    dataset: Dataset, split_name: str, num_views: int, weights_hash: str, arrays: list[np.ndarray]
) -> Predictions:
    """Return predictions with averaged probabilities first in `arrays`, the center view's last."""
    split = dataset.split(split_name)
    return Predictions(
        keys=tuple(split.keys()),
        probs=arrays[0],
        center_probs=arrays[-1],
        labels=split.labels,
        classes=tuple(entry.wnid for entry in dataset.classes),
        fingerprint=dataset.fingerprint,
        split=split_name,
        views=num_views,
        weights_hash=weights_hash,
    )
