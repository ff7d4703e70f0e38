"""Which devices are taken, with no, one and two GPUs in the machine."""

import pytest
import torch

from alexnet_cli.engine.devices import choose_devices
from alexnet_cli.errors import DeviceError, UsageError


@pytest.fixture
def machine(monkeypatch):
    """Make the machine have so many GPUs."""

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

    assert [str(found) for found in choose_devices(device, num_devices)] == chosen


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
        choose_devices(device, num_devices)

    assert caught.value.exit_code == 4


@pytest.mark.parametrize(
    ("num_devices", "hint"), [(1, "--device cpu"), (2, "--device cpu --gpus 2")]
)
def test_refusal_names_the_way_without_gpus(machine, num_devices, hint):
    machine(0)

    with pytest.raises(DeviceError) as caught:
        choose_devices("cuda", num_devices)

    assert str(caught.value).endswith(hint)


@pytest.mark.parametrize("device", ["gpu", "CPU", "cuda:1", ""])
def test_unknown_device_is_a_wrong_command_line(device):
    with pytest.raises(UsageError, match="choose one of auto, cuda, cpu") as caught:
        choose_devices(device)

    assert caught.value.exit_code == 2


@pytest.mark.parametrize("num_devices", [-1, 0, 3, 8])
def test_number_of_devices_the_network_does_not_split_over_is_refused(machine, num_devices):
    machine(8)

    with pytest.raises(UsageError, match=f"--gpus {num_devices}"):
        choose_devices("auto", num_devices)
