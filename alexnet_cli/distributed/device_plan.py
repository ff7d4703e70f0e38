"""Which devices a run uses: one for the whole network, two for a column each, more for replicas."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from alexnet_cli.distributed.replicas import Replicas, in_group, joined, num_local
from alexnet_cli.errors import DeviceError, UsageError

DEVICES = ("auto", "cuda", "cpu")


@dataclass(frozen=True, slots=True)
class DevicePlan:
    """How a run is laid out over the devices of this machine.

    Attributes:
        kind: "cpu" or "cuda".
        per_replica: devices of each replica, 1 or one for each column.
        replicas: of the run on this machine.
    """

    kind: str
    per_replica: int
    replicas: int

    def devices(self, local_rank: int = 0) -> tuple[torch.device, ...]:
        """Return the devices of one replica."""
        if self.kind == "cpu":
            return (torch.device("cpu"),) * self.per_replica
        first = local_rank * self.per_replica
        return tuple(torch.device("cuda", first + i) for i in range(self.per_replica))

    @contextmanager
    def taken(self) -> Iterator[tuple[tuple[torch.device, ...], Replicas]]:
        """Join the other replicas, if there are any; give this one's devices and its place.

        Raises:
            LostReplicaError: the others cannot be reached, or are lost before the block ends.
        """
        with joined(self.kind, self.per_replica) as replicas:
            yield self.devices(replicas.local_rank), replicas


def plan_devices(
    device: str, num_devices: int | None, columns: int | None, *, net_columns: int
) -> DevicePlan:
    """Return the layout for `--device`, `--gpus` and `--columns`.

    Two devices hold a column each; more are replicas of that pair, or, with columns 1, of the
    network on one device. Under torchrun each of its processes is a replica, and `num_devices`
    counts the GPUs of this machine.

    Args:
        columns: how many devices a network is split over; by default as many as it has columns.
        net_columns: of the recipe.

    Raises:
        DeviceError: a GPU that is not there.
        UsageError: an unknown device, or a number of devices that cannot be shared out.
    """
    here = num_local()
    wanted = num_devices or here
    per_replica = columns or net_columns
    if in_group():
        per_replica = wanted // here
    elif wanted == 1:
        per_replica = 1
    if per_replica not in (1, net_columns):
        also = f", or on {net_columns}, a column each" if net_columns > 1 else ""
        raise UsageError(f"--gpus {wanted}: a replica of this network runs on 1 device{also}.")
    if wanted % per_replica or (in_group() and wanted % here):
        raise UsageError(
            f"--gpus {wanted}: replicas of {max(per_replica, 2)} devices do not fill them.\n"
            f"For {wanted} replicas of one device each: --gpus {wanted} --columns 1"
        )
    kind = choose_devices(device, num_devices, limit=None)[0].type
    if kind == "cuda":
        choose_devices("cuda", wanted, limit=None)
    return DevicePlan(kind, per_replica, wanted // per_replica)


def choose_devices(
    device: str = "auto", num_devices: int | None = None, *, limit: int | None = 2
) -> tuple[torch.device, ...]:
    """Return the devices for `--device` and `--gpus`.

    "auto" takes a GPU where there is one. Two devices of "cpu" run the split for real, side by side
    in one memory.

    Args:
        limit: as many devices can be used; None for any number.

    Raises:
        DeviceError: a GPU that is not there.
        UsageError: an unknown device, or a number of devices the network does not split over.
    """
    if device not in DEVICES:
        raise UsageError(f"--device {device}: choose one of {', '.join(DEVICES)}.")
    wanted = 1 if num_devices is None else num_devices
    if wanted < 1 or (limit and wanted > limit):
        raise UsageError(f"--gpus {wanted}: here the network runs on 1 device, or split over 2.")
    found = torch.cuda.device_count() if device != "cpu" else 0
    if device == "cpu" or (device == "auto" and not found and num_devices is None):
        return (torch.device("cpu"),) * wanted
    if found < wanted:
        also = f" --gpus {wanted}" if wanted > 1 else ""
        raise DeviceError(
            f"{wanted} GPU{'s' if wanted > 1 else ''} wanted, {found} found.\n"
            f"Without GPUs: --device cpu{also}"
        )
    return tuple(torch.device("cuda", i) for i in range(wanted))
