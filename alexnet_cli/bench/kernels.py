"""The kernels of a training step with their times, from torch's profiler.

On a GPU these are its kernels, copies and fills; on a CPU the operators of torch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

NUM_STEPS = 5


@dataclass(frozen=True, slots=True)
class Kernel:
    """One kernel, or operator, in a step.

    Attributes:
        calls: per step.
        seconds: per step, without those of the operators that it calls.
        share: of the seconds of all kernels.
    """

    name: str
    calls: float
    seconds: float
    share: float


def measure_kernels(step: Callable[[], object], device: torch.device) -> list[Kernel]:
    """Profile some steps and return their kernels, the slowest first."""
    on_gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU]
    if on_gpu:
        activities.append(ProfilerActivity.CUDA)
    step()
    with profile(activities=activities) as profiled:
        for _ in range(NUM_STEPS):
            step()
        if on_gpu:
            torch.cuda.synchronize(device)
    wanted = DeviceType.CUDA if on_gpu else DeviceType.CPU
    events = [
        (event.key, event.count, _microseconds(event, on_gpu=on_gpu))
        for event in profiled.key_averages()
        if event.device_type == wanted and not getattr(event, "is_user_annotation", False)
    ]
    total = sum(time for _, _, time in events) or 1.0
    kernels = [
        Kernel(name, count / NUM_STEPS, time / NUM_STEPS / 1e6, time / total)
        for name, count, time in events
        if time > 0
    ]
    return sorted(kernels, key=lambda kernel: -kernel.seconds)


def _microseconds(event: Any, *, on_gpu: bool) -> float:
    return event.self_device_time_total if on_gpu else event.self_cpu_time_total
