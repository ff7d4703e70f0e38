"""What a worker of a cluster does: see that it is fit for the job, then make shards.

Nothing reaches it there but its tasks. That prep is over it learns from the token, a file in the
dataset: where that is gone, a shard is let go between two images.
"""

import hashlib
import os
import socket
import tempfile
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

import alexnet_cli
from alexnet_cli.data.images.resize import RESIZER, to_jpeg, to_square
from alexnet_cli.data.shards.writer import ShardRecord, ShardTask, make_shard, read_record
from alexnet_cli.errors import MachineError

LIBRARIES = (RESIZER, "simplejpeg", "pillow")  # that decode, resize and encode
LOOK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker must have in common with prep.

    Attributes:
        entries: hash of the names in `source`.
        token: lies in the dataset for as long as prep is at work.
        versions: of alexnet and the libraries that decide a shard's bytes.
        trial: CRC-32 of an image drawn, decoded, resized and encoded.
    """

    source: Path
    entries: str
    token: Path
    versions: dict[str, str]
    trial: int

    @classmethod
    def of(cls, source: Path, token: Path) -> "Job":
        """Return the job as this machine would do it."""
        return cls(source, list_entries(source), token, own_versions(), try_image())

    @property
    def dataset(self) -> Path:
        return self.token.parent.parent


_fit: set[Path] = set()  # tokens of the jobs that this process has been found fit for


def make_shard_there(job: Job, task: ShardTask) -> ShardRecord:
    """Make a shard on a worker, or take it from one that was lost after it had finished it.

    Raises:
        MachineError: this worker is not fit.
        TaskStopped: prep is over.
    """
    if job.token not in _fit:
        check_worker(job)
    return read_record(task) or make_shard(task, _watch(job.token))


def check_worker(job: Job) -> None:
    """Refuse a worker with other folders or software than prep's.

    Raises:
        MachineError: it says which machine, and what differs.
    """
    host = socket.gethostname()
    _check_folders(job, host)
    own = own_versions()
    for name in {**job.versions, **own}:
        if own.get(name) != job.versions.get(name):
            raise MachineError(
                f"worker on {host}: {name} {own.get(name, 'missing')} there, "
                f"{job.versions.get(name, 'missing')} here, so that its shards may differ.\n"
                "Finished shards are kept. Install the same everywhere, restart the worker, and "
                "run\nthe same command again."
            )
    if try_image() != job.trial:
        raise MachineError(
            f"worker on {host}: the same image gets other bytes there than here.\n"
            "Finished shards are kept. Do without that machine, and run the same command again."
        )
    _fit.add(job.token)


def _check_folders(job: Job, host: str) -> None:
    path = job.dataset
    try:
        job.token.read_bytes()
        with tempfile.TemporaryFile(dir=job.token.parent) as file:
            file.write(b"the disk lets us")
        path = job.source
        entries = list_entries(path)
    except OSError as error:
        raise _cannot_use(host, path, error.strerror) from error
    if entries != job.entries:
        raise _cannot_use(host, path, "something else, or nothing, is there")


def _cannot_use(host: str, path: Path, why: str) -> MachineError:
    return MachineError(
        f"worker on {host}: {path}: {why}.\n"
        "Finished shards are kept. SOURCE and DATASET must lie on a disk that all machines share,\n"
        "under the same path. Mount it there, or stop that worker; then run the same command again."
    )


def list_entries(source: Path) -> str:
    """Return a hash of the names in a folder, or a file's size; "" where there is nothing."""
    if source.is_dir():
        names = sorted(os.fsencode(path.name) for path in source.iterdir())
        return hashlib.sha256(b"\0".join(names)).hexdigest()
    return str(source.stat().st_size) if source.exists() else ""


def own_versions() -> dict[str, str]:
    """Return the versions of what decides a shard's bytes here."""
    return {"alexnet": alexnet_cli.__version__, **{name: version(name) for name in LIBRARIES}}


def try_image() -> int:
    """Return the CRC-32 of one image taken all the way: machines may compute differently."""
    rows, columns = np.arange(375)[:, None, None], np.arange(500)[None, :, None]
    pixels_HWC = (rows * rows // 7 + columns * (rows // 16) + np.array([0, 85, 170])) % 256
    return zlib.crc32(to_jpeg(to_square(to_jpeg(pixels_HWC.astype(np.uint8)))))


def _watch(token: Path) -> Callable[[], bool]:
    """Return a function that says, with at most a look a second, whether prep is over."""
    looked = -LOOK_SECONDS

    def is_over() -> bool:
        nonlocal looked
        if time.monotonic() < looked + LOOK_SECONDS:
            return False
        looked = time.monotonic()
        try:
            token.read_bytes()  # opening asks a network disk; a look at the name may not
        except FileNotFoundError:
            return True
        return False

    return is_over
