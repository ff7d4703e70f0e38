"""Each layer against a loop over its formula in float64; about a second.

N images, C channels, H rows, W columns.
"""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from alexnet_cli.model.geometry import conv_output_size, overhang, pool_output_size
from alexnet_cli.model.layers import (
    CeilConv2d,
    LocalResponseNorm,
    UnscaledDropout,
)

NORM_SIZES = [1, 2, 3, 4, 5, 8, 99]


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def expect_norm(x: np.ndarray, size: int, alpha: float, beta: float, k: float, columns: int):
    """Section 3.3, one activation at a time: b_i = a_i / (k + alpha * sum a_j^2)^beta."""
    y, per_column = np.empty_like(x), x.shape[1] // columns
    for n, i, row, column in np.ndindex(x.shape):
        total = 0.0
        for j in range(x.shape[1]):
            in_window = i - size // 2 <= j <= i + (size - 1) // 2
            if in_window and j // per_column == i // per_column:
                total += x[n, j, row, column] ** 2
        y[n, i, row, column] = x[n, i, row, column] / (k + alpha * total) ** beta
    return y


# --- local response normalization, section 3.3


@pytest.mark.parametrize("columns", [1, 2])
@pytest.mark.parametrize("size", NORM_SIZES)
def test_norm_is_the_equation_of_the_paper(size: int, columns: int):
    x = draw(2, 12, 2, 3)

    found = LocalResponseNorm(size, 0.3, 0.75, 2.0, columns)(x)

    expected = expect_norm(x.numpy(), size, 0.3, 0.75, 2.0, columns)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("beta", [0.25, 0.5, 1.0, 1.3])
def test_norm_raises_to_any_power(beta: float):
    x = draw(2, 8, 2, 2)

    found = LocalResponseNorm(5, 0.3, beta, 1.5, 2)(x)

    np.testing.assert_allclose(found, expect_norm(x.numpy(), 5, 0.3, beta, 1.5, 2), rtol=1e-12)


def test_norm_window_is_cut_at_the_ends_of_each_column():
    ones = torch.ones(1, 12, 1, 1, dtype=torch.float64)

    counted = 1 / LocalResponseNorm(5, alpha=1.0, beta=1.0, k=100.0, columns=2)(ones) - 100

    assert counted.flatten().tolist() == pytest.approx([3, 4, 5, 5, 4, 3] * 2)


def test_norm_of_one_column_ignores_the_other():
    x = draw(1, 12, 2, 2)
    other = x.clone()
    other[:, :6] = 1e3
    norm = LocalResponseNorm(5, 0.3, 0.75, 2.0, columns=2)

    assert torch.equal(norm(x)[:, 6:], norm(other)[:, 6:])


@pytest.mark.parametrize("size", NORM_SIZES)
def test_norm_is_torch_s_layer_with_alpha_times_size(size: int):
    x = draw(2, 10, 3, 3)
    of_torch = nn.LocalResponseNorm(size, alpha=0.2 * size, beta=0.75, k=2.0)

    found = LocalResponseNorm(size, 0.2, 0.75, 2.0, columns=2)(x)

    expected = torch.cat([of_torch(column) for column in x.chunk(2, dim=1)], dim=1)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("beta", [0.75, 1.3])
@pytest.mark.parametrize("size", NORM_SIZES)
def test_gradient_of_norm_is_its_slope(size: int, beta: float):
    x = draw(1, 6, 1, 2).requires_grad_()

    assert torch.autograd.gradcheck(LocalResponseNorm(size, 0.7, beta, 1.5, columns=2), x)


def test_gradient_of_norm_is_the_same_in_channels_last():
    x, upstream = draw(2, 8, 3, 3), draw(2, 8, 3, 3, seed=1)
    norm, gradients = LocalResponseNorm(5, 0.3, 0.75, 2.0, columns=2), []

    for layout in (torch.contiguous_format, torch.channels_last):
        leaf = x.clone(memory_format=layout).requires_grad_()
        norm(leaf).backward(upstream.contiguous(memory_format=layout))
        gradients.append(leaf.grad)

    torch.testing.assert_close(*gradients, rtol=1e-12, atol=0)


def test_norm_is_the_same_in_channels_last_and_stays_in_it():
    x = draw(2, 8, 3, 3)
    norm = LocalResponseNorm(5, 0.3, 0.75, 2.0, columns=2)

    found = norm(x.contiguous(memory_format=torch.channels_last))

    torch.testing.assert_close(found, norm(x), rtol=1e-12, atol=0)
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_norm_leaves_its_input_as_it_was():
    x = draw(1, 4, 2, 2)
    before = x.clone()

    LocalResponseNorm(5, 0.3, 0.75, 2.0, columns=1)(x)

    assert torch.equal(x, before)


# --- convolution with the size rule of 2012


def expect_conv(x: np.ndarray, conv: nn.Conv2d) -> np.ndarray:
    """Multiply window by window on a canvas of zeros that is large enough."""
    weight, bias = conv.weight.detach().numpy(), conv.bias.detach().numpy()
    window, stride, pad = conv.kernel_size[0], conv.stride[0], conv.padding[0]
    num, _, *sides = x.shape
    outputs, inputs = weight.shape[:2]
    canvas = np.zeros((num, x.shape[1], *(side + 2 * pad + stride + window for side in sides)))
    canvas[:, :, pad : pad + sides[0], pad : pad + sides[1]] = x
    steps = [-(-(2 * pad + side - window) // stride) + 1 for side in sides]
    y = np.empty((num, outputs, *steps))
    for n, kernel, row, column in np.ndindex(y.shape):
        first = kernel // (outputs // conv.groups) * inputs
        top, left = row * stride, column * stride
        patch = canvas[n, first : first + inputs, top : top + window, left : left + window]
        y[n, kernel, row, column] = (patch * weight[kernel]).sum() + bias[kernel]
    return y


@pytest.mark.parametrize(
    ("sides", "window", "stride", "pad", "groups"),
    [
        ((12, 12), 5, 4, 0, 1),  # one column and row of zeros right and bottom
        ((13, 13), 5, 4, 0, 1),  # exact
        ((9, 14), 3, 2, 1, 1),  # other overhang at the right than at the bottom
        ((8, 9), 5, 3, 2, 2),
        ((3, 3), 5, 4, 0, 1),  # smaller than its window
        ((7, 7), 3, 1, 1, 2),
    ],
)
def test_conv_reads_zeros_beyond_right_and_bottom(sides, window, stride, pad, groups):
    x = draw(2, 4, *sides)
    conv = CeilConv2d(4, 6, window, stride, pad, groups=groups).double()

    found = conv(x).detach()

    np.testing.assert_allclose(found, expect_conv(x.numpy(), conv), rtol=1e-10, atol=1e-12)


def test_conv_without_overhang_is_torch_s():
    x = draw(1, 3, 13, 13)
    conv, of_torch = (kind(3, 4, 5, 4, 2).double() for kind in (CeilConv2d, nn.Conv2d))
    of_torch.load_state_dict(conv.state_dict())

    assert torch.equal(conv(x), of_torch(x))


def test_conv_is_the_same_in_channels_last():
    x = draw(2, 3, 12, 12)
    conv = CeilConv2d(3, 4, 5, 4).double()

    found = conv(x.contiguous(memory_format=torch.channels_last))

    torch.testing.assert_close(found, conv(x), rtol=1e-10, atol=1e-12)


# --- sizes


def test_sizes_are_those_of_the_paper():
    sizes = [224]
    sizes.append(conv_output_size(sizes[-1], window=11, stride=4, pad=0))
    for _ in range(3):
        sizes.append(pool_output_size(sizes[-1], window=3, stride=2))

    assert sizes == [224, 55, 27, 13, 6]


def test_conv1_gives_55_for_224_to_227():
    assert {conv_output_size(size, 11, 4, 0) for size in (224, 225, 226, 227)} == {55}
    assert [conv_output_size(size, 11, 4, 0) for size in (223, 228)] == [54, 56]


def test_conv1_hangs_over_by_three_at_224():
    assert [overhang(size, 11, 4, 0) for size in (224, 225, 226, 227)] == [3, 2, 1, 0]


def test_overhang_makes_the_last_window_end_where_the_zeros_do():
    for size, window, stride, pad in itertools.product(
        range(1, 20), range(1, 8), (1, 2, 4), (0, 2)
    ):
        over = overhang(size, window, stride, pad)
        num_windows = conv_output_size(size, window, stride, pad)
        if size + 2 * pad >= window:
            assert 0 <= over < stride
        assert (num_windows - 1) * stride + window == size + 2 * pad + over


def test_pool_size_is_that_of_torch_s_layer():
    for size, window in itertools.product(range(1, 30), range(1, 6)):
        for stride in range(1, window + 1):
            if size > window - stride:  # else there is no output
                pool = nn.MaxPool2d(window, stride, ceil_mode=True)
                shape = pool(torch.empty(1, 1, size, size, device="meta")).shape
                assert pool_output_size(size, window, stride) == shape[-1], (size, window, stride)


# --- dropout, section 4.2


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.5])
def test_dropout_zeroes_units_in_training_and_scales_none(rate: float):
    torch.manual_seed(0)
    x = draw(64, 1000)

    found = UnscaledDropout(rate).train()(x)

    kept = found != 0
    assert torch.equal(found[kept], x[kept])
    deviation = (rate * (1 - rate) / x.numel()) ** 0.5
    assert abs(kept.double().mean().item() - (1 - rate)) <= 5 * deviation


def test_dropout_draws_for_every_unit_of_every_image():
    torch.manual_seed(0)

    kept = UnscaledDropout(0.5).train()(torch.ones(100, 200))

    for dim in (0, 1):
        shares = kept.mean(dim=dim)
        assert shares.min() > 0.15
        assert shares.max() < 0.85


def test_dropout_multiplies_by_the_kept_share_when_testing():
    x = draw(3, 7)

    torch.testing.assert_close(UnscaledDropout(0.3).eval()(x), x * 0.7, rtol=1e-15, atol=0)


def test_gradient_reaches_the_kept_units_only():
    torch.manual_seed(0)
    x = torch.ones(50, requires_grad=True)

    found = UnscaledDropout(0.5).train()(x)
    found.sum().backward()

    assert torch.equal(x.grad, found.detach())
