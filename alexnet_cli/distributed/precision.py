"""The arithmetic of convolutions and matrix products: fp32, tf32 or bf16.

| precision | products | sums | weights, momentum, loss, softmax |
| fp32 | float32, as in 2012 | float32 | float32 |
| tf32 | 10-bit fraction on devices with TensorFloat-32 | float32 | float32 |
| bf16 | bfloat16, 7-bit fraction; activations too | float32 | float32 |

fp16 is left out: its range requires a scaled loss, and every GPU since 2020 has bfloat16.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from alexnet_cli.io.progress import Progress

SLOW_BF16 = (
    "warning: this CPU has no bfloat16 instructions; precision bf16 emulates them and was "
    "measured to be 3 to 9 times slower than fp32"
)
BF16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "avx_ne_convert", "avx10_2", "bf16")  # x86; ARM


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    """Return the context of a forward pass. Convert its scores to float32 before the loss."""
    if precision == "bf16":
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()


def allow_tf32(precision: str) -> None:
    """Switch TensorFloat-32 on or off for the whole process; cuDNN has it on by default.

    Afterwards torch's older and newer settings agree, so that both can be read.
    """
    is_tf32 = precision == "tf32"
    # torch.compile reads the older names, and torch raises where the two disagree. The older ones
    # are set first: they set the newer ones too, but to "none" where "ieee" is meant.
    torch.backends.cudnn.allow_tf32 = is_tf32
    torch.set_float32_matmul_precision("high" if is_tf32 else "highest")
    cudnn: Any = torch.backends.cudnn
    for settings in (cudnn.conv, cudnn.rnn):
        settings.fp32_precision = "tf32" if is_tf32 else "ieee"


def sums_dtype(device: torch.device) -> torch.dtype:
    """Return the type of sums over an epoch: float64, which the GPU of a Mac does not have."""
    return torch.float32 if device.type == "mps" else torch.float64


def describe_precision(precision: str, device: torch.device) -> str:
    """Return a line that describes the arithmetic on a device."""
    if precision == "fp32":
        return f"precision fp32: float32 throughout on {device.type}, TensorFloat-32 off"
    if precision == "bf16":
        return "precision bf16: bfloat16 products and activations, float32 sums, weights and loss"
    if device.type == "cuda" and torch.cuda.get_device_capability(device)[0] >= 8:
        return "precision tf32: TensorFloat-32 products, everything else float32"
    return f"precision tf32: {device.type} has no TensorFloat-32 here, so it is float32"


def warn_of_slow_bf16(precision: str, progress: Progress) -> None:
    """Report on a CPU if bf16 is emulated because it has no instructions for it."""
    if precision == "bf16":
        found = torch.cpu.get_capabilities()
        if not any(found.get(name) for name in BF16_INSTRUCTIONS):
            progress.say(SLOW_BF16)
