"""Every image of a split once through a network: center and ten-view probabilities."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch

from alexnet_cli.data.batches.loader import batches_of
from alexnet_cli.data.dataset_ref import DatasetRef
from alexnet_cli.data.shards.dataset import Dataset
from alexnet_cli.data.transforms import View
from alexnet_cli.distributed.oom_errors import ANY_DEVICE, friendly_oom_errors
from alexnet_cli.distributed.prefetch import from_device, to_device
from alexnet_cli.distributed.replicas import ALONE, Replicas
from alexnet_cli.errors import CheckpointError, DivergedError
from alexnet_cli.inference.classifier import Classifier, build_classifier, check_tensors
from alexnet_cli.inference.metrics import Scores, score_sums, scores_from_sums
from alexnet_cli.inference.predictions import Predictions
from alexnet_cli.io.progress import SILENT, Progress
from alexnet_cli.model.checkpoint import Checkpoint, load_checkpoint
from alexnet_cli.types import Batch

BATCH_SIZE = 64


def predict_with_checkpoint(
    path: Path,
    location: DatasetRef | Path,
    split_name: str,
    *,
    num_views: int,
    devices: tuple[torch.device, ...],
    precision: str = "fp32",
    replicas: Replicas = ALONE,
    progress: Progress = SILENT,
) -> Predictions:
    """Load a checkpoint and a dataset that fit each other, and predict a split.

    Args:
        precision: of the forward pass, one of `PRECISIONS`.

    Raises:
        AlexNetError: one of them cannot be used, they have other classes or image sizes, the
            memory is full, or the GPU failed.
    """
    checkpoint, dataset = open_pair(path, location, split_name, progress)
    with friendly_oom_errors(BATCH_SIZE, ANY_DEVICE):
        classifier = build_classifier(checkpoint, devices, path, precision)
        return predict_split(
            classifier,
            dataset,
            split_name,
            num_views=num_views,
            weights_hash=checkpoint.weights_hash(),
            replicas=replicas,
            progress=progress,
        )


def announce_with_checkpoint(
    path: Path, location: DatasetRef | Path, split_name: str, *, num_views: int
) -> Predictions:
    """Return what `predict_with_checkpoint` would, without probabilities: all its checks.

    Raises:
        AlexNetError: as that.
    """
    checkpoint, dataset = open_pair(path, location, split_name, SILENT)
    with friendly_oom_errors(BATCH_SIZE, ANY_DEVICE):
        build_classifier(checkpoint, (torch.device("cpu"),), path)
    none = np.zeros((0, len(dataset.classes)), np.float32)
    return _predictions(dataset, split_name, num_views, checkpoint.weights_hash(), none, none)


def open_pair(
    path: Path, location: DatasetRef | Path, split_name: str, progress: Progress = SILENT
) -> tuple[Checkpoint, Dataset]:
    """Read a checkpoint and open a dataset whose classes and image size fit it.

    Raises:
        AlexNetError: one of them cannot be used, or they do not fit each other.
    """
    checkpoint = load_checkpoint(path)
    check_tensors(checkpoint, path)
    size = len(checkpoint.pixels["mean_image"])
    dataset = DatasetRef.parse(location).open(
        (split_name,), fetch_now=True, image_size=size, progress=progress
    )
    _check_fit(path, checkpoint, dataset)
    return checkpoint, dataset


def _check_fit(path: Path, checkpoint: Checkpoint, dataset: Dataset) -> None:
    wnids = [wnid for wnid, _ in checkpoint.classes]
    theirs = [entry.wnid for entry in dataset.classes]
    hint = "\nSay what the labels mean: --classes FILE" if dataset.streamed else ""
    if len(wnids) != len(theirs):
        raise CheckpointError(
            f"{path}: made for {len(wnids)} classes, {dataset.name} has {len(theirs)}.{hint}"
        )
    for label, (mine, other) in enumerate(zip(wnids, theirs, strict=True)):
        if mine != other:
            raise CheckpointError(
                f"{path}: its class {label} is {mine}, that of {dataset.name} is {other}.{hint}"
            )
    size = len(checkpoint.pixels["mean_image"])
    if size != dataset.image_size:
        raise CheckpointError(
            f"{path}: made for {size}-pixel images, {dataset.name} has {dataset.image_size}."
        )


def _averages(
    classifier: Classifier,
    views: list[View],
    batches: Iterable[Batch],
    before_batch: Callable[[], None],
) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
    """Yield every batch's positions and probabilities (N, K).

    These are the mean over the views, and with several views also those of the center view.
    They are waited for when the next batch is under way, so that a GPU always has work.
    """
    center, done = views.index(classifier.augmenter.center), []
    on_their_way: deque[np.ndarray] = deque()  # positions of batches that are being copied

    def noting_positions() -> Iterator[Batch]:
        for batch in batches:
            on_their_way.append(batch.positions)
            yield batch

    for images, _ in to_device(noting_positions(), classifier.augmenter.device):
        before_batch()
        probs_VNK = classifier.on_device(images, views)
        found = [probs_VNK.mean(dim=0), probs_VNK[center]] if len(views) > 1 else [probs_VNK[0]]
        done.append((on_their_way.popleft(), from_device(*found)))
        if len(done) > 1:
            positions, wait = done.pop(0)
            yield positions, wait()
    for positions, wait in done:
        yield positions, wait()


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
    """Yield positions and probabilities of this replica's share of a split, as `_averages`.

    Raises:
        DatasetError: the split is empty or damaged.
        DivergedError: the network's scores overflow.
    """
    split, views = dataset.split(split_name), classifier.views(num_views)
    what = f"{split_name}, {num_views} view{'s' if num_views > 1 else ''}"
    size, share = BATCH_SIZE * replicas.count, replicas.share
    with progress.track(what, -(-len(split) // replicas.count)) as bar:
        batches = batches_of(split, size, share=share)
        for positions, probs in _averages(classifier, views, batches, before_batch):
            if not np.isfinite(probs[0]).all():
                raise DivergedError(f"the network's scores of {split_name} are not finite")
            yield positions, probs
            bar.advance(len(positions))


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
    """Return the scores of all images of a split, which take no memory that grows with it.

    Args:
        replicas: who share the images; each gets the scores of all.
        before_batch: called before every batch; what it raises ends the work.

    Returns:
        The scores of the averaged probabilities, and with several views those of the center view.

    Raises:
        DatasetError: the split is empty or damaged.
        DivergedError: the network's scores overflow.
    """
    labels = dataset.split(split_name).labels
    sums = np.zeros((2 if num_views > 1 else 1, 4))
    how = {"num_views": num_views, "replicas": replicas, "progress": progress}
    how |= {"before_batch": before_batch}
    for positions, found in _probabilities(classifier, dataset, split_name, **how):
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
        replicas: who share the images; each gets the probabilities of all.

    Raises:
        DatasetError: the split is empty or damaged.
        DivergedError: the network's scores overflow.
    """
    shape = (len(dataset.split(split_name)), len(dataset.classes))
    arrays = [np.zeros(shape, np.float32) for _ in range(2 if num_views > 1 else 1)]
    how = {"num_views": num_views, "replicas": replicas, "progress": progress}
    for positions, found in _probabilities(classifier, dataset, split_name, **how):
        for array, probs in zip(arrays, found, strict=True):
            array[positions] = probs
    for array in arrays:  # each row by one replica, the others' are zero
        replicas.all_reduce(torch.from_numpy(array))
    return _predictions(dataset, split_name, num_views, weights_hash, arrays[0], arrays[-1])


def _predictions(
    dataset: Dataset,
    split_name: str,
    num_views: int,
    weights_hash: str,
    probs: np.ndarray,
    center_probs: np.ndarray,
) -> Predictions:
    split = dataset.split(split_name)
    return Predictions(
        keys=tuple(split.keys()),
        probs=probs,
        center_probs=center_probs,
        labels=split.labels,
        classes=tuple(entry.wnid for entry in dataset.classes),
        fingerprint=dataset.fingerprint,
        split=split_name,
        views=num_views,
        weights_hash=weights_hash,
    )
