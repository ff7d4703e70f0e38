"""Each layer against a loop over its formula in float64; a few seconds.

N images, C channels, H rows, W columns.
"""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call

from alexnet_cli.model.layers import (
    CeilConv2d,
    ColumnLinear,
    LocalConv2d,
    LocalResponseNorm,
    SpatialResponseNorm,
    TwoScaleConv2d,
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


# --- the same in bfloat16, and compiled


def test_norm_of_no_images_is_of_none():
    assert LocalResponseNorm(5, 0.3, 0.75, 2.0, columns=2)(draw(0, 8, 3, 3)).shape == (0, 8, 3, 3)


def test_norm_can_be_described_without_numbers():
    x = torch.empty(1, 8, 3, 3, device="meta")

    assert LocalResponseNorm(5, 0.3, 0.75, 2.0, columns=2)(x).shape == x.shape


def test_norm_without_gradients_is_the_same():
    x, norm = draw(2, 8, 3, 3), LocalResponseNorm(5, 0.3, 0.75, 2.0, columns=2)

    with torch.inference_mode():
        found = norm(x)

    torch.testing.assert_close(found, norm(x.requires_grad_()).detach(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("beta", [0.75, 0.6])
@pytest.mark.parametrize("size", NORM_SIZES)
def test_norm_in_bfloat16_is_right_but_for_a_few_roundings(size: int, beta: float):
    """A rounding is 2^-8 at most; five or so follow each other, and more in the gradient."""
    x, upstream = (40 * draw(3, 96, 4, 4, seed=seed).bfloat16() for seed in (0, 1))
    norm = LocalResponseNorm(size, 1e-3, beta, 2.0, columns=2)
    leaves = [x.double().requires_grad_(), x.clone().requires_grad_()]

    expected, found = (norm(leaf) for leaf in leaves)
    expected.backward(upstream.double())
    found.backward(upstream)

    assert (found.dtype, leaves[1].grad.dtype) == (torch.bfloat16, torch.bfloat16)
    assert ((found - expected).abs() < 5 * 2**-8 * expected.abs()).all()
    error = (leaves[1].grad - leaves[0].grad).square().mean().sqrt()
    assert error < 3 * 2**-9 * leaves[0].grad.square().mean().sqrt()


NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, NO_GPU])])
@pytest.mark.parametrize("beta", [0.75, 0.6])
def test_norm_keeps_its_type_under_autocast(beta: float, device: str):
    """Autocast turns powers to float32 on a GPU, and matrix products of float32 to bfloat16."""
    norm = LocalResponseNorm(5, 1e-3, beta, 2.0, columns=2)

    for dtype in (torch.float32, torch.bfloat16):
        x = draw(2, 8, 3, 3).to(device, dtype)
        with torch.autocast(device, torch.bfloat16):
            found = norm(x)
        assert found.dtype == dtype
        assert torch.equal(found, norm(x))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch 2.11's own
@pytest.mark.parametrize(
    ("size", "beta", "dtype"),
    [(4, 0.6, torch.float64), (99, 0.75, torch.float64), (5, 0.75, torch.bfloat16)],
)
def test_compiled_norm_is_the_same(size: int, beta: float, dtype: torch.dtype):
    """Traced as torch.compile traces it; no kernels are made, which takes a C++ compiler."""
    norm = LocalResponseNorm(size, 0.01, beta, 2.0, columns=2)
    x, upstream = (draw(2, 8, 3, 3, seed=seed).to(dtype) for seed in (0, 1))
    tolerance, found = (5 * 2**-8 if dtype == torch.bfloat16 else 1e-12), []

    for call in (norm, torch.compile(norm, backend="aot_eager", dynamic=False)):
        leaf = x.contiguous(memory_format=torch.channels_last).requires_grad_()
        y = call(leaf)
        y.backward(upstream)
        found.append((y.detach(), leaf.grad))

    torch.compiler.reset()
    torch.testing.assert_close(*found, rtol=tolerance, atol=tolerance)
    # In bfloat16 only what comes out is rounded: a compiler keeps the rest in registers.
    torch.testing.assert_close(found[1][0].double(), norm(x.double()), rtol=2**-8, atol=0)


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
        crop = canvas[n, first : first + inputs, top : top + window, left : left + window]
        y[n, kernel, row, column] = (crop * weight[kernel]).sum() + bias[kernel]
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


@pytest.mark.parametrize("sides", [(9, 9), (13, 11)])
def test_group_by_group_a_convolution_is_the_same(sides):
    """As on GPUs, gradients included."""
    conv, found = CeilConv2d(4, 6, 5, 2, 1, groups=2).double(), []

    for convolve in (conv, lambda x: conv._group_by_group(x, 1)):
        x = draw(2, 4, *sides).requires_grad_()
        conv.zero_grad()
        y = convolve(x)
        y.square().sum().backward()
        found.append([y.detach(), x.grad, conv.weight.grad.clone(), conv.bias.grad.clone()])

    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


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


# --- convolution with weights of its own at every position


def expect_local(x: np.ndarray, layer: LocalConv2d, window: int, pad: int) -> np.ndarray:
    """Multiply each position's window by that position's weights, one pixel at a time."""
    weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    num, channels, side, _ = x.shape
    out = side + 2 * pad - window + 1
    y = np.empty((num, len(weight), out, out))
    for n, kernel, row, column in np.ndindex(y.shape):
        position = row * out + column
        total = bias[kernel, position]
        for channel, i, j in np.ndindex(channels, window, window):
            top, left = row - pad + i, column - pad + j
            if 0 <= top < side and 0 <= left < side:
                tap = (channel * window + i) * window + j
                total += weight[kernel, tap, position] * x[n, channel, top, left]
        y[n, kernel, row, column] = total
    return y


def draw_parameters(layer: nn.Module) -> nn.Module:
    """Return the layer in float64 with drawn weights and biases."""
    layer = layer.double()
    with torch.no_grad():
        for seed, parameter in enumerate(layer.parameters()):
            parameter.copy_(draw(*parameter.shape, seed=seed))
    return layer


@pytest.mark.parametrize(
    ("side", "window", "pad"), [(5, 3, 1), (6, 3, 0), (4, 2, 1), (3, 5, 2), (1, 1, 0), (3, 3, 0)]
)
def test_local_conv_multiplies_each_position_by_its_own_weights(side, window, pad):
    x = draw(2, 3, side, side, seed=9)
    layer = draw_parameters(LocalConv2d(3, 4, window, pad, side))

    found = layer(x).detach()

    np.testing.assert_allclose(found, expect_local(x.numpy(), layer, window, pad), rtol=1e-10)


def test_local_conv_has_a_set_of_weights_and_biases_for_every_position():
    layer = LocalConv2d(3, 8, 5, 1, 7)

    shapes = {name: tuple(parameter.shape) for name, parameter in layer.named_parameters()}
    assert shapes == {"weight": (8, 3 * 5 * 5, 25), "bias": (8, 25)}


def test_local_conv_with_the_same_weights_everywhere_is_a_convolution():
    x, conv = draw(2, 3, 6, 6), nn.Conv2d(3, 4, 3, padding=1).double()
    layer = LocalConv2d(3, 4, 3, 1, 6).double()
    with torch.no_grad():
        layer.weight.copy_(conv.weight.flatten(1)[:, :, None])
        layer.bias.copy_(conv.bias[:, None])

    torch.testing.assert_close(layer(x), conv(x), rtol=1e-10, atol=1e-12)


def test_local_conv_is_the_same_in_channels_last():
    x, layer = draw(2, 3, 6, 6), draw_parameters(LocalConv2d(3, 4, 3, 1, 6))

    found = layer(x.contiguous(memory_format=torch.channels_last))

    torch.testing.assert_close(found, layer(x), rtol=1e-12, atol=1e-12)


def passes_gradcheck(layer: nn.Module, *inputs: torch.Tensor) -> bool:
    """Compare the gradients of a layer's inputs and parameters with their slopes."""
    names = [name for name, _ in layer.named_parameters()]

    def call(*tensors: torch.Tensor) -> torch.Tensor:
        parameters = dict(zip(names, tensors[len(inputs) :], strict=True))
        return functional_call(layer, parameters, tensors[: len(inputs)])

    parameters = [parameter.detach().requires_grad_() for parameter in layer.parameters()]
    leaves = [tensor.requires_grad_() for tensor in inputs]
    return torch.autograd.gradcheck(call, (*leaves, *parameters))


@pytest.mark.parametrize(("window", "pad"), [(3, 1), (2, 0)])
def test_gradients_of_local_conv_are_its_slopes(window: int, pad: int):
    layer = draw_parameters(LocalConv2d(2, 3, window, pad, 4))

    assert passes_gradcheck(layer, draw(2, 2, 4, 4, seed=9))


# --- convolution that reads a small blurred image too


def expect_low(image: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Blur the image around every fourth pixel, then convolve what that leaves, 5 x 5 by 2."""
    line = [math.exp(-((tap - 4) ** 2) / (2 * 4**2)) for tap in range(9)]
    side = image.shape[2]
    kept = range(2, side, 4)
    small = np.zeros((*image.shape[:2], len(kept), len(kept)))
    for (i, row), (j, column) in itertools.product(enumerate(kept), repeat=2):
        for down, right in itertools.product(range(9), repeat=2):
            top, left = row + down - 4, column + right - 4
            if 0 <= top < side and 0 <= left < side:
                share = line[down] * line[right] / sum(line) ** 2
                small[:, :, i, j] += share * image[:, :, top, left]
    starts = [0]
    while starts[-1] + 5 < len(kept):
        starts.append(starts[-1] + 2)
    y = np.zeros((len(image), len(weight), len(starts), len(starts)))
    for (i, top), (j, left) in itertools.product(enumerate(starts), repeat=2):
        crop = small[:, :, top : top + 5, left : left + 5]  # cut where it hangs over
        for kernel, taps in enumerate(weight):
            y[:, kernel, i, j] = (crop * taps[:, : crop.shape[2], : crop.shape[3]]).sum((1, 2, 3))
    return y


@pytest.mark.parametrize(
    ("side", "image_side", "stride", "groups"),
    [
        (8, 72, 1, 1),  # small image 18, the last window hangs over by one
        (8, 73, 1, 2),
        (11, 99, 1, 2),  # small image 25, exact
        (5, 32, 2, 1),
        (3, 34, 1, 1),
    ],
)
def test_two_scale_conv_adds_what_it_makes_of_the_small_image(side, image_side, stride, groups):
    x, image = draw(2, 4, side, side, seed=8), draw(2, 3, image_side, image_side, seed=9)
    layer = draw_parameters(TwoScaleConv2d(4, 6, 5, stride, 2, groups=groups))

    found = layer(x, image).detach()

    expected = expect_conv(x.numpy(), layer)
    expected += expect_low(image.numpy(), layer.low_weight.detach().numpy())
    # The blur's weights are float32.
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_two_scale_conv_has_one_bias_and_a_blur_that_is_no_weight():
    layer = TwoScaleConv2d(8, 6, 5, 1, 2, groups=2)

    shapes = {name: tuple(tensor.shape) for name, tensor in layer.state_dict().items()}
    assert shapes == {"weight": (6, 4, 5, 5), "bias": (6,), "low_weight": (6, 3, 5, 5)}


def test_gradients_of_two_scale_conv_are_its_slopes():
    layer = draw_parameters(TwoScaleConv2d(2, 2, 3, 1, 1, groups=2))

    assert passes_gradcheck(layer, draw(1, 2, 2, 2, seed=8), draw(1, 3, 23, 23, seed=9))


# --- normalization over space


def expect_spatial_norm(x: np.ndarray, norm: SpatialResponseNorm) -> np.ndarray:
    """Sum squares over the positions of a window that are on the map, one at a time."""
    height, width, size = *x.shape[2:], norm.size

    def window(row: int, column: int) -> list[tuple[int, int]]:
        rows, columns = (range(at - size // 2, at - size // 2 + size) for at in (row, column))
        return [(r, c) for r in rows for c in columns if 0 <= r < height and 0 <= c < width]

    distance, y = x.copy(), np.empty_like(x)
    for row, column in np.ndindex(height, width):
        if norm.contrast:
            around = window(row, column)
            mean = sum(x[:, :, r, c] for r, c in around) / len(around)
            distance[:, :, row, column] -= mean
    for row, column in np.ndindex(height, width):
        total = sum(distance[:, :, r, c] ** 2 for r, c in window(row, column))
        y[:, :, row, column] = x[:, :, row, column] / (norm.k + norm.alpha * total) ** norm.beta
    return y


@pytest.mark.parametrize("contrast", [False, True])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 8, 99])
def test_spatial_norm_is_its_formula(size: int, contrast: bool):
    x = draw(2, 3, 5, 6) + 0.5
    norm = SpatialResponseNorm(size, 0.3, 0.75, 1.5, contrast=contrast)

    np.testing.assert_allclose(norm(x), expect_spatial_norm(x.numpy(), norm), rtol=1e-10)


@pytest.mark.parametrize("contrast", [False, True])
@pytest.mark.parametrize(("alpha", "beta", "k"), [(2.0, 0.5, 1.0), (0.01, 1.3, 2.0), (0, 0.75, 3)])
def test_spatial_norm_takes_any_constants(alpha: float, beta: float, k: float, contrast: bool):
    x = draw(2, 2, 4, 4)
    norm = SpatialResponseNorm(3, alpha, beta, k, contrast=contrast)

    np.testing.assert_allclose(norm(x), expect_spatial_norm(x.numpy(), norm), rtol=1e-10)


@pytest.mark.parametrize("size", [1, 3, 4])
def test_contrast_norm_of_a_level_map_divides_by_k_alone(size: int):
    level = torch.full((1, 2, 5, 5), 7.0, dtype=torch.float64)

    found = SpatialResponseNorm(size, 1.0, 0.5, 4.0, contrast=True)(level)

    torch.testing.assert_close(found, level / 2, rtol=1e-12, atol=0)


@pytest.mark.parametrize("contrast", [False, True])
def test_spatial_norm_keeps_to_its_map(contrast: bool):
    x = draw(1, 3, 4, 4)
    other = x.clone()
    other[:, 1] += 1
    norm = SpatialResponseNorm(3, 0.5, 0.75, 1.0, contrast=contrast)

    changed = (norm(x) != norm(other)).flatten(2).any(dim=2)

    assert changed.tolist() == [[False, True, False]]


@pytest.mark.parametrize("contrast", [False, True])
@pytest.mark.parametrize("size", [1, 4, 5, 9])
def test_gradient_of_spatial_norm_is_its_slope(size: int, contrast: bool):
    norm = SpatialResponseNorm(size, 0.7, 0.75, 1.5, contrast=contrast)

    assert torch.autograd.gradcheck(norm, (draw(1, 2, 4, 5).requires_grad_(),))


# --- layers of separate columns


@pytest.mark.parametrize("columns", [1, 2, 3])
def test_units_of_a_column_read_its_own_inputs_only(columns: int):
    layer = ColumnLinear(4, 6 * columns, columns).double()
    x, weight, bias = draw(5, 4 * columns), layer.weight.detach(), layer.bias.detach()
    expected = np.empty((5, 6 * columns))
    for image, unit in np.ndindex(expected.shape):
        own = x[image, unit // 6 * 4 : unit // 6 * 4 + 4]
        expected[image, unit] = sum(a * b for a, b in zip(own, weight[unit], strict=True))
        expected[image, unit] += bias[unit]

    np.testing.assert_allclose(layer(x).detach(), expected, rtol=1e-12, atol=1e-14)


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
