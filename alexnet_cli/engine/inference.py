"""Every image of a split once through a network: centre and ten-view probabilities."""

from collections.abc import Callable, Iterable, Iterator
from itertools import tee
from pathlib import Path

import numpy as np
import torch

from alexnet_cli.data.augment import View
from alexnet_cli.data.loader import Batch
from alexnet_cli.data.passes import batches_of
from alexnet_cli.data.predictions import Predictions
from alexnet_cli.data.shards.dataset import Dataset
from alexnet_cli.data.sources import Location, open_source
from alexnet_cli.engine.classifier import Classifier, load_classifier
from alexnet_cli.engine.devices.faults import ANY_DEVICE, told
from alexnet_cli.engine.devices.feed import from_device, to_device
from alexnet_cli.engine.devices.replicas import ALONE, Replicas
from alexnet_cli.errors import CheckpointError, DivergedError
from alexnet_cli.model.checkpoint import Checkpoint
from alexnet_cli.progress import SILENT, Progress

BATCH_SIZE = 64


def predict_with_checkpoint(
    path: Path,
    location: Location,
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
        AlexNetError: one of them cannot be used, they have other classes or picture sizes, the
            memory is full, or the GPU failed.
    """
    with told(BATCH_SIZE, ANY_DEVICE):
        classifier, checkpoint, dataset = _open_pair(
            path, location, split_name, devices, progress, precision
        )
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
    path: Path, location: Location, split_name: str, *, num_views: int
) -> Predictions:
    """Return what `predict_with_checkpoint` would, without probabilities: all its checks.

    Raises:
        AlexNetError: as that.
    """
    here = (torch.device("cpu"),)
    with told(BATCH_SIZE, ANY_DEVICE):
        _, checkpoint, dataset = _open_pair(path, location, split_name, here, SILENT)
    none = np.zeros((0, len(dataset.classes)), np.float32)
    return _predictions(dataset, split_name, num_views, checkpoint.weights_hash(), none, none)


def _open_pair(
    path: Path,
    location: Location,
    split_name: str,
    devices: tuple[torch.device, ...],
    progress: Progress,
    precision: str = "fp32",
) -> tuple[Classifier, Checkpoint, Dataset]:
    classifier, checkpoint = load_classifier(path, devices, precision)
    size = len(checkpoint.pixels["mean_image"])
    dataset = open_source(location, (split_name,), image_size=size, progress=progress)
    _check_fit(path, checkpoint, dataset)
    return classifier, checkpoint, dataset


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
            f"{path}: made for {size}-pixel pictures, {dataset.name} has {dataset.image_size}."
        )


def _averages(
    classifier: Classifier,
    views: list[View],
    batches: Iterable[Batch],
    before_batch: Callable[[], None],
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield positions, mean and centre probabilities (N, K) of every batch.

    They are waited for when the next batch is under way, so that a GPU always has work.
    """
    center, done = views.index(classifier.augmenter.center), []
    whole, to_send = tee(batches)
    sent = to_device(to_send, classifier.augmenter.device)
    for batch, (images, _) in zip(whole, sent, strict=True):
        before_batch()
        probs_VNK = classifier.on_device(images, views)
        done.append((batch.positions, from_device(probs_VNK.mean(dim=0), probs_VNK[center])))
        if len(done) > 1:
            positions, wait = done.pop(0)
            yield positions, *wait()
    for positions, wait in done:
        yield positions, *wait()


def predict_split(
    classifier: Classifier,
    dataset: Dataset,
    split_name: str,
    *,
    num_views: int,
    weights_hash: str = "",
    replicas: Replicas = ALONE,
    progress: Progress = SILENT,
    before_batch: Callable[[], None] = lambda: None,
) -> Predictions:
    """Return the probabilities of all images of a split, in stored order.

    Probabilities, not scores, are averaged over the views (2012 code, layer.cu:1809).

    Args:
        replicas: who share the images; each gets the probabilities of all.
        before_batch: called before every batch; what it raises ends the work.

    Raises:
        DatasetError: the split is empty or damaged.
        DivergedError: the network's scores overflow.
    """
    split, views = dataset.split(split_name), classifier.views(num_views)
    shape = (len(split), len(dataset.classes))
    probs, center_probs = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    what = f"{split_name}, {num_views} view{'s'[: num_views > 1]}"
    size, share = BATCH_SIZE * replicas.count, replicas.share
    with progress.track(what, -(-len(split) // replicas.count)) as bar:
        batches = batches_of(split, size, share=share)
        for positions, mean, central in _averages(classifier, views, batches, before_batch):
            if not np.isfinite(mean).all():
                raise DivergedError(f"the network's scores of {split_name} are not finite")
            probs[positions], center_probs[positions] = mean, central
            bar.advance(len(positions))
    for filled in (probs, center_probs):  # each row by one replica, the others' are zero
        replicas.add_up(torch.from_numpy(filled))
    return _predictions(dataset, split_name, num_views, weights_hash, probs, center_probs)


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
