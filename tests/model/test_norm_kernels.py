"""The Triton kernels of the response normalization: interpreted on a CPU, and built for GPUs."""

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch

from alexnet_cli.model.layers import LocalResponseNorm, _norm_kernels

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="no Triton here")
GPU = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]

# The reference goes channel by channel through the formula in float64, and torch's autograd takes
# its gradient.
INTERPRETED = """
import sys
import torch
from alexnet_cli.model.norm_kernels import can_run, response_norm

def reference(x, size, alpha, beta, k, columns):
    squares, num = x.square(), x.shape[1] // columns
    scales = []
    for i in range(x.shape[1]):
        first = i // num * num
        window = range(max(first, i - size // 2), min(first + num, i + (size - 1) // 2 + 1))
        scales.append(k + alpha * sum(squares[:, j] for j in window))
    return x * torch.stack(scales, 1) ** -beta

CASES = [
    (5, 1e-3, 0.75, 2.0, 2, (3, 96, 7, 5), torch.float32),  # the last block is short
    (5, 1e-3, 0.75, 2.0, 1, (1, 4, 1, 1), torch.float32),  # fewer channels than the window
    (4, 1e-2, 0.6, 1.0, 1, (2, 10, 6, 6), torch.float32),  # even sizes reach one further back
    (1, 1e-2, 1.0, 1.0, 2, (2, 6, 3, 3), torch.float32),
    (9, 1e-3, 0.75, 2.0, 2, (2, 24, 9, 9), torch.float32),
    (5, 1e-3, 0.75, 2.0, 2, (0, 8, 3, 3), torch.float32),  # an empty share of a batch
    (5, 1e-3, 0.75, 2.0, 2, (3, 32, 7, 5), torch.bfloat16),
]
generator = torch.Generator().manual_seed(0)
for number, (size, alpha, beta, k, columns, shape, dtype) in enumerate(CASES):
    for layout in [(torch.contiguous_format, torch.channels_last)[number % 2]]:
        x, grad = (torch.randn(shape, generator=generator).mul_(20).to(dtype) for _ in range(2))
        x = x.contiguous(memory_format=layout).requires_grad_()
        assert can_run(x, size)
        y = response_norm(x, size, alpha, beta, k, columns)
        (found,) = torch.autograd.grad(y, x, grad)
        wide = x.detach().double().requires_grad_()
        expected = reference(wide, size, alpha, beta, k, columns)
        (expected_gradient,) = torch.autograd.grad(expected, wide, grad.double())
        tolerance = 2**-7 if dtype == torch.bfloat16 else 1e-6
        for mine, theirs in ((y, expected), (found, expected_gradient)):
            assert mine.dtype == dtype
            scale = theirs.abs().max().item() if theirs.numel() else 1.0
            error = (mine.double() - theirs).abs().max().item() if theirs.numel() else 0.0
            assert error <= tolerance * scale
x = torch.randn(2, 8, 3, 3, generator=generator).requires_grad_()
torch.library.opcheck(response_norm, (x, 5, 1e-3, 0.75, 2.0, 2))  # so torch.compile can use it
print("as the formula")
"""


def test_interpreted_kernels_compute_the_formula_and_its_gradient():
    environment = {**os.environ, "TRITON_INTERPRET": "1"}

    done = subprocess.run(
        [sys.executable, "-c", INTERPRETED], env=environment, capture_output=True, text=True
    )

    assert done.stdout == "as the formula\n", done.stderr[-2000:]


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("pointer", ["*bf16", "*fp32"])
def test_kernels_are_built_for_gpus_and_load_each_neighbor_once(capability, pointer):
    """No GPU is needed: Triton brings its assembler. The paper's window is five channels wide."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile

    from alexnet_cli.model import norm_kernels

    constants = {
        "CHANNELS": 48,
        "BEFORE": 2,
        "AFTER": 2,
        "IS_THREE_QUARTERS": True,
        "BLOCK": norm_kernels.BLOCK,
    }
    per_thread = norm_kernels.BLOCK // (4 * 32)
    kernels = {norm_kernels._forward_kernel: (2, 5), norm_kernels._backward_kernel: (3, 9 + 5)}
    for kernel, (num_pointers, loads) in kernels.items():
        names = kernel.arg_names
        kinds = dict.fromkeys(("alpha", "beta", "k"), "fp32") | {"num": "i32"}
        kinds |= dict.fromkeys(names[:num_pointers], pointer)
        source = ASTSource(
            kernel,
            {name: kinds.get(name, "constexpr") for name in names},
            {(names.index(name),): value for name, value in constants.items()},
        )

        built = compile(source, target=GPUTarget("cuda", capability, 32))

        assert built.asm["cubin"]
        assert built.asm["ptx"].count("ld.global") == loads * per_thread


@pytest.mark.parametrize("device", [pytest.param("cuda", marks=GPU)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_norm_on_a_gpu_equals_that_on_a_cpu(device: str, dtype: torch.dtype):
    assert _norm_kernels() is not None
    norm = LocalResponseNorm(5, 1e-3, 0.75, 2.0, columns=2)
    generator, results = torch.Generator().manual_seed(0), []
    x, grad = (torch.randn(4, 96, 27, 27, generator=generator).mul_(20) for _ in range(2))

    for place, kind in (("cpu", torch.float64), (device, dtype)):
        leaf = x.to(place, kind).contiguous(memory_format=torch.channels_last).requires_grad_()
        y = norm(leaf)
        y.backward(grad.to(place, kind))
        results.append((y.detach().cpu().double(), leaf.grad.cpu().double()))

    tolerance = 2**-6 if dtype == torch.bfloat16 else 1e-5
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance * 20)
