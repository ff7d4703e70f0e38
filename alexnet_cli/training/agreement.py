"""Whether all replicas begin alike: compared before the first update.

Each replica reads the checkpoint and the dataset itself, or draws the first weights itself. Run
folders on the disks of several machines, or two versions of torch, make them differ, and averaged
gradients alone do not show it.
"""

import json
import zlib
from dataclasses import asdict

import torch

from alexnet_cli.data.shards.dataset import Dataset
from alexnet_cli.errors import InputError
from alexnet_cli.model.checkpoint import TrainState
from alexnet_cli.training.train_step import TrainStep

WORDS = {"velocity": "momentum buffers", "average": "averaged weights"}


def check_agreement(train_step: TrainStep, dataset: Dataset, at: TrainState) -> None:
    """Compare what all replicas begin with; a collective call.

    Raises:
        InputError: a replica has other weights, momentum buffers, averaged weights, progress,
            dataset, pixel statistics or recipe than replica 0. All replicas raise the same.
    """
    replicas = train_step.place.replicas
    if replicas.count == 1:
        return
    checksums = _checksums(train_step, dataset, at)
    rows = replicas.gather(torch.tensor(list(checksums.values())))
    differs = rows != rows[0]
    if not differs.any():
        return
    ranks = ", ".join(map(str, differs.any(dim=1).nonzero().flatten().tolist()))
    names = zip(checksums, differs.any(dim=0).tolist(), strict=True)
    parts = ", ".join(WORDS.get(name, name) for name, is_other in names if is_other)
    replica = "replicas" if "," in ranks else "replica"
    raise InputError(
        f"{replica} {ranks} of {replicas.count} would begin with other {parts} than replica 0.\n"
        "Nothing was trained, and no file was changed.\n"
        "Give all machines the same run folder, dataset and version of torch, then try again."
    )


def _checksums(train_step: TrainStep, dataset: Dataset, at: TrainState) -> dict[str, int]:
    """Return a CRC-32 of each part, the same parts in every replica."""
    stats = train_step.stats
    pixels = [stats.mean_image, stats.eigenvalues, stats.eigenvectors]
    contents = {
        "progress": json.dumps(asdict(at)).encode(),
        "dataset": json.dumps([dataset.fingerprint, *dataset.classes], default=str).encode(),
        "pixel statistics": b"".join(array.tobytes() for array in pixels),
        "recipe": train_step.recipe.to_json().encode(),
    }
    parts = {"weights": 0, "velocity": 0, "average": 0} | train_step.checksums()
    return parts | {name: zlib.crc32(content) for name, content in contents.items()}
