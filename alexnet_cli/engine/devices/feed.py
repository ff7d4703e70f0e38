"""Batches on their way to the device, ahead of the step that needs them; results on theirs back."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from alexnet_cli.data.augment import sent
from alexnet_cli.data.loader import Batch

OnDevice = tuple[Tensor, Tensor]


def to_device(batches: Iterable[Batch], device: torch.device) -> Iterator[OnDevice]:
    """Yield images uint8 (N, H, W, 3) and labels int64 (N,) on the device.

    On a GPU each batch is copied from pinned memory on a stream of its own, while the step before
    it computes.
    """
    if device.type != "cuda":
        for batch in batches:
            yield torch.from_numpy(batch.images), torch.from_numpy(batch.labels)
        return
    stream, ahead = torch.cuda.Stream(device), None
    for batch in batches:
        with torch.cuda.stream(stream):
            copies = [sent(array, device) for array in (batch.images, batch.labels)]
            copied = stream.record_event()
        if ahead:
            yield _arrived(*ahead, device)
        ahead = copies, copied
    if ahead:
        yield _arrived(*ahead, device)


def _arrived(copies: list[Tensor], copied: torch.cuda.Event, device: torch.device) -> OnDevice:
    """Let the computing stream wait for a copy, and keep the memory until it is done with it."""
    computing = torch.cuda.current_stream(device)
    computing.wait_event(copied)
    for copy in copies:
        copy.record_stream(computing)
    return copies[0], copies[1]


def from_device(*tensors: Tensor) -> Callable[[], list[np.ndarray]]:
    """Begin to copy tensors of one device, and return a call that waits for them and gives them.

    It waits for no work that a GPU is given later.
    """
    copies = [tensor.to("cpu", non_blocking=True) for tensor in tensors]
    copied = None
    if tensors[0].is_cuda:
        copied = torch.cuda.current_stream(tensors[0].device).record_event()

    def wait() -> list[np.ndarray]:
        if copied:
            copied.synchronize()
        return [copy.numpy() for copy in copies]

    return wait
