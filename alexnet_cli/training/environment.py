"""What a run was trained on: versions, devices and the command line, for RUN/environment.json."""

import json
import os
import platform
import re
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

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
        **source_version(),
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


def source_version(package: Path = Path(__file__).resolve().parents[1]) -> dict:
    """Return the git commit that the package is of, and whether its files differ from it.

    A checkout is asked with git; for a copy that pip installed from a repository, pip has noted the
    commit. Both values are None where nothing says so.
    """
    if (package.parent / ".git").exists():
        with suppress(OSError, subprocess.SubprocessError):
            return {
                "commit": _ask_git(package.parent, "rev-parse", "HEAD"),
                "modified": bool(_ask_git(package.parent, "status", "-s", "-uno")),
            }
    with suppress(metadata.PackageNotFoundError, KeyError, TypeError, ValueError):
        installed = metadata.distribution("alexnet-cli")
        if package == Path(str(installed.locate_file(package.name))).resolve():
            origin = json.loads(installed.read_text("direct_url.json") or "{}")
            return {"commit": origin["vcs_info"]["commit_id"], "modified": None}
    return {"commit": None, "modified": None}


def _ask_git(folder: Path, *words: str) -> str:
    others = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")  # a hook sets them for its repository
    own = {name: value for name, value in os.environ.items() if name not in others}
    done = subprocess.run(
        ["git", "-C", folder, *words],
        env=own | {"GIT_OPTIONAL_LOCKS": "0"},
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=10,
        check=True,
    )
    return done.stdout.strip()


def _without_secrets(word: str) -> str:
    """Return a word of the command line or a variable without passwords and queries of URLs."""
    return SECRETS.sub("", word) if "://" in word else word


def _name_of(device: torch.device) -> str:
    if device.type != "cuda":
        return device.type
    return f"{device}: {torch.cuda.get_device_name(device)}"
