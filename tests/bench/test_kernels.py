"""Kernels of a step, profiled, with a step whose operators are known."""

import pytest
import torch

from alexnet_cli.bench.kernels import measure_kernels

CPU = torch.device("cpu")


def test_operators_of_a_step_are_counted_with_the_slowest_first():
    a, b = torch.randn(300, 300), torch.randn(300)

    kernels = measure_kernels(lambda: (a @ a, a @ a, b.sort()), CPU)

    by_name = {kernel.name: kernel for kernel in kernels}
    assert by_name["aten::mm"].calls == 2
    assert by_name["aten::sort"].calls == 1
    assert kernels[0].name == "aten::mm"
    assert sum(kernel.share for kernel in kernels) == pytest.approx(1)
    assert by_name["aten::mm"].seconds > 1e-6


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_kernels_of_a_gpu_are_its_own_and_not_torch_s_operators():
    device = torch.device("cuda", 0)
    a = torch.randn(512, 512, device=device)

    kernels = measure_kernels(lambda: a @ a, device)

    assert kernels
    assert not any(kernel.name.startswith("aten::") for kernel in kernels)
