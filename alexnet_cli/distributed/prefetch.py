"""Prefetching of batches to a device, and asynchronous copies of results."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

import numpy as np
import torch
from torch import Tensor

from alexnet_cli.data.batches.buffers import Buffers
from alexnet_cli.data.batches.readers import (
    ProcessReader,
    Reader,
    ThreadReader,
    can_share_memory,
)
from alexnet_cli.data.remote.stream import StreamSplit
from alexnet_cli.data.shards.dataset import Split
from alexnet_cli.data.transforms import copy_async
from alexnet_cli.io.starting import shared_memory_fault
from alexnet_cli.types import Batch

OnDevice = tuple[Tensor, Tensor]
MIN_PROCESSES = 4  # minimum number of cores for reading by processes for a GPU


def to_device(batches: Iterable[Batch], device: torch.device) -> Iterator[OnDevice]:
    """Yield images uint8 (N, H, W, 3) and labels int64 (N,) on the device.

    For a GPU each batch is copied from pinned memory on a separate stream during the step before.
    A batch is held until its copy is complete, so that its memory is not reused.
    """
    if device.type != "cuda":
        for batch in batches:
            yield copy_async(batch.images, device), copy_async(batch.labels, device)
        return
    stream = torch.cuda.Stream(device)
    ahead = None
    with HeldBatches() as held:
        for batch in batches:
            with torch.cuda.stream(stream):
                copies = [copy_async(array, device) for array in (batch.images, batch.labels)]
                copied = stream.record_event()
            held.add(batch, copied)
            if ahead:
                yield _arrived(*ahead, device)
            ahead = copies, copied
        if ahead:
            yield _arrived(*ahead, device)


class HeldBatches:
    """Batches whose copies to a GPU are not complete."""

    def __init__(self) -> None:
        self._held: deque[tuple[Batch, torch.cuda.Event]] = deque()

    def __enter__(self) -> "HeldBatches":
        return self

    def __exit__(self, *_error: object) -> None:
        for _, copied in self._held:
            copied.synchronize()
        self._held.clear()

    def add(self, batch: Batch, copied: torch.cuda.Event) -> None:
        """Hold a batch until `copied`, and release those whose copies are complete."""
        self._held.append((batch, copied))
        while self._held and self._held[0][1].query():
            self._held.popleft()


@contextmanager
def open_reader(
    split: Split | StreamSplit, device: torch.device, num_threads: int
) -> Iterator[Reader]:
    """Open a reader of a split's batches for a device, for any number of epochs.

    For a GPU images are read into pinned memory and, on many cores, by processes where these can
    share locks: threads that decode would hold the GIL that the thread which launches the GPU's
    work needs.
    """
    if device.type != "cuda":
        with ThreadReader(num_threads) as reader:
            yield reader
    elif (
        num_threads < MIN_PROCESSES
        or isinstance(split, StreamSplit)
        or not can_share_memory()
        or shared_memory_fault()
    ):
        with ThreadReader(num_threads, Buffers(_pinned_memory)) as reader:
            yield reader
    else:
        pinned: list[np.ndarray] = []
        with ProcessReader(split, num_threads, partial(_pin, pinned, device)) as reader:
            try:
                yield reader
            finally:
                torch.cuda.synchronize(device)
                for block in pinned:
                    torch.cuda.cudart().cudaHostUnregister(block.ctypes.data)


def _pinned_memory(num_bytes: int) -> np.ndarray:
    return torch.empty(num_bytes, dtype=torch.uint8, pin_memory=True).numpy()


def _pin(pinned: list[np.ndarray], device: torch.device, block: np.ndarray) -> None:
    """Pin memory that is shared by processes; if that fails, copies are slower but correct."""
    error = torch.cuda.cudart().cudaHostRegister(block.ctypes.data, block.nbytes, 0)
    if int(error) == 0:
        pinned.append(block)
        return
    with suppress(RuntimeError):  # CUDA reports the error once more at the next call
        torch.zeros(1, device=device)


def _arrived(copies: list[Tensor], copied: torch.cuda.Event, device: torch.device) -> OnDevice:
    """Make the compute stream wait for a copy, and keep the memory until the stream has used it."""
    computing = torch.cuda.current_stream(device)
    computing.wait_event(copied)
    for copy in copies:
        copy.record_stream(computing)
    return copies[0], copies[1]


def from_device(*tensors: Tensor) -> Callable[[], list[np.ndarray]]:
    """Begin to copy tensors of one device; return a call that waits and returns the arrays.

    It does not wait for work that is launched on the GPU afterwards.
    """
    # Other devices report no event after which an asynchronous copy is complete.
    copies = [tensor.to("cpu", non_blocking=tensor.is_cuda) for tensor in tensors]
    copied = None
    if tensors[0].is_cuda:
        copied = torch.cuda.current_stream(tensors[0].device).record_event()

    def wait() -> list[np.ndarray]:
        if copied:
            copied.synchronize()
        return [copy.numpy() for copy in copies]

    return wait
