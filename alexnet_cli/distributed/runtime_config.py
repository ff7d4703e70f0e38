"""Where and how a command computes, as it was asked for. This module does not need torch."""

from dataclasses import dataclass

DEVICES = ("auto", "cuda", "cpu")
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
