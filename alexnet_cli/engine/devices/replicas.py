"""Processes that each train on a share of every batch, and together count as one.

PyTorch's own engine carries everything between them: DistributedDataParallel the gradients, gloo
what lies on CPUs, NCCL what lies on GPUs. A process learns its place from the environment that
torchrun sets, and launcher.py.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn

from alexnet_cli.data.loader import Share
from alexnet_cli.errors import LostReplicaError

TIMEOUT = timedelta(minutes=10)  # for one that hangs; one that died is noticed at once
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
    def is_first(self) -> bool:
        """Whether this one writes files and reports."""
        return self.rank == 0

    @property
    def share(self) -> Share:
        """The part of every batch that is this one's."""
        return Share(self.rank, self.count)

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

    def add_up(self, values: Tensor) -> None:
        """Replace a CPU tensor by the sum of all replicas' tensors."""
        if self.count > 1:
            dist.all_reduce(values)

    def meet(self) -> None:
        """Wait until all replicas are here."""
        self.add_up(torch.zeros(1))


ALONE = Replicas()


def in_group() -> bool:
    """Tell whether torchrun or our launcher started this process."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def num_local() -> int:
    """Return how many replicas this machine runs; 1 outside of a group."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if in_group() else 1


def was_restarted() -> bool:
    """Tell whether torchrun or Slurm started this run anew after a loss."""
    counts = (os.environ.get(n) for n in ("TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT"))
    return any(count not in (None, "", "0") for count in counts)


@contextmanager
def joined(kind: str, per_replica: int = 1) -> Iterator[Replicas]:
    """Join the group of this process; alone outside of one.

    Args:
        kind: "cpu" or "cuda".
        per_replica: devices of each.

    Raises:
        LostReplicaError: the others cannot be reached, or are lost on the way.
    """
    if not in_group():
        yield ALONE
        return
    with _losses():
        backend = "gloo" if kind == "cpu" else "cpu:gloo,cuda:nccl"
        dist.init_process_group(backend, timeout=TIMEOUT)
        local_rank = int(os.environ.get("LOCAL_RANK", 0))
        if kind == "cuda":
            torch.cuda.set_device(local_rank * per_replica)
        try:
            yield Replicas(dist.get_rank(), dist.get_world_size(), local_rank)
        finally:
            dist.destroy_process_group()


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
            "The last checkpoint is kept. To go on: the same command with --resume"
        ) from error
