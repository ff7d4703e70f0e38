"""Where and how a command computes, as it was asked for. This module does not need torch."""

import re
from dataclasses import dataclass

from alexnet_cli.errors import UsageError

DEVICES = ("auto", "cuda", "cuda:N", "mps", "cpu")
DEVICE = re.compile(r"(auto|mps|cpu|cuda)|(cuda):(\d{1,3})", re.ASCII)
PRECISIONS = ("fp32", "tf32", "bf16")


@dataclass(frozen=True, slots=True)
class RuntimeConfig:
    """Where and how a network computes. It changes nothing that is learned, except rounding.

    Attributes:
        device: one of `DEVICES`; "auto" is a GPU if the machine has one.
        num_devices: devices of this machine; None for one per process.
        columns: devices per replica: 1 keeps the network whole. None for one per column.
        precision: arithmetic of the forward and backward passes, one of `PRECISIONS`.
        compiled: whether torch.compile builds the kernels.
        join_minutes: how long to wait for replicas that other programs start.
    """

    device: str = "auto"
    num_devices: int | None = None
    columns: int | None = None
    precision: str = "fp32"
    compiled: bool = False
    join_minutes: float = 30.0


DEFAULT_RUNTIME = RuntimeConfig()


def kind_and_index(device: str) -> tuple[str, int | None]:
    """Return "auto", "cuda", "mps" or "cpu", and the number of the GPU if one was named.

    Raises:
        UsageError: if it is none of `DEVICES`.
    """
    if match := DEVICE.fullmatch(device):
        return match[1] or match[2], int(match[3]) if match[3] else None
    advice = f"For GPU {device} write cuda:{device}" if device.isdecimal() else None
    raise UsageError(f"device {device!r}: choose one of {', '.join(DEVICES)}.", hint=advice)
