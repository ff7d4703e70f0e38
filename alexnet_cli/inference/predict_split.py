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
from alexnet_cli.errors import CheckpointError, DivergedError, counted, hint, on_one_line
from alexnet_cli.inference.class_map import ClassMap, first_difference, map_classes, same_classes
from alexnet_cli.inference.classifier import Classifier, check_tensors
from alexnet_cli.inference.metrics import Scores, scores_from_sums, sums_of_batches
from alexnet_cli.inference.network import load_network
from alexnet_cli.inference.predictions import (
    Predictions,
    check_image_size,
    gather,
    open_named,
    pack_predictions,
)
from alexnet_cli.io.progress import SILENT, Progress
from alexnet_cli.model.checkpoint import Checkpoint
from alexnet_cli.types import Batch

BATCH_SIZE = 64
FREE_MEMORY = hint("free_memory")


def open_pair(
    path: Path,
    ref: DatasetRef,
    split_name: str,
    progress: Progress = SILENT,
    class_names: Path | None = None,
) -> tuple[Checkpoint, Dataset, ClassMap]:
    """Load a network, open a dataset, and find the class of each in the other.

    Args:
        class_names: file of the names of the dataset's classes, as in `with_class_names`.

    Raises:
        AlexNetError: if one of them cannot be used, or they do not fit each other.
    """
    checkpoint = load_network(path)
    check_tensors(checkpoint, path)
    size = len(checkpoint.pixels["mean_image"])
    dataset = open_named(ref, split_name, size, checkpoint.rules, progress, class_names)
    class_map = map_classes(str(path), checkpoint.classes, dataset)
    check_image_size(path, size, dataset)
    return checkpoint, dataset, class_map


def check_fit(path: Path, checkpoint: Checkpoint, dataset: Dataset) -> None:
    """Check that a checkpoint and a dataset have the same list of classes and image size.

    Raises:
        CheckpointError: if they differ.
    """
    wnids = [entry.wnid for entry in dataset.classes]
    if differing := first_difference([wnid for wnid, _ in checkpoint.classes], wnids):
        label, mine, other = differing
        raise CheckpointError(
            f"{path} and {dataset.name} have {len(checkpoint.classes)} and {len(wnids)} classes: "
            f"class {label} is {on_one_line(mine)} and {on_one_line(other)}."
        )
    check_image_size(path, len(checkpoint.pixels["mean_image"]), dataset)


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
    what = f"{split_name}, {counted(num_views, 'view')}"
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
    class_map: ClassMap | None = None,
) -> list[Scores]:
    """Return the scores of all images of a split, in memory that does not grow with the split.

    Args:
        replicas: share the images; each returns the scores of all images.
        before_batch: called before every batch.
        class_map: of a dataset that has not the network's own classes.

    Returns:
        The scores of the averaged probabilities and, with several views, of the center view; then,
        if the dataset has some of the network's classes only, the same among these classes.

    Raises:
        DatasetError: if the split is empty or damaged.
        DivergedError: if the network's scores overflow.
    """
    labels = dataset.split(split_name).labels
    probabilities = _probabilities(
        classifier,
        dataset,
        split_name,
        num_views=num_views,
        replicas=replicas,
        progress=progress,
        before_batch=before_batch,
    )
    class_map = class_map or same_classes(dataset.classes)
    sums = sums_of_batches(probabilities, labels, class_map, 2 if num_views > 1 else 1)
    sums = sums.reshape(-1, 4)
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
    class_map: ClassMap | None = None,
) -> Predictions:
    """Return the probabilities of all images of a split, in stored order.

    Probabilities, not scores, are averaged over the views (2012 code, layer.cu:1809).

    Args:
        replicas: share the images; each returns the probabilities of all images.
        class_map: of a dataset that has not the network's own classes.

    Raises:
        DatasetError: if the split is empty or damaged.
        DivergedError: if the network's scores overflow.
    """
    class_map = class_map or same_classes(dataset.classes)
    probabilities = _probabilities(
        classifier, dataset, split_name, num_views=num_views, replicas=replicas, progress=progress
    )
    shape = (len(dataset.split(split_name)), len(class_map.classes))
    arrays = gather(probabilities, shape, 2 if num_views > 1 else 1)
    for array in arrays:  # each row is computed by one replica, and zero in the others
        replicas.all_reduce(torch.from_numpy(array))
    return pack_predictions(dataset, split_name, num_views, weights_hash, class_map, arrays)
