"""Memory that is full and GPUs that fail: exit 4, and what to try."""

import pytest
import torch

from alexnet_cli.cli import hints
from alexnet_cli.distributed.oom_errors import friendly_oom_errors
from alexnet_cli.errors import MachineError, UsageError

CUDA = (
    "CUDA out of memory. Tried to allocate 2.25 GiB. GPU 0 has a total capacity of 139.80 GiB of "
    "which 1.19 GiB is free. Process 17 has 138.60 GiB memory in use. Of the allocated memory ..."
)
CPU = (
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you "
    "tried to allocate 17179869184 bytes. Error code 12 (Cannot allocate memory)"
)
ASYNC = "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"
LOST = "CUDA error: unspecified launch failure\nCUDA kernel errors might be asynchronously reported"


def shown(fault: Exception) -> str:
    with pytest.raises(MachineError) as caught, friendly_oom_errors(128):
        raise fault
    assert caught.value.exit_code == 4
    assert caught.value.__cause__ is fault
    assert hints.message(caught.value).count("\n") < 3
    return hints.message(caught.value)


@pytest.mark.parametrize(
    ("fault", "facts"),
    [
        (torch.OutOfMemoryError(CUDA), " (2.25 GiB needed, 1.19 GiB free)."),
        (RuntimeError(CPU), " (17179869184 bytes needed)."),
        (torch.AcceleratorError(ASYNC), "of 128.\nEverything saved before is kept."),
        (torch.OutOfMemoryError("full"), "of 128.\nEverything saved before is kept."),
    ],
    ids=["cuda", "cpu", "reported late", "without a number"],
)
def test_full_memory_names_what_was_needed_and_a_smaller_batch(fault, facts):
    said = shown(fault)

    assert "out of memory with batches of 128" in said
    assert facts in said
    assert "--set batch_size=64" in said
    assert "--gpus 2 --columns 1" in said


def test_failed_gpu_is_reported_with_how_to_resume():
    said = shown(torch.AcceleratorError(LOST))

    assert said.startswith("the GPU failed (CUDA error: unspecified launch failure).")
    assert "--resume" in said


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (torch.OutOfMemoryError(CUDA), "(2.25 GiB needed, 1.19 GiB free).\nTry less."),
        (RuntimeError(CPU), "(17179869184 bytes needed).\nTry less."),
        (
            torch.AcceleratorError(LOST),
            "Run the same command again. If the GPU fails again: --device cpu",
        ),
    ],
    ids=["cuda", "cpu", "lost"],
)
def test_what_saves_nothing_has_its_own_advice(fault, said):
    with pytest.raises(MachineError) as caught, friendly_oom_errors(128, "Try less."):
        raise fault
    assert hints.message(caught.value).endswith(said)


@pytest.mark.parametrize("fault", [RuntimeError("shape"), UsageError("--gpus"), KeyError("x")])
def test_other_faults_stay_as_they_are(fault):
    with pytest.raises(type(fault)) as caught, friendly_oom_errors(128):
        raise fault
    assert caught.value is fault


def test_real_allocation_that_is_too_large_is_reported():
    with pytest.raises(MachineError, match=r"281474976710656 bytes needed"):
        with friendly_oom_errors(128):
            torch.empty(1 << 46)
