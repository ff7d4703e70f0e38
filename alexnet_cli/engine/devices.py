"""Which devices a run uses: one for the whole network, two for a column each."""

import torch

from alexnet_cli.errors import DeviceError, UsageError

DEVICES = ("auto", "cuda", "cpu")


def choose_devices(
    device: str = "auto", num_devices: int | None = None
) -> tuple[torch.device, ...]:
    """Return the devices for `--device` and `--gpus`.

    "auto" takes a GPU where there is one. Two devices of "cpu" run the split for real, side by side
    in one memory.

    Raises:
        DeviceError: a GPU that is not there.
        UsageError: an unknown device, or a number of devices the network does not split over.
    """
    if device not in DEVICES:
        raise UsageError(f"--device {device}: choose one of {', '.join(DEVICES)}.")
    if num_devices not in (None, 1, 2):
        raise UsageError(f"--gpus {num_devices}: the network runs on 1 device, or split over 2.")
    found = torch.cuda.device_count() if device != "cpu" else 0
    wanted = num_devices or 1
    if device == "cpu" or (device == "auto" and not found and num_devices is None):
        return (torch.device("cpu"),) * wanted
    if found < wanted:
        raise DeviceError(
            f"{wanted} GPU{'s' if wanted > 1 else ''} wanted, {found} found.\n"
            f"Without GPUs: --device cpu{' --gpus 2' if wanted == 2 else ''}"
        )
    return tuple(torch.device("cuda", i) for i in range(wanted))
