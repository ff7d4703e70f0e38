"""In which numbers convolutions and matrix products are computed: fp32, tf32 or bf16.

| precision | products | sums | weights, velocity, loss, softmax |
| fp32 | float32 | float32 | float32: the numbers of 2012 |
| tf32 | 10 bits of fraction, where the device has TensorFloat-32 | float32 | float32 |
| bf16 | bfloat16, 7 bits of fraction; activations too | float32 | float32 |

fp16 is left out: its range needs a scaled loss, and every GPU since 2020 has bfloat16.
"""

from contextlib import AbstractContextManager, nullcontext

import torch

PRECISIONS = ("fp32", "tf32", "bf16")


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    """Return the context of a forward pass; its scores are to become float32 before the loss."""
    if precision == "bf16":
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()


def allow_tf32(precision: str) -> None:
    """Switch TensorFloat-32 on or off for the whole process; torch's cuDNN begins with it on."""
    is_tf32 = precision == "tf32"
    # torch.compile asks by the older name, which only this call keeps in step with the newer one.
    torch.set_float32_matmul_precision("high" if is_tf32 else "highest")
    for of_cudnn in (torch.backends.cudnn.conv, torch.backends.cudnn.rnn):
        of_cudnn.fp32_precision = "tf32" if is_tf32 else "ieee"


def describe_precision(precision: str, device: torch.device) -> str:
    """Return the line that says which numbers are used."""
    if precision == "fp32":
        return f"precision fp32: float32 throughout on {device.type}, TensorFloat-32 off"
    if precision == "bf16":
        return "precision bf16: bfloat16 products and activations, float32 sums, weights and loss"
    if device.type == "cuda" and torch.cuda.get_device_capability(device)[0] >= 8:
        return "precision tf32: TensorFloat-32 products, everything else float32"
    return f"precision tf32: {device.type} has no TensorFloat-32 here, so it is float32"
