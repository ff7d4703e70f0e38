"""Which devices are used, on machines with any number of GPUs; memory settings of the process."""

import platform
import subprocess
import sys

import pytest
import torch
from helpers import Listener

from alexnet_cli.cli import hints
from alexnet_cli.distributed import device_plan
from alexnet_cli.distributed.device_plan import (
    DevicePlan,
    choose_devices,
    keep_freed_memory,
    plan_devices,
)
from alexnet_cli.distributed.precision import SLOW_BF16
from alexnet_cli.distributed.replicas import ALONE
from alexnet_cli.distributed.runtime_config import RuntimeConfig
from alexnet_cli.errors import DeviceError, UsageError


@pytest.fixture
def machine(monkeypatch):
    """Set the number of GPUs of the machine."""

    def have(num_gpus: int) -> None:
        monkeypatch.setattr(torch.cuda, "device_count", lambda: num_gpus)

    return have


@pytest.mark.parametrize(
    ("num_gpus", "device", "num_devices", "chosen"),
    [
        (0, "auto", None, ["cpu"]),
        (1, "auto", None, ["cuda:0"]),
        (2, "auto", None, ["cuda:0"]),
        (1, "auto", 1, ["cuda:0"]),
        (2, "auto", 2, ["cuda:0", "cuda:1"]),
        (1, "cuda", None, ["cuda:0"]),
        (2, "cuda", 1, ["cuda:0"]),
        (2, "cuda", 2, ["cuda:0", "cuda:1"]),
        (0, "cpu", None, ["cpu"]),
        (2, "cpu", None, ["cpu"]),
        (0, "cpu", 1, ["cpu"]),
        (0, "cpu", 2, ["cpu", "cpu"]),
        (2, "cpu", 2, ["cpu", "cpu"]),
    ],
)
def test_devices_are_chosen(machine, num_gpus, device, num_devices, chosen):
    machine(num_gpus)

    assert [str(found) for found in choose_devices(RuntimeConfig(device, num_devices))] == chosen


@pytest.mark.parametrize(
    ("num_gpus", "device", "num_devices", "message"),
    [
        (0, "auto", 1, "1 GPU wanted, 0 found"),
        (0, "auto", 2, "2 GPUs wanted, 0 found"),
        (1, "auto", 2, "2 GPUs wanted, 1 found"),
        (0, "cuda", None, "1 GPU wanted, 0 found"),
        (0, "cuda", 2, "2 GPUs wanted, 0 found"),
        (1, "cuda", 2, "2 GPUs wanted, 1 found"),
    ],
)
def test_gpus_that_are_not_there_are_refused(machine, num_gpus, device, num_devices, message):
    machine(num_gpus)

    with pytest.raises(DeviceError, match=message) as caught:
        choose_devices(RuntimeConfig(device, num_devices))

    assert caught.value.exit_code == 4


@pytest.mark.parametrize(
    ("num_devices", "way"), [(1, "--device cpu"), (2, "--device cpu --gpus 2")]
)
def test_refusal_names_the_way_without_gpus(machine, num_devices, way):
    machine(0)

    with pytest.raises(DeviceError) as caught:
        choose_devices(RuntimeConfig("cuda", num_devices))

    assert hints.message(caught.value).endswith(way)


@pytest.mark.parametrize("device", ["gpu", "CPU", "cuda:", "cuda:x", "mps:0", "cuda:-1", ""])
def test_unknown_device_is_a_wrong_command_line(device):
    with pytest.raises(UsageError, match="choose one of auto, cuda, cuda:N, mps, cpu") as caught:
        choose_devices(RuntimeConfig(device))

    assert caught.value.exit_code == 2


def test_number_alone_is_refused_with_what_to_write():
    with pytest.raises(UsageError) as caught:
        choose_devices(RuntimeConfig("0"))
    assert caught.value.hint == "For GPU 0 write cuda:0"


def test_one_gpu_is_chosen_by_its_number(machine):
    machine(3)
    assert choose_devices(RuntimeConfig("cuda:2")) == (torch.device("cuda", 2),)
    plan = plan_devices(RuntimeConfig("cuda:1"), 2)
    assert (plan.num_replicas, plan.devices()) == (1, (torch.device("cuda", 1),))
    with pytest.raises(DeviceError, match="cuda:3: 3 GPUs found"):
        choose_devices(RuntimeConfig("cuda:3"))
    with pytest.raises(UsageError, match="cuda:1 is one device"):
        choose_devices(RuntimeConfig("cuda:1", 2))


@pytest.fixture
def mac(machine, monkeypatch):
    """Set the version of macOS; None for a machine that is no Mac with a GPU."""

    def have(version: int | None) -> None:
        machine(0)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: version is not None)
        monkeypatch.setattr(
            torch.backends.mps, "is_macos_or_newer", lambda major, _: (version or 0) >= major
        )

    return have


def test_gpu_of_a_mac_is_found(mac):
    mac(15)
    assert choose_devices(RuntimeConfig()) == (torch.device("mps"),)
    assert choose_devices(RuntimeConfig("mps", precision="bf16")) == (torch.device("mps"),)
    assert choose_devices(RuntimeConfig("cpu")) == (torch.device("cpu"),)
    plan = plan_devices(RuntimeConfig(num_devices=1), 2)
    assert (plan.kind, plan.devices()) == ("mps", (torch.device("mps"),))


def test_what_the_gpu_of_a_mac_cannot_do_is_refused(mac):
    mac(13)
    with pytest.raises(DeviceError, match="bf16 on mps needs macOS 14"):
        choose_devices(RuntimeConfig("mps", precision="bf16"))
    with pytest.raises(UsageError, match="mps is one device"):
        choose_devices(RuntimeConfig("mps", 2))
    mac(None)
    with pytest.raises(DeviceError, match="no GPU of Apple found"):
        choose_devices(RuntimeConfig("mps"))
    assert choose_devices(RuntimeConfig()) == (torch.device("cpu"),)


@pytest.mark.parametrize("num_devices", [-1, 0, 3, 8])
def test_number_of_devices_the_network_does_not_split_over_is_refused(machine, num_devices):
    machine(8)

    with pytest.raises(UsageError, match=f"^{num_devices} devices:"):
        choose_devices(RuntimeConfig("auto", num_devices))


# --- plans

GROUP = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@pytest.fixture
def torchrun(monkeypatch):
    """Make this process one of several on this machine; None for no group."""

    def started(here: int | None) -> None:
        for name in GROUP:
            monkeypatch.delenv(name, raising=False)
        if here is not None:
            values = (2 * here - 1, 2 * here, here - 1, here, "node0", 29500)
            for name, value in zip(GROUP, values, strict=True):
                monkeypatch.setenv(name, str(value))

    return started


@pytest.mark.parametrize(
    ("num_gpus", "device", "num_devices", "columns", "net_columns", "plan"),
    [
        (0, "auto", None, None, 2, ("cpu", 1, 1)),
        (0, "auto", None, 2, 2, ("cpu", 1, 1)),
        (0, "cpu", 1, None, 2, ("cpu", 1, 1)),
        (0, "cpu", 2, None, 2, ("cpu", 2, 1)),
        (0, "cpu", 2, 1, 2, ("cpu", 1, 2)),
        (0, "cpu", 3, 1, 2, ("cpu", 1, 3)),
        (0, "cpu", 4, None, 2, ("cpu", 2, 2)),
        (0, "cpu", 4, 2, 2, ("cpu", 2, 2)),
        (0, "cpu", 4, 1, 2, ("cpu", 1, 4)),
        (0, "cpu", 3, None, 1, ("cpu", 1, 3)),
        (8, "auto", None, None, 2, ("cuda", 1, 1)),
        (8, "auto", 2, None, 2, ("cuda", 2, 1)),
        (8, "auto", 8, None, 2, ("cuda", 2, 4)),
        (8, "cuda", 8, 1, 2, ("cuda", 1, 8)),
        (8, "cuda", 8, None, 1, ("cuda", 1, 8)),
        (8, "cpu", 8, 1, 2, ("cpu", 1, 8)),
    ],
)
def test_devices_are_planned(
    machine, torchrun, num_gpus, device, num_devices, columns, net_columns, plan
):
    machine(num_gpus)
    torchrun(None)

    found = plan_devices(RuntimeConfig(device, num_devices, columns), net_columns)

    assert found == DevicePlan(*plan)


@pytest.mark.parametrize(
    ("here", "num_gpus", "device", "num_devices", "net_columns", "plan"),
    [
        (1, 0, "auto", None, 2, ("cpu", 1, 1)),
        (1, 2, "auto", 2, 2, ("cuda", 2, 1)),
        (2, 0, "cpu", None, 2, ("cpu", 1, 2)),
        (2, 2, "auto", None, 2, ("cuda", 1, 2)),
        (2, 4, "auto", 4, 2, ("cuda", 2, 2)),
        (4, 8, "cuda", 4, 2, ("cuda", 1, 4)),
        (8, 8, "auto", None, 1, ("cuda", 1, 8)),
    ],
)
def test_processes_of_torchrun_are_the_replicas(
    machine, torchrun, here, num_gpus, device, num_devices, net_columns, plan
):
    machine(num_gpus)
    torchrun(here)

    found = plan_devices(RuntimeConfig(device, num_devices), net_columns)

    assert found == DevicePlan(*plan)


@pytest.mark.parametrize(
    ("here", "num_devices", "columns", "net_columns", "words"),
    [
        (None, 3, None, 2, "replicas of 2 devices do not fill them"),
        (None, 5, 2, 2, "--gpus 5 --columns 1"),
        (None, 2, 2, 1, "a replica of this network runs on 1 device."),
        (None, 4, 3, 2, "on 1 device, or on 2, a column each"),
        (2, 1, None, 2, "1 device: a replica of this network runs on 1 device, or on 2"),
        (2, 3, None, 2, "do not fill them"),
        (2, 6, None, 2, "on 1 device, or on 2"),
        (2, 4, None, 1, "a replica of this network runs on 1 device."),
    ],
)
def test_devices_that_cannot_be_shared_out_are_refused(
    machine, torchrun, here, num_devices, columns, net_columns, words
):
    machine(8)
    torchrun(here)

    with pytest.raises(UsageError) as caught:
        plan_devices(RuntimeConfig("auto", num_devices, columns), net_columns)

    assert words in hints.message(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("here", "num_gpus", "num_devices", "message"),
    [
        (None, 2, 4, "4 GPUs wanted, 2 found"),
        (None, 0, 4, "4 GPUs wanted, 0 found"),
        (2, 1, None, "2 GPUs wanted, 1 found"),
        (2, 2, 4, "4 GPUs wanted, 2 found"),
    ],
)
def test_replicas_without_a_gpu_each_are_refused(
    machine, torchrun, here, num_gpus, num_devices, message
):
    machine(num_gpus)
    torchrun(here)

    with pytest.raises(DeviceError, match=message):
        plan_devices(RuntimeConfig("auto", num_devices, 1), 2)


def test_gpus_are_given_out_in_order():
    plan = DevicePlan("cuda", 2, 3)

    given = [str(device) for rank in range(3) for device in plan.devices(rank)]

    assert given == [f"cuda:{number}" for number in range(6)]


def test_replicas_on_the_cpu_share_it():
    assert [str(device) for device in DevicePlan("cpu", 2, 4).devices(3)] == ["cpu", "cpu"]


def test_plan_of_one_replica_is_joined_without_a_group(torchrun):
    torchrun(None)

    with DevicePlan("cpu", 2, 1, "bf16").joined() as runtime:
        assert [str(device) for device in runtime.devices] == ["cpu", "cpu"]
        assert (runtime.replicas, runtime.precision) == (ALONE, "bf16")


def test_slow_bf16_is_reported_on_cpus_only(machine, torchrun, monkeypatch):
    machine(1)
    torchrun(None)
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    said = Listener()
    plan_devices(RuntimeConfig("cuda", precision="bf16"), 2, said)
    choose_devices(RuntimeConfig("cpu", precision="fp32"), progress=said)
    assert said.lines == []
    plan_devices(RuntimeConfig("cpu", precision="bf16"), 2, said)
    choose_devices(RuntimeConfig("cpu", precision="bf16"), progress=said)
    assert said.lines == [SLOW_BF16] * 2


# --- memory

FAULTS = """
import resource
import torch
from alexnet_cli.distributed.device_plan import keep_freed_memory

def faults(rounds):
    found = []
    for _ in range(rounds):  # small objects may take the place of a large one
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        sum(torch.ones(1 << 24).sum() for _ in range(3))  # 64 MiB each
        found.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    return min(found)

print(faults(2))
keep_freed_memory()
print(faults(6))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="not the GNU C library")
def test_freed_memory_is_used_again_without_page_faults():
    ended = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, check=True)
    returned, kept = map(int, ended.stdout.split())
    assert kept < 100 < 10_000 < returned


def test_other_c_libraries_are_not_changed(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(device_plan.ctypes, "CDLL", lambda _: pytest.fail("a library was changed"))

    keep_freed_memory()
