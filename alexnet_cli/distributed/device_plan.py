"""Which devices a run uses: one for the whole network, two for a column each, more for replicas."""

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch

from alexnet_cli.distributed.precision import allow_tf32, warn_of_slow_bf16
from alexnet_cli.distributed.replicas import (
    ALONE,
    Replicas,
    in_group,
    joined,
    num_local,
    place_in_group,
)
from alexnet_cli.distributed.runtime_config import (
    DEFAULT_RUNTIME,
    RuntimeConfig,
    kind_and_index,
)
from alexnet_cli.errors import DeviceError, UsageError, hint
from alexnet_cli.io.progress import SILENT, Progress

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # <malloc.h>
_NEVER = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class Runtime:
    """What one replica computes with.

    Attributes:
        devices: one for the whole network, or one for each column.
        replicas: the group of this replica.
    """

    devices: tuple[torch.device, ...]
    precision: str = "fp32"
    compiled: bool = False
    replicas: Replicas = ALONE

    @property
    def device(self) -> torch.device:
        """The device that receives images and returns scores."""
        return self.devices[0]

    def configure_torch(self) -> None:
        """Apply the settings that hold for the whole process."""
        allow_tf32(self.precision)
        keep_freed_memory()


@dataclass(frozen=True, slots=True)
class DevicePlan:
    """How a run is distributed over the devices of this machine.

    Attributes:
        kind: "cpu", "cuda" or "mps".
        per_replica: devices of each replica, 1 or one for each column.
        num_replicas: of the run on this machine.
        join_limit: how long to wait for replicas that other programs start.
        first: number of the first GPU.
    """

    kind: str
    per_replica: int
    num_replicas: int
    precision: str = "fp32"
    compiled: bool = False
    join_limit: timedelta = timedelta(minutes=DEFAULT_RUNTIME.join_minutes)
    first: int = 0

    def devices(self, local_rank: int = 0) -> tuple[torch.device, ...]:
        """Return the devices of one replica."""
        if self.kind != "cuda":
            return (torch.device(self.kind),) * self.per_replica
        first = self.first + local_rank * self.per_replica
        return tuple(torch.device("cuda", first + i) for i in range(self.per_replica))

    @contextmanager
    def joined(self, progress: Progress = SILENT) -> Iterator[Runtime]:
        """Join the other replicas, if there are any, and yield what this one computes with.

        Args:
            progress: says for whom this process waits.

        Raises:
            LostReplicaError: if the others cannot be reached, or are lost before the block ends.
        """
        with joined(self.kind, self.per_replica, progress) as replicas:
            devices = self.devices(replicas.local_rank)
            yield Runtime(devices, self.precision, self.compiled, replicas)


def plan_devices(
    config: RuntimeConfig, net_columns: int, progress: Progress = SILENT
) -> DevicePlan:
    """Return the plan for a network of some columns; the main replica reports a slow precision.

    Two devices hold a column each; more are replicas of that pair, or, with `columns` 1, of the
    network on one device. Under torchrun each of its processes is a replica, and `num_devices`
    counts the GPUs of this machine.

    Raises:
        DeviceError: if a GPU is missing.
        UsageError: if the device is unknown, or the replicas do not fill the devices.
    """
    here = num_local()
    wanted = config.num_devices or here
    per_replica = config.columns or net_columns
    if in_group():
        per_replica = wanted // here
    elif wanted == 1:
        per_replica = 1
    if per_replica not in (1, net_columns):
        also = f", or on {net_columns}, a column each" if net_columns > 1 else ""
        raise UsageError(f"{_count(wanted)}: a replica of this network runs on 1 device{also}.")
    if wanted % per_replica or (in_group() and wanted % here):
        raise UsageError(
            f"{_count(wanted)}: replicas of {max(per_replica, 2)} devices do not fill them.",
            hint=hint("whole_replicas", gpus=wanted),
        )
    shown = progress if place_in_group().is_main else SILENT
    first = _find_devices(config, wanted, shown)[0]
    return DevicePlan(
        first.type,
        per_replica,
        wanted // per_replica,
        config.precision,
        config.compiled,
        timedelta(minutes=config.join_minutes),
        first.index or 0,
    )


def choose_devices(
    config: RuntimeConfig, *, limit: int | None = 2, progress: Progress = SILENT
) -> tuple[torch.device, ...]:
    """Return the devices of one process; report a precision that is slow on them.

    Two devices of "cpu" run the split network side by side in one memory.

    Args:
        limit: maximum number of devices; None for any number.

    Raises:
        DeviceError: if a GPU is missing.
        UsageError: if the device is unknown, or the network does not split over that many.
    """
    wanted = 1 if config.num_devices is None else config.num_devices
    if wanted < 1 or (limit and wanted > limit):
        raise UsageError(f"{_count(wanted)}: the network runs on 1 device, or split over 2.")
    return _find_devices(config, wanted, progress)


def _find_devices(
    config: RuntimeConfig, wanted: int, progress: Progress
) -> tuple[torch.device, ...]:
    kind, index = kind_and_index(config.device)
    is_one = kind == "mps" or index is not None
    if is_one and (wanted > 1 or in_group()):
        raise UsageError(f"{config.device} is one device, which replicas or columns cannot share.")
    found = torch.cuda.device_count() if kind in ("auto", "cuda") else 0
    may_be_mps = kind == "auto" and not found and wanted == 1 and not in_group()
    if kind == "mps" or (may_be_mps and torch.backends.mps.is_available()):
        return (_find_mps(config.precision),)
    must_be_gpus = kind == "cuda" or config.num_devices is not None
    if kind == "cpu" or not (found or must_be_gpus):
        warn_of_slow_bf16(config.precision, progress)
        return (torch.device("cpu"),) * wanted
    if index is not None and index >= found:
        raise DeviceError(
            f"{config.device}: {found} GPU{'s' if found != 1 else ''} found, counted from 0.",
            hint=hint("on_one_cpu"),
        )
    if index is not None:
        return (torch.device("cuda", index),)
    if found < wanted:
        raise DeviceError(
            f"{wanted} GPU{'s' if wanted > 1 else ''} wanted, {found} found.{_why_no_gpu(found)}",
            hint=hint("on_cpu", gpus=wanted) if wanted > 1 else hint("on_one_cpu"),
        )
    return tuple(torch.device("cuda", i) for i in range(wanted))


def _why_no_gpu(found: int) -> str:
    """Return why torch finds no GPU, if that is a missing library; as a sentence after a space."""
    if found:
        return ""
    if torch.version.cuda is None:
        return f" This torch, {torch.__version__}, is built without CUDA."
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return " There is no NVIDIA driver: libcuda.so.1 is missing."
    return f" torch, built for CUDA {torch.version.cuda}, cannot use the driver; see nvidia-smi."


def _find_mps(precision: str) -> torch.device:
    """Return the GPU of a Mac.

    Raises:
        DeviceError: if there is none, or macOS is too old for the precision.
    """
    if not torch.backends.mps.is_available():
        raise DeviceError(
            "mps: no GPU of Apple found, or macOS or torch is too old for it.",
            hint=hint("on_one_cpu"),
        )
    if precision == "bf16" and not torch.backends.mps.is_macos_or_newer(14, 0):
        raise DeviceError("precision bf16 on mps needs macOS 14.", hint="Use fp32.")
    return torch.device("mps")


def _count(num_devices: int) -> str:
    return f"{num_devices} device{'s' if num_devices != 1 else ''}"


def keep_freed_memory() -> None:
    """Make glibc keep freed memory for the next allocation.

    By default every large tensor is a mapping of its own, whose pages the system clears again at
    each step: 470,000 page faults and half as much time again for a step of `paper` at batch 64.
    Has no effect with other C libraries, or if another allocator is preloaded.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_MMAP_MAX, 0)
    libc.mallopt(_M_TRIM_THRESHOLD, _NEVER)
