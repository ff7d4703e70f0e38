"""What the last hidden layer answers to images: 4096 numbers for the paper's network (section 6.1).

N images, B of them in a batch, U units of the layer.
"""

from collections.abc import Iterable, Iterator
from threading import get_ident

import numpy as np
import torch
from torch import Tensor

from alexnet_cli.data.batches.loader import batches_of
from alexnet_cli.data.shards.dataset import Split
from alexnet_cli.distributed.prefetch import to_device
from alexnet_cli.inference.classifier import Classifier
from alexnet_cli.io.progress import SILENT, Progress
from alexnet_cli.model.architecture import last_hidden_layer

BATCH_SIZE = 64


@torch.inference_mode()
def features_of(classifier: Classifier, images: Tensor, layer: str | None = None) -> Tensor:
    """Return a layer's output for the center views of uint8 RGB (N, H, W, 3): float32 (N, ...).

    By default that of the last hidden layer, float32 (N, U), not halved as dropout's factor would
    do (2012 code: FEATURE_GEN pass); distances keep their order.
    """
    net = classifier.net
    net.eval()
    seen: list[Tensor] = []
    module = net.get_submodule(layer or last_hidden_layer(net.recipe, net.num_classes))
    thread = get_ident()  # others may be using the same network

    def keep(_module: torch.nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if get_ident() == thread:
            seen.append(output)

    handle = module.register_forward_hook(keep)
    try:
        net(classifier.augmenter.view(images, classifier.augmenter.center))
    finally:
        handle.remove()
    return seen[0].float()


def features_of_split(
    classifier: Classifier, split: Split, progress: Progress = SILENT
) -> Iterator[np.ndarray]:
    """Yield the features of all images of a split in stored order, float32 (B, U) at a time.

    Raises:
        DatasetError, MachineError: if images are damaged or cannot be read.
    """
    with progress.track(f"features of {split.name}", len(split)) as bar:
        batches = batches_of(split, BATCH_SIZE)
        for images, _ in to_device(batches, classifier.augmenter.device):
            yield features_of(classifier, images).cpu().numpy()
            bar.advance(len(images))


def nearest(queries: np.ndarray, blocks: Iterable[np.ndarray], count: int) -> np.ndarray:
    """Return the features nearest to each query by Euclidean distance, nearest first.

    Only the nearest so far are kept, so that memory does not grow with the number of features.

    Args:
        queries: (Q, U).
        blocks: the features, (B, U) at a time.

    Returns:
        int64 (Q, count) of positions among all features; of equal distances the lower one first.
    """
    queries = queries.astype(np.float64)
    distances = np.empty((len(queries), 0))
    positions = np.empty((len(queries), 0), np.int64)
    start = 0
    for block in blocks:
        features = block.astype(np.float64)
        # |q - f|^2 without |q|^2, which is the same for all f of a query.
        new = np.square(features).sum(axis=1) - 2 * (queries @ features.T)
        places = np.broadcast_to(np.arange(start, start + len(block)), new.shape)
        start += len(block)
        distances = np.concatenate([distances, new], axis=1)
        positions = np.concatenate([positions, places], axis=1)
        order = np.argsort(distances, axis=1, kind="stable")[:, :count]
        distances = np.take_along_axis(distances, order, axis=1)
        positions = np.take_along_axis(positions, order, axis=1)
    return positions
