"""Threads or processes that read the images of batches into memory that is reused.

Many threads that decode take the GIL from the thread that launches a GPU's work. Processes do not:
this process sends one message per chunk of images and receives one.

N images of a batch, H and W the dataset's image size (256).
"""

import math
import mmap
import multiprocessing
import os
import signal
import struct
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import connection
from multiprocessing.synchronize import Lock
from typing import Any

import numpy as np

from alexnet_cli.data.batches.buffers import Buffers
from alexnet_cli.data.shards.dataset import Split
from alexnet_cli.data.shards.images import RawImages, ShardImages
from alexnet_cli.errors import AlexNetError, MachineError, hint
from alexnet_cli.io.cores import memory_limit, num_cores
from alexnet_cli.io.signals import SAVE_AND_STOP, known_signals
from alexnet_cli.io.starting import starting, without_main
from alexnet_cli.types import Batch

BATCHES_AHEAD = 3  # read while one is used
SHARE_AHEAD = 1 / 8  # of a container's memory, for batches read ahead
CHUNK = 16  # images that a thread or process reads at a time
MAX_PROCESSES = 64  # their results for all batches in progress must fit into one pipe
PIPE_BYTES = 1 << 20
CHECK_SECONDS = 1.0  # between two checks that all processes are alive
STOP_SECONDS = 1.0  # given to processes to finish what they started
NICENESS = 5  # the thread that launches the work of a GPU has priority over decoding
_TASK = struct.Struct("<4q")  # reading, offset and length of its block, first image; then rows


@dataclass(frozen=True, slots=True)
class ThreadReading:
    """Images uint8 RGB (N, H, W, 3) that threads are reading; complete after `wait`."""

    images: np.ndarray
    futures: list[Future]

    def wait(self) -> None:
        """Wait for all images; raises the error of the first chunk that failed."""
        for future in self.futures:
            future.result()

    def cancel(self) -> None:
        """Skip the chunks that have not been started."""
        for future in self.futures:
            future.cancel()


class ThreadReader:
    """Reads with threads; decoding releases the GIL, the code around it does not.

    Attributes:
        buffers: the memory of the images, which may be kept after the reader is closed.
    """

    def __init__(self, num_threads: int | None = None, buffers: Buffers | None = None):
        self.buffers = buffers or Buffers()
        self._pool = ThreadPoolExecutor(num_threads or num_cores())

    def __enter__(self) -> "ThreadReader":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def start(self, split: Split, positions: np.ndarray) -> ThreadReading:
        """Start to read the samples at some positions, int64 (N,)."""
        images = self.buffers.empty((len(positions), split.image_size, split.image_size, 3))
        rows, read_into = split.rows(positions), split.images.read_into
        chunks = [slice(first, first + CHUNK) for first in range(0, len(rows), CHUNK)]
        futures = [self._pool.submit(read_into, rows[chunk], images[chunk]) for chunk in chunks]
        return ThreadReading(images, futures)


def can_share_memory() -> bool:
    """Return whether processes can read into memory of this one; on Linux."""
    return hasattr(os, "memfd_create")


class SharedBuffers(Buffers):
    """A ring of memory that other processes can map.

    Attributes:
        descriptor: of the memory, a file without a name, which holds one block after the other.
    """

    def __init__(self, on_new: Callable[[np.ndarray], None] = lambda block: None):
        super().__init__(self._map_new, max_free=None)
        self.descriptor = os.memfd_create("alexnet-batches")
        self._on_new, self._end = on_new, 0
        self._blocks: list[np.ndarray] = []  # they stay mapped, as they may be pinned
        self._places: dict[int, tuple[int, int]] = {}

    def _map_new(self, num_bytes: int) -> np.ndarray:
        length = max(1, math.ceil(num_bytes / mmap.PAGESIZE)) * mmap.PAGESIZE
        os.ftruncate(self.descriptor, self._end + length)
        block = np.frombuffer(mmap.mmap(self.descriptor, length, offset=self._end), np.uint8)
        self._places[block.ctypes.data] = self._end, length
        self._blocks.append(block)
        self._end += length
        self._on_new(block)
        return block

    def place(self, images: np.ndarray) -> tuple[int, int]:
        """Return offset and length of the block of an array from `empty`."""
        return self._places[images.ctypes.data]


@dataclass(slots=True)
class ProcessReading:
    """Images uint8 RGB (N, H, W, 3) that processes are reading; complete after `wait`.

    The reader keeps it until no process writes to its memory.
    """

    images: np.ndarray
    num_left: int
    receive: Callable[[], None]
    faults: dict[int, AlexNetError] = field(default_factory=dict)

    def wait(self) -> None:
        while self.num_left:
            self.receive()
        if self.faults:
            raise self.faults[min(self.faults)]

    def cancel(self) -> None:
        pass  # chunks that were sent are read, which takes a fraction of a second


class ProcessReader:
    """Reads one split with processes.

    Attributes:
        buffers: the memory of the images, which may be kept after the reader is closed.
    """

    def __init__(
        self,
        split: Split,
        num_processes: int,
        on_new: Callable[[np.ndarray], None] = lambda block: None,
    ):
        """Start the processes.

        Args:
            on_new: called with each new block of memory, uint8 (num_bytes,).
        """
        self.buffers = SharedBuffers(on_new)
        self._unfinished: dict[int, ProcessReading] = {}
        self._num_started = 0
        context = multiprocessing.get_context("spawn")
        tasks, self._tasks = context.Pipe(duplex=False)
        self._results, results = context.Pipe(duplex=False)
        with suppress(ImportError, OSError, AttributeError):  # a smaller pipe is only slower
            import fcntl

            fcntl.fcntl(self._tasks.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        # Kept here, because processes find them by name while they start.
        self._locks = context.Lock(), context.Lock()
        layout = split.rows(np.arange(0)).dtype, split.image_size
        memory = _Shared(self.buffers)
        self._processes = [
            context.Process(
                target=_Worker(tasks, results, *self._locks, memory, split.images, *layout),
                name=f"read {split.name} {number}",
                daemon=True,
            )
            for number in range(min(num_processes, MAX_PROCESSES))
        ]
        try:
            with without_main(), starting("a process that reads images", hint=hint("less_memory")):
                for process in self._processes:
                    process.start()
        except BaseException:
            self.__exit__()
            raise
        finally:
            tasks.close()
            results.close()

    def __enter__(self) -> "ProcessReader":
        return self

    def __exit__(self, *_: object) -> None:
        self._tasks.close()
        for process in self._processes:
            if process.pid:
                process.join(STOP_SECONDS)
                process.kill()
                process.join()
        self._results.close()
        os.close(self.buffers.descriptor)

    def start(self, split: Split, positions: np.ndarray) -> ProcessReading:
        """Start to read the samples at some positions of the split given to the constructor."""
        self._check_alive()
        size, rows = split.image_size, split.rows(positions)
        images = self.buffers.empty((len(positions), size, size, 3))
        chunk = max(CHUNK, math.ceil(len(rows) / (2 * len(self._processes))))
        firsts = range(0, len(rows), chunk)
        number, reading = self._num_started, ProcessReading(images, len(firsts), self._receive)
        self._num_started += 1
        if firsts:
            self._unfinished[number] = reading
        for first in firsts:
            task = _TASK.pack(number, *self.buffers.place(images), first)
            try:
                self._tasks.send_bytes(task + rows[first : first + chunk].tobytes())
            except BrokenPipeError:
                raise self._loss() from None
        return reading

    def _receive(self) -> None:
        """Receive the result of one task."""
        while not self._results.poll(CHECK_SECONDS):
            self._check_alive()
        try:
            number, first, fault = self._results.recv()
        except EOFError:
            raise self._loss() from None
        reading = self._unfinished[number]
        reading.num_left -= 1
        if fault:
            reading.faults[first] = fault
        if not reading.num_left:
            del self._unfinished[number]

    def _check_alive(self) -> None:
        if not all(process.is_alive() for process in self._processes):
            raise self._loss()

    def _loss(self) -> MachineError:
        connection.wait([process.sentinel for process in self._processes], CHECK_SECONDS)
        codes = [process.exitcode for process in self._processes if process.exitcode is not None]
        code = codes[0] if codes else 0
        how = f"of signal {-code}" if code < 0 else f"with code {code}"
        return MachineError(
            f"a process that reads images died {how} (killed, or out of memory).",
            hint=hint("free_memory"),
        )


class _Shared:
    """Shared memory as an argument of a process that starts; a descriptor can be sent only then."""

    def __init__(self, buffers: SharedBuffers):
        self.buffers = buffers

    def __reduce__(self) -> tuple:
        from multiprocessing.reduction import DupFd  # Windows has none

        return _detach, (DupFd(self.buffers.descriptor),)


def _detach(sent: Any) -> int:
    return sent.detach()


@dataclass(slots=True)
class _Worker:
    """The work of a process: read the chunks of its tasks until the pipe is closed."""

    tasks: connection.Connection
    results: connection.Connection
    taking: Lock
    answering: Lock
    memory: Any  # a _Shared, which arrives as a descriptor
    source: ShardImages | RawImages
    dtype: np.dtype
    image_size: int

    def __call__(self) -> None:
        for number in known_signals("SIGINT", "SIGTERM", "SIGHUP", SAVE_AND_STOP):
            signal.signal(number, signal.SIG_IGN)  # the parent decides
        os.nice(NICENESS)
        blocks: dict[tuple[int, int], np.ndarray] = {}
        while True:
            try:
                with self.taking:
                    task = self.tasks.recv_bytes()
                self._read(task, blocks)
            except (EOFError, BrokenPipeError):  # the reader was closed, or its process ended
                return

    def _read(self, task: bytes, blocks: dict[tuple[int, int], np.ndarray]) -> None:
        number, offset, length, first = _TASK.unpack_from(task)
        rows = np.frombuffer(task, self.dtype, offset=_TASK.size)
        block = blocks.get((offset, length))
        if block is None:
            block = np.frombuffer(mmap.mmap(self.memory, length, offset=offset), np.uint8)
            blocks[offset, length] = block
        shape = len(rows), self.image_size, self.image_size, 3
        begin = first * math.prod(shape[1:])
        images = block[begin : begin + math.prod(shape)].reshape(shape)
        fault = None
        try:
            self.source.read_into(rows, images)
        except AlexNetError as error:
            fault = error
        with self.answering:
            self.results.send((number, first, fault))


Reading = ThreadReading | ProcessReading
Reader = ThreadReader | ProcessReader


def num_ahead(batch_bytes: int, limit: int | None) -> int:
    """Return how many batches to read ahead: fewer where a container has little memory.

    Args:
        limit: bytes that the container may use.
    """
    if limit is None:
        return BATCHES_AHEAD
    return max(1, min(BATCHES_AHEAD, int(limit * SHARE_AHEAD) // max(1, batch_bytes)))


def complete_in_order(started: Iterator[tuple[Batch, Reading]]) -> Iterator[Batch]:
    """Yield batches once they are read, while the next ones are being read."""
    pending: deque[tuple[Batch, Reading]] = deque()
    limit = memory_limit()
    try:
        for pair in started:
            pending.append(pair)
            if len(pending) > num_ahead(pair[1].images.nbytes, limit):
                yield _completed(*pending.popleft())
        while pending:
            yield _completed(*pending.popleft())
    finally:
        for _, reading in pending:
            reading.cancel()


def _completed(batch: Batch, reading: Reading) -> Batch:
    reading.wait()
    return batch
