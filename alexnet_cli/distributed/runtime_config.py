"""Where and how a command computes, as it was asked for. This module does not need torch."""

import re
from dataclasses import dataclass

from alexnet_cli.errors import UsageError

DEVICES = "auto, cuda, cuda:N, mps, cpu"
PRECISIONS = ("fp32", "tf32", "bf16")


@dataclass(frozen=True, slots=True)
class RuntimeConfig:
    """Where and how a network computes. It changes nothing that is learned, except rounding.

    Attributes:
        device: one of `DEVICES`; "auto" is a GPU if the machine has one, "cuda:1" the second one.
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


def parse_device(text: str) -> tuple[str, int]:
    """Return the kind of a device, "auto", "cuda", "mps" or "cpu", and the number of its GPU.

    Raises:
        UsageError: if it is none of `DEVICES`.
    """
    found = re.fullmatch(r"(auto|mps|cpu|cuda)|cuda:(\d{1,3})", text)
    if not found:
        example = f" For one GPU: cuda:{text}." if text.isdigit() else ""
        raise UsageError(f"device {text!r}: choose one of {DEVICES}.{example}")
    return found[1] or "cuda", int(found[2] or 0)
