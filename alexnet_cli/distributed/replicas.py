"""Data-parallel processes whose gradients are averaged.

DistributedDataParallel exchanges the gradients, through gloo between CPUs and NCCL between GPUs. A
process reads its rank from the environment, which torchrun or `launcher` sets.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn

from alexnet_cli.distributed.rendezvous import STORE_FILE, Place, join, read_place
from alexnet_cli.errors import LostReplicaError
from alexnet_cli.io.cores import num_workers
from alexnet_cli.io.progress import SILENT, Progress

TIMEOUT = timedelta(minutes=10)  # for a replica that hangs; one that died is noticed at once
DATA_TIMEOUT = timedelta(days=1)  # for the slowest replica to fetch or measure its data
READER_BYTES = 1 << 27  # of a process that reads images
AGAIN = "Run the same command again."
LOST = ("connection", "peer", "gloo", "nccl", "socket", "broken pipe", "timed out", "store")


@dataclass(frozen=True, slots=True)
class Replicas(Place):
    """The group of processes of a run, and this process in it."""

    def wrap(self, net: nn.Module, devices: tuple[torch.device, ...]) -> nn.Module:
        """Return what to call instead of `net` so that gradients are averaged over the replicas.

        A replica's loss must be its share of the batch's, times `world_size`.
        """
        if self.world_size == 1:
            return net
        own = [devices[0]] if len(devices) == 1 and devices[0].type == "cuda" else None
        return nn.parallel.DistributedDataParallel(net, device_ids=own)

    def all_gather(self, row: Tensor) -> Tensor:
        """Return the rows of all replicas, (world_size, ...), on the CPU."""
        row = row.cpu()
        if self.world_size == 1:
            return row[None]
        rows = [torch.empty_like(row) for _ in range(self.world_size)]
        dist.all_gather(rows, row)
        return torch.stack(rows)

    def all_reduce(self, values: Tensor) -> None:
        """Replace a CPU tensor by the sum over all replicas."""
        if self.world_size > 1:
            dist.all_reduce(values)

    def barrier(self) -> None:
        """Wait until all replicas have called this."""
        self.all_reduce(torch.zeros(1))


ALONE = Replicas()


def in_group() -> bool:
    """Return whether torchrun or `launcher` started this process as one of several."""
    return read_place().world_size > 1


def num_local() -> int:
    """Return the number of replicas on this machine; 1 outside of a group."""
    return read_place().num_local


def num_reading_threads() -> int:
    """Return the number of threads or processes of one replica that read images."""
    count, _ = num_workers(READER_BYTES)
    return count if _has_own_cores() else max(1, count // num_local())


def _has_own_cores() -> bool:
    """Return whether Slurm gave this process cores of its own, not those of all on the machine."""
    shared = ("TORCHELASTIC_RUN_ID", STORE_FILE)  # torchrun and the launcher pass on their own
    return "SLURM_CPUS_PER_TASK" in os.environ and not any(name in os.environ for name in shared)


def was_restarted() -> bool:
    """Return whether torchrun or Slurm restarted this run after a failure."""
    counts = (os.environ.get(n) for n in ("TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT"))
    return any(count not in (None, "", "0") for count in counts)


def place_in_group() -> Replicas:
    """Return which replica this process is, which need not have joined the group yet."""
    place = read_place()
    return Replicas(place.rank, place.world_size, place.local_rank, place.num_local)


@contextmanager
def joined(kind: str, per_replica: int = 1, progress: Progress = SILENT) -> Iterator[Replicas]:
    """Join the group of this process, if it has one, after `on_replicas` let them meet.

    The replicas wait up to `DATA_TIMEOUT` for the last one, and afterwards up to `TIMEOUT` for each
    other. Work of unequal duration, such as opening the data, belongs before the block.

    If the block raises, the group is not destroyed: NCCL would wait for all replicas, and the
    others may be waiting for this one. The process must end (see `launcher`).

    Args:
        kind: "cpu" or "cuda".
        per_replica: devices of each replica.
        progress: says for whom this process waits.

    Raises:
        LostReplicaError: if the others cannot be reached, or are lost before the block ends.
    """
    place = place_in_group()
    if place.world_size == 1:
        yield place
        return
    backend = "gloo" if kind == "cpu" else "cpu:gloo,cuda:nccl"
    with translate_losses(place):
        join(backend, DATA_TIMEOUT, TIMEOUT, progress)
        if kind == "cuda":
            torch.cuda.set_device(place.local_rank * per_replica)
        yield place
        dist.destroy_process_group()


@contextmanager
def translate_losses(place: Place) -> Iterator[None]:
    """Translate torch's errors about other replicas; on CPUs they have no type of their own."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        text = str(error)
        if not isinstance(error, dist.DistError) and not any(w in text.lower() for w in LOST):
            raise
        raise LostReplicaError(
            f"replica {place.rank} of {place.world_size} lost the others "
            f"({text.splitlines()[0][:120]}).",
            hint=AGAIN,
        ) from error
