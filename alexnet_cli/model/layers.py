"""Layers that torch lacks or defines differently from the paper (sections 3.3, 3.4, 4.2).

N images, C channels, H rows, W columns.
"""

import math
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alexnet_cli.model.architecture import (
    KEPT_EVERY,
    LOW_STRIDE,
    LOW_WINDOW,
    blur_window,
    conv_output_size,
    low_resolution_pads,
    overhang,
)


class CeilConv2d(nn.Conv2d):
    """Convolution with the 2012 size rule: symmetric `padding`, plus zeros right and bottom.

    Attributes:
        round_down: leave out these zeros, and the windows that would read them.
    """

    round_down = False

    def forward(self, x: Tensor) -> Tensor:
        pad = int(self.padding[0])
        height, width = (
            overhang(size, self.kernel_size[0], self.stride[0], pad) for size in x.shape[-2:]
        )
        if not self.round_down and (height or width):
            x, pad = F.pad(x, (pad, pad + width, pad, pad + height)), 0
        if x.is_cuda and self.groups > 1:
            return self._group_by_group(x, pad)
        return F.conv2d(x, self.weight, self.bias, self.stride, pad, 1, self.groups)

    def _group_by_group(self, x: Tensor, pad: int) -> Tensor:
        """Convolve one group after the other.

        cuDNN transposes grouped convolutions in channels-last back and forth: conv2, conv4 and
        conv5 in bfloat16 at batch 512 took 7.4 ms forward and backward, group by group 4.5 (H200).
        """
        assert self.bias is not None
        parts = zip(
            x.chunk(self.groups, dim=1),
            self.weight.chunk(self.groups),
            self.bias.chunk(self.groups),
            strict=True,
        )
        return torch.cat([F.conv2d(*part, self.stride, pad) for part in parts], dim=1)


class TwoScaleConv2d(CeilConv2d):
    """Convolution that also reads a small blurred image, with separate weights `low_weight`.

    It is conv2 of the runs before 145 (2012: layers-137.cfg).
    """

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        shape = (self.out_channels, 3, LOW_WINDOW, LOW_WINDOW)
        self.low_weight = nn.Parameter(torch.empty(shape))
        self.blur: Tensor
        blur = torch.from_numpy(blur_window()).repeat(3, 1, 1, 1)
        self.register_buffer("blur", blur, persistent=False)

    def forward(self, x: Tensor, image: Tensor) -> Tensor:  # type: ignore[override]
        """Map activations and the image (N, 3, H, W) to the sum of both convolutions."""
        near, far, end = low_resolution_pads(image.shape[-1])
        image = F.pad(image, (near, far, near, far))
        small = F.conv2d(image, self.blur, stride=KEPT_EVERY, groups=3)
        low = F.conv2d(F.pad(small, (0, end, 0, end)), self.low_weight, None, LOW_STRIDE)
        return super().forward(x) + low


class LocalConv2d(nn.Module):
    """Convolution of stride 1 with different weights and biases at every position.

    Attributes:
        weight: (filters, channels x size x size, positions), bias (filters, positions).
    """

    def __init__(self, channels: int, filters: int, window: int, pad: int, side: int):
        super().__init__()
        self.window, self.pad, self.side = window, pad, conv_output_size(side, window, 1, pad)
        positions = self.side**2
        self.weight = nn.Parameter(torch.empty(filters, channels * window**2, positions))
        self.bias = nn.Parameter(torch.empty(filters, positions))

    def forward(self, x: Tensor) -> Tensor:
        crops = F.unfold(x, self.window, padding=self.pad)  # (N, C window^2, positions)
        y = torch.einsum("ncp,fcp->nfp", crops, self.weight) + self.bias
        return y.unflatten(2, (self.side, self.side))


class LocalResponseNorm(nn.Module):
    """y = x * (k + alpha * sum of x^2 over `size` neighboring channels)^-beta (section 3.3).

    The window is centered, cut at the ends, and never crosses from one column to the next. alpha
    multiplies the plain sum: torch's own layer divides it by `size`.
    """

    def __init__(self, size: int, alpha: float, beta: float, k: float, columns: int):
        super().__init__()
        self.size, self.alpha, self.beta, self.k, self.columns = size, alpha, beta, k, columns

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape and type, with channels last."""
        if x.is_cuda and (kernels := _norm_kernels()) and kernels.can_run(x, self.size):
            constants = self.size, self.alpha, self.beta, self.k, self.columns
            return kernels.response_norm(x, *constants)
        if torch.compiler.is_compiling() or x.device.type == "mps":
            return self._as_plain_operations(x)
        with _types_kept(x.device.type):
            return _ResponseNorm.apply(x, self)

    def _as_plain_operations(self, x: Tensor) -> Tensor:
        """Compute out of place, so that a compiler can fuse it into one loop.

        So does the GPU of a Mac, which does not write into parts of tensors on every system.
        """
        squares = x.to(torch.promote_types(x.dtype, torch.float32)).square()
        squares = squares.unflatten(1, (self.columns, -1))
        num = squares.shape[2]
        before, after = (min(reach, num - 1) for reach in self.reach())
        padded = F.pad(squares, (0, 0, 0, 0, before, after))
        total: Any = sum(padded[:, :, i : i + num] for i in range(before + after + 1))
        scale = self.k + self.alpha * total.flatten(1, 2)
        return (x * _negative_power(scale, self.beta)).to(x.dtype)

    def reach(self) -> tuple[int, int]:
        """Return how many channels before and after its own a window holds."""
        return self.size // 2, (self.size - 1) // 2  # even sizes extend one further back


@cache
def _norm_kernels() -> ModuleType | None:
    """Return the Triton kernels; None where Triton is missing or cannot build them."""
    try:
        from alexnet_cli.model import norm_kernels

        x = torch.ones(1, 2, 1, 1, device="cuda")
        norm_kernels.response_norm(x, 1, 1.0, 1.0, 1.0, 1)
    except Exception as error:  # a compiler, its headers or the driver may be missing
        warnings.warn(f"response normalization runs without Triton: {error}", stacklevel=2)
        return None
    return norm_kernels


def _types_kept(device_type: str) -> AbstractContextManager:
    """Return a context without autocast, which makes the powers float32; "meta" has none."""
    if torch.amp.is_autocast_available(device_type):
        return torch.autocast(device_type, enabled=False)
    return nullcontext()


class _ResponseNorm(torch.autograd.Function):
    """The formula and its gradient, several times as fast as torch's average pooling.

    On a CPU it processes a few images at a time, so that most passes find them in the cache.
    Windows are summed by a matrix product, which adds in at least float32.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, norm: "LocalResponseNorm") -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        y, k = _like(x), x.new_tensor(norm.k)
        scale = _like(x) if ctx.needs_input_grad[0] else y  # y is written after its scale is read
        windows = _windows(x, norm)
        for own, own_scale, own_y in _pieces(x, scale, y):
            squares = own * own
            for part in _parts(squares, own_scale, columns=norm.columns):
                torch.addmm(k, part[0], windows, alpha=norm.alpha, out=part[1])
            torch.mul(_negative_power(own_scale, norm.beta), own, out=own_y)
        ctx.norm = norm
        ctx.save_for_backward(x, scale, windows)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        # dL/dx_i = g_i s_i^-b - 2 a b x_i * (sum of g_j x_j s_j^-b / s_j over the j whose window
        # holds i).
        (x, scale, windows), norm = ctx.saved_tensors, ctx.norm
        grad = grad.contiguous(memory_format=torch.channels_last)
        out, factor = _like(x), -2 * norm.alpha * norm.beta
        for own, own_scale, own_grad, own_out in _pieces(x, scale, grad, out):
            direct = _negative_power(own_scale, norm.beta).mul_(own_grad)
            shares = (direct * own).div_(own_scale)
            spread = torch.empty_like(shares)
            for part in _parts(shares, spread, columns=norm.columns):
                torch.mm(part[0], windows.T, out=part[1])
            torch.addcmul(direct, spread, own, value=factor, out=own_out)
        return out, None


PIECE = 1 << 19  # activations


def _like(x: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.channels_last)


def _pieces(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Split (N, C, H, W), channels last, into matrices (positions, C); into small ones on a CPU."""
    num, channels, *sides = tensors[0].shape
    step = num if tensors[0].is_cuda else PIECE // (channels * math.prod(sides))
    rows = (tensor.permute(0, 2, 3, 1).reshape(-1, channels) for tensor in tensors)
    return zip(*(matrix.split(max(1, step) * math.prod(sides)) for matrix in rows), strict=True)


def _parts(*matrices: Tensor, columns: int) -> Iterator[tuple[Tensor, ...]]:
    """Split matrices (positions, C) into those of each column."""
    return zip(*(matrix.chunk(columns, dim=1) for matrix in matrices), strict=True)


def _windows(x: Tensor, norm: LocalResponseNorm) -> Tensor:
    """Return the matrix of a column that is one where channel j (row) is in i's window (column)."""
    before, after = norm.reach()
    num = x.shape[1] // norm.columns
    return x.new_ones(num, num).tril(after).triu(-before).T.contiguous()


def _negative_power(scale: Tensor, beta: float) -> Tensor:
    """Return scale^-beta; for the paper's 3/4 by square roots, which are far cheaper than pow."""
    if beta == 0.75:
        root = scale.rsqrt()
        return root * root.sqrt()
    wide = torch.promote_types(scale.dtype, torch.float32)  # bfloat16 would also round beta
    return scale.to(wide).pow(-beta).to(scale.dtype)


class SpatialResponseNorm(nn.Module):
    """y = x * (k + alpha * sum of d^2 over size x size positions of the same map)^-beta.

    d is x itself (2012: layers-145.cfg, cnorm2), or, with `contrast`, x minus the mean of the
    positions around it (layer.cu:1605). At the borders sum and mean are over fewer
    positions.
    """

    def __init__(self, size: int, alpha: float, beta: float, k: float, *, contrast: bool = False):
        super().__init__()
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k
        self.contrast = contrast

    def forward(self, x: Tensor) -> Tensor:
        d = x
        if self.contrast:
            d = x - self._sum_around(x) / self._sum_around(torch.ones_like(x[:1, :1]))
        return x * (self.k + self.alpha * self._sum_around(d * d)).pow(-self.beta)

    def _sum_around(self, values: Tensor) -> Tensor:
        before, after = self.size // 2, (self.size - 1) // 2  # even sizes extend one further back
        padded = F.pad(values, (before, after, before, after))
        return F.avg_pool2d(padded, self.size, 1, divisor_override=1)


class ColumnLinear(nn.Linear):
    """A fully connected layer whose columns read their own inputs only.

    Args:
        inputs: of each column.
        units: of all columns.
    """

    def __init__(self, inputs: int, units: int, columns: int):
        super().__init__(inputs, units)
        self.columns = columns

    def forward(self, x: Tensor) -> Tensor:
        parts = zip(
            x.chunk(self.columns, dim=1),
            self.weight.chunk(self.columns),
            self.bias.chunk(self.columns),
            strict=True,
        )
        return torch.cat([F.linear(*part) for part in parts], dim=1)


class UnscaledDropout(nn.Module):
    """Zero each unit with probability `rate` in training; multiply by 1 - rate otherwise (4.2).

    torch's own dropout divides by the kept share in training instead, which changes activations,
    gradients and weight decay against each other (2012 code, layer.cu:1121).

    Attributes:
        mask: bool (N, units), the units that the next forward pass keeps; None to draw them from
            torch's default generator.
    """

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate
        self.mask: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x * (1.0 - self.rate)
        if self.mask is None:
            return x * torch.empty_like(x).bernoulli_(1.0 - self.rate)
        return x * self.mask
