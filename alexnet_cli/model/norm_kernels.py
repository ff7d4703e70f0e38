"""The response normalization of section 3.3 as two Triton kernels, for GPUs.

Memory limits this layer. Each kernel reads and writes every activation once: neighboring channels
come from the GPU's cache, and the backward pass computes the sums again instead of storing them.
Imported only where Triton is installed; `TRITON_INTERPRET=1` runs the kernels on a CPU.
"""
# mypy: disable-error-code="no-untyped-def"

import os
from contextlib import nullcontext

# As Triton did before 3.9, which warns that 3.10 will not.
os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")

import torch
import triton
import triton.language as tl
from torch import Tensor

MAX_SIZE = 9  # of a window; the loops over it are unrolled
DTYPES = (torch.float32, torch.bfloat16)
BLOCK = 1024


@triton.jit
def _load(pointer, place, channel, shift, is_inside, CHANNELS: tl.constexpr):
    """Return the values `shift` channels further, zero beyond the ends of the column."""
    near = channel + shift
    mask = is_inside & (near >= 0) & (near < CHANNELS)
    return tl.load(pointer + place + shift, mask=mask, other=0.0).to(tl.float32)


@triton.jit
def _scale(
    x, place, channel, shift, is_inside, alpha, k,
    CHANNELS: tl.constexpr, BEFORE: tl.constexpr, AFTER: tl.constexpr,
):  # fmt: skip
    """Return k + alpha * (sum of squares in the window of the channel `shift` further)."""
    total = tl.zeros_like(channel).to(tl.float32)
    for i in tl.static_range(BEFORE + AFTER + 1):
        value = _load(x, place, channel, shift + i - BEFORE, is_inside, CHANNELS)
        total += value * value
    return k + alpha * total


@triton.jit
def _powers(scale, beta, IS_THREE_QUARTERS: tl.constexpr):
    """Return scale^-beta and scale^(-beta - 1); for the paper's 3/4 by square roots alone."""
    if IS_THREE_QUARTERS:
        root = tl.rsqrt(scale)
        power = root * tl.sqrt(root)
        return power, power * root * root
    power = tl.exp(-beta * tl.log(scale))
    return power, power / scale


@triton.jit
def _places(num, CHANNELS: tl.constexpr, BLOCK: tl.constexpr):
    """Return the places of a block in memory, their channels, and whether they exist."""
    first = tl.program_id(0).to(tl.int64) * BLOCK
    offsets = tl.arange(0, BLOCK)
    channel = ((first % CHANNELS).to(tl.int32) + offsets) % CHANNELS
    return first + offsets, channel, first + offsets < num


@triton.jit
def _forward_kernel(
    x, y, num, alpha, beta, k,
    CHANNELS: tl.constexpr, BEFORE: tl.constexpr, AFTER: tl.constexpr,
    IS_THREE_QUARTERS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    place, channel, is_inside = _places(num, CHANNELS, BLOCK)
    scale = _scale(x, place, channel, 0, is_inside, alpha, k, CHANNELS, BEFORE, AFTER)
    value = _load(x, place, channel, 0, is_inside, CHANNELS)
    power, _ = _powers(scale, beta, IS_THREE_QUARTERS)
    result = value * power
    tl.store(y + place, result.to(y.dtype.element_ty), mask=is_inside)


@triton.jit
def _backward_kernel(
    x, grad, out, num, alpha, beta, k,
    CHANNELS: tl.constexpr, BEFORE: tl.constexpr, AFTER: tl.constexpr,
    IS_THREE_QUARTERS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """dL/dx_i = g_i s_i^-b - 2 a b x_i * (sum of g_j x_j s_j^(-b-1)).

    The sum is over the channels j whose windows hold i, those from i - AFTER to i + BEFORE.
    """
    place, channel, is_inside = _places(num, CHANNELS, BLOCK)
    spread = tl.zeros_like(channel).to(tl.float32)
    for i in tl.static_range(BEFORE + AFTER + 1):
        scale = _scale(x, place, channel, i - AFTER, is_inside, alpha, k, CHANNELS, BEFORE, AFTER)
        value = _load(x, place, channel, i - AFTER, is_inside, CHANNELS)
        upstream = _load(grad, place, channel, i - AFTER, is_inside, CHANNELS)
        _, power_over_scale = _powers(scale, beta, IS_THREE_QUARTERS)
        spread += upstream * value * power_over_scale
    scale = _scale(x, place, channel, 0, is_inside, alpha, k, CHANNELS, BEFORE, AFTER)
    value = _load(x, place, channel, 0, is_inside, CHANNELS)
    upstream = _load(grad, place, channel, 0, is_inside, CHANNELS)
    power, _ = _powers(scale, beta, IS_THREE_QUARTERS)
    result = upstream * power - 2.0 * alpha * beta * value * spread
    tl.store(out + place, result.to(out.dtype.element_ty), mask=is_inside)


def can_run(x: Tensor, size: int) -> bool:
    """Return whether the kernels compute a normalization of this window for this tensor."""
    return size <= MAX_SIZE and x.dtype in DTYPES


@torch.library.custom_op("alexnet::response_norm", mutates_args=())
def response_norm(
    x: Tensor, size: int, alpha: float, beta: float, k: float, columns: int
) -> Tensor:
    """Map (N, C, H, W), float32 or bfloat16, to the same shape and type with channels last."""
    x = x.contiguous(memory_format=torch.channels_last)
    y = torch.empty_like(x, memory_format=torch.channels_last)
    _launch(_forward_kernel, (x, y), size, alpha, beta, k, columns)
    return y


@torch.library.custom_op("alexnet::response_norm_backward", mutates_args=())
def response_norm_backward(
    x: Tensor, grad: Tensor, size: int, alpha: float, beta: float, k: float, columns: int
) -> Tensor:
    """Return the gradient of `response_norm` for its input."""
    x, grad = (t.contiguous(memory_format=torch.channels_last) for t in (x, grad))
    out = torch.empty_like(x, memory_format=torch.channels_last)
    _launch(_backward_kernel, (x, grad, out), size, alpha, beta, k, columns)
    return out


def _launch(kernel, tensors, size, alpha, beta, k, columns) -> None:
    x = tensors[0]
    if not x.numel():
        return
    with torch.cuda.device(x.device) if x.is_cuda else nullcontext():
        kernel[(triton.cdiv(x.numel(), BLOCK),)](
            *tensors,
            x.numel(),
            alpha,
            beta,
            k,
            CHANNELS=x.shape[1] // columns,
            BEFORE=size // 2,  # even sizes extend one further back
            AFTER=(size - 1) // 2,
            IS_THREE_QUARTERS=beta == 0.75,
            BLOCK=BLOCK,
        )


@response_norm.register_fake
def _(x, size, alpha, beta, k, columns):
    return torch.empty_like(x, memory_format=torch.channels_last)


@response_norm_backward.register_fake
def _(x, grad, size, alpha, beta, k, columns):
    return torch.empty_like(x, memory_format=torch.channels_last)


def _setup_context(ctx, inputs, output) -> None:
    x, *ctx.constants = inputs
    ctx.save_for_backward(x)


def _backward(ctx, grad):
    (x,) = ctx.saved_tensors
    return response_norm_backward(x, grad, *ctx.constants), None, None, None, None, None


response_norm.register_autograd(_backward, setup_context=_setup_context)
