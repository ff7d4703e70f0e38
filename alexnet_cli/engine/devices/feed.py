"""Batches on their way to the device: copied ahead of the step that needs them."""

from collections.abc import Iterable, Iterator

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
