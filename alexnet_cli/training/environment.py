"""What a run was trained on: versions, devices and the command line, for RUN/environment.json."""

import os
import platform
import re
import sys
from datetime import UTC, datetime
from importlib import metadata

import torch

from alexnet_cli import __version__
from alexnet_cli.io.cores import num_cores

PACKAGES = ("torch", "numpy", "pillow", "simplejpeg", "cykooz-resizer", "safetensors")
# No other variable is recorded, except those of the options of train: they may hold keys.
VARIABLES = (
    *("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "WORLD_SIZE", "RANK", "LOCAL_WORLD_SIZE"),
    *("SLURM_JOB_ID", "SLURM_JOB_NUM_NODES", "ALEXNET_CACHE", "ALEXNET_DEVICE"),
)
OPTIONS = "ALEXNET_TRAIN_"
SECRETS = re.compile(r"(?<=://)[^/@\s]*@|\?\S*")


def describe_session(devices: tuple[torch.device, ...], world_size: int) -> dict:
    """Return where and with what this process trains, as JSON; it has no passwords of URLs."""
    packages = {}
    for name in PACKAGES:
        try:
            packages[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": [_without_secrets(word) for word in sys.argv],
        "alexnet": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": packages,
        "cuda": torch.version.cuda,
        "devices": [_name_of(device) for device in devices],
        "replicas": world_size,
        "cores": num_cores(),
        "variables": {
            name: _without_secrets(value)
            for name, value in sorted(os.environ.items())
            if name in VARIABLES or name.startswith(OPTIONS)
        },
    }


def _without_secrets(word: str) -> str:
    """Return a word of the command line or a variable without passwords and queries of URLs."""
    return SECRETS.sub("", word) if "://" in word else word


def _name_of(device: torch.device) -> str:
    if device.type != "cuda":
        return device.type
    return f"{device}: {torch.cuda.get_device_name(device)}"
