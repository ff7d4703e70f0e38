"""Processes that each train on a share of every batch, and together count as one.

PyTorch's own engine carries everything between them: DistributedDataParallel the gradients, gloo
what lies on CPUs, NCCL what lies on GPUs. A process learns its place from the environment that
torchrun sets, and launcher.py.
"""

import itertools
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn

from alexnet_cli.distributed.oom_errors import KEPT
from alexnet_cli.errors import LostReplicaError
from alexnet_cli.io.cores import num_cores
from alexnet_cli.types import BatchShard

TIMEOUT = timedelta(minutes=10)  # for one that hangs; one that died is noticed at once
JOIN_TIMEOUT = timedelta(days=1)  # for the slowest replica to fetch or measure its data
POLL_SECONDS = 0.1
LOST = ("connection", "peer", "gloo", "nccl", "socket", "broken pipe", "timed out", "store")


@dataclass(frozen=True, slots=True)
class Replicas:
    """This process among those of its run.

    Attributes:
        local_rank: among those of this machine.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0

    @property
    def is_main(self) -> bool:
        """Whether this one writes files and reports."""
        return self.rank == 0

    @property
    def share(self) -> BatchShard:
        """The part of every batch that is this one's."""
        return BatchShard(self.rank, self.count)

    def wrap(self, net: nn.Module, devices: tuple[torch.device, ...]) -> nn.Module:
        """Return what to call instead of `net` so that its gradients are those of all replicas.

        Gradients are averaged: a replica's loss must be its share of the batch's, times `count`.
        """
        if self.count == 1:
            return net
        own = [devices[0]] if len(devices) == 1 and devices[0].type == "cuda" else None
        return nn.parallel.DistributedDataParallel(net, device_ids=own)

    def gather(self, row: Tensor) -> Tensor:
        """Return every replica's row, (count, ...), the same for all; a CPU tensor."""
        row = row.cpu()
        if self.count == 1:
            return row[None]
        rows = [torch.empty_like(row) for _ in range(self.count)]
        dist.all_gather(rows, row)
        return torch.stack(rows)

    def all_reduce(self, values: Tensor) -> None:
        """Replace a CPU tensor by the sum of all replicas' tensors."""
        if self.count > 1:
            dist.all_reduce(values)

    def barrier(self) -> None:
        """Wait until all replicas are here."""
        self.all_reduce(torch.zeros(1))


ALONE = Replicas()
_joins = itertools.count()


def in_group() -> bool:
    """Tell whether torchrun or our launcher started this process."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def num_local() -> int:
    """Return how many replicas this machine runs; 1 outside of a group."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if in_group() else 1


def num_reading_threads() -> int:
    """Return how many threads or processes of one replica read images."""
    return max(1, num_cores() // num_local())


def was_restarted() -> bool:
    """Tell whether torchrun or Slurm started this run anew after a loss."""
    counts = (os.environ.get(n) for n in ("TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT"))
    return any(count not in (None, "", "0") for count in counts)


def place_in_group() -> Replicas:
    """Return which replica this process is, from the environment; it need not have joined yet."""
    if not in_group():
        return ALONE
    rank, count, local_rank = (
        int(os.environ.get(name, default))
        for name, default in (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0))
    )
    return Replicas(rank, count, local_rank)


@contextmanager
def joined(kind: str, per_replica: int = 1) -> Iterator[Replicas]:
    """Join the group of this process; alone outside of one.

    The replicas wait for the last one as long as `JOIN_TIMEOUT`, and from then on for each other as
    long as `TIMEOUT`. So whatever takes one longer than another, as opening the data does, belongs
    before the block.

    A block that raises leaves the group as it is: NCCL cannot destroy it before all replicas do,
    and the others may be waiting for this one. The process must end (launcher.py).

    Args:
        kind: "cpu" or "cuda".
        per_replica: devices of each.

    Raises:
        LostReplicaError: the others cannot be reached, or are lost on the way.
    """
    place = place_in_group()
    if not in_group():
        yield place
        return
    with _losses():
        _join(kind, place)
        if kind == "cuda":
            torch.cuda.set_device(place.local_rank * per_replica)
        yield place
        dist.destroy_process_group()


def _join(kind: str, place: Replicas) -> None:
    """Wait until every replica is ready, then form the group."""
    if dist.is_initialized():  # left by a block that raised, after which this process went on
        dist.destroy_process_group()
    store, _, _ = next(dist.rendezvous("env://", timeout=JOIN_TIMEOUT))
    store = dist.PrefixStore(f"group {next(_joins)}", store)
    deadline, num_ready = time.monotonic() + JOIN_TIMEOUT.total_seconds(), store.add("ready", 1)
    while num_ready < place.count:
        if time.monotonic() > deadline:
            raise LostReplicaError(
                f"replica {place.rank} of {place.count} waited for the others, of which "
                f"{place.count - num_ready} did not come within {JOIN_TIMEOUT}.\n"
                f"{KEPT}."
            )
        time.sleep(POLL_SECONDS)  # here, and not in the store, signals are heeded
        num_ready = store.add("ready", 0)
    store.set_timeout(TIMEOUT)
    backend = "gloo" if kind == "cpu" else "cpu:gloo,cuda:nccl"
    dist.init_process_group(
        backend, timeout=TIMEOUT, store=store, rank=place.rank, world_size=place.count
    )


@contextmanager
def _losses() -> Iterator[None]:
    """Say that a replica was lost; torch has no error of its own for it on CPUs."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        text = str(error)
        if not isinstance(error, dist.DistError) and not any(w in text.lower() for w in LOST):
            raise
        raise LostReplicaError(
            f"replica {os.environ['RANK']} of {os.environ['WORLD_SIZE']} lost the others "
            f"({text.splitlines()[0][:120]}).\n"
            f"{KEPT}. To go on: the same command with --resume"
        ) from error
