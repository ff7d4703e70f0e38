"""Which numbers a forward pass is computed in, and that the choice is made both ways."""

from pathlib import Path

import pytest
import torch
from helpers import Listener

from alexnet_cli.distributed.precision import (
    SLOW_BF16,
    allow_tf32,
    autocast,
    describe_precision,
    warn_of_slow_bf16,
)
from alexnet_cli.distributed.runtime_config import PRECISIONS

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def back_to_fp32():
    yield
    allow_tf32("fp32")


@pytest.mark.parametrize("precision", PRECISIONS)
def test_only_bf16_changes_what_a_layer_returns(precision: str):
    layer, x = torch.nn.Linear(3, 2), torch.ones(1, 3)

    with autocast(CPU, precision):
        y = layer(x)

    assert y.dtype == (torch.bfloat16 if precision == "bf16" else torch.float32)


def test_weights_and_their_gradients_stay_float32_under_bf16():
    layer = torch.nn.Linear(3, 2)

    with autocast(CPU, "bf16"):
        loss = layer(torch.ones(1, 3)).float().sum()
    loss.backward()

    assert {layer.weight.dtype, layer.weight.grad.dtype} == {torch.float32}


def switches() -> list[str]:
    backends = torch.backends
    matmul, conv, rnn = backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn
    return [part.fp32_precision for part in (matmul, conv, rnn)]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_tf32_is_on_for_tf32_alone_whatever_was_before(precision: str):
    for before in PRECISIONS:
        allow_tf32(before)

        allow_tf32(precision)

        assert switches() == 3 * ["tf32" if precision == "tf32" else "ieee"]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_torch_can_still_be_asked_by_the_older_name(precision: str):
    """torch.compile of 2.11 does, and torch raises where the two ways disagree."""
    allow_tf32(precision)

    assert torch.get_float32_matmul_precision() == ("high" if precision == "tf32" else "highest")
    is_tf32 = precision == "tf32"
    assert torch.backends.cudnn.allow_tf32 == is_tf32
    assert torch.backends.cuda.matmul.allow_tf32 == is_tf32


@pytest.mark.parametrize(
    ("instructions", "precision", "warns"),
    [
        ({"avx512_f": True, "avx512_bf16": False}, "bf16", True),
        ({"avx512_f": True, "avx512_bf16": False}, "fp32", False),
        ({"avx512_bf16": True}, "bf16", False),
        ({"amx_bf16": True}, "bf16", False),
        ({"neon": True, "bf16": True}, "bf16", False),
        ({}, "bf16", True),
    ],
)
def test_cpu_without_bfloat16_instructions_is_warned_of(
    monkeypatch, instructions, precision: str, warns: bool
):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: instructions)
    listener = Listener()

    warn_of_slow_bf16(precision, listener)

    assert listener.lines == ([SLOW_BF16] if warns else [])


def test_instructions_of_this_cpu_are_those_that_linux_lists():
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        pytest.skip("only Linux lists them there")
    words = set(path.read_text().replace(":", " ").split())
    known = torch.cpu.get_capabilities()
    for name in ("avx512_bf16", "amx_bf16", "bf16"):
        assert bool(known.get(name)) == (name in words), name


@pytest.mark.parametrize(
    ("precision", "words"),
    [("fp32", "TensorFloat-32 off"), ("tf32", "no TensorFloat-32 here"), ("bf16", "bfloat16")],
)
def test_line_names_the_precision_and_what_it_comes_to(precision: str, words: str):
    line = describe_precision(precision, CPU)

    assert line.startswith(f"precision {precision}: ")
    assert words in line


def test_line_distinguishes_gpus_with_and_without_tensorfloat_32(monkeypatch):
    lines = []
    for capability in ((7, 5), (8, 0)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, c=capability: c)
        lines.append(describe_precision("tf32", torch.device("cuda", 0)))

    assert "cuda has no TensorFloat-32" in lines[0]
    assert "TensorFloat-32 products" in lines[1]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_fp32_products_on_a_gpu_are_those_of_float32():
    x = torch.randn(256, 256, generator=torch.Generator().manual_seed(0))
    exact = x.double() @ x.double()
    allow_tf32("fp32")

    error = (x.cuda() @ x.cuda()).cpu().double() - exact

    assert error.abs().max() < 1e-3  # TF32's is some 0.05
