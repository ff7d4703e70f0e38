"""Runs shard tasks on the workers of a Dask cluster, which see the same folders as this machine.

Workers may be lost and others may join: Dask reassigns a lost worker's tasks. The shards get the
same bytes, and a shard has its name only when it is whole, so nothing is lost or made twice.

A worker learns that prep is over from the token, a file in the dataset: where that is gone, a
shard is abandoned between two images.
"""

import hashlib
import logging
import os
import re
import secrets
import socket
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

import alexnet_cli
from alexnet_cli.data.images.resize import RESIZER, to_jpeg, to_square
from alexnet_cli.data.shards.writer import (
    RECORDS,
    ShardRecord,
    ShardTask,
    TaskStopped,
    make_shard,
    read_record,
)
from alexnet_cli.errors import AlexNetError, MachineError, UsageError, brief, counted
from alexnet_cli.io.atomic import remove_partial, write_bytes
from alexnet_cli.io.progress import Progress
from alexnet_cli.io.signals import StopSignal
from alexnet_cli.prep.folder import SHARDS_KEPT
from alexnet_cli.prep.workers import STOP_SECONDS, collect

ADDRESS = re.compile(r"((tcp|tls)://)?([\w.-]+|\[[0-9a-fA-F:.]+\]):(?P<port>\d{1,5})")
LIBRARIES = (RESIZER, "simplejpeg", "pillow")  # that decode, resize and encode
CONNECT_SECONDS = 4.0
LOOK_SECONDS = 1.0  # between two looks at the token, or at the number of workers
WAIT_SECONDS = 20.0  # for a worker, while there is none
TASKS_PER_THREAD = 2  # one running, one waiting; more would only fill the scheduler's memory
TOKEN = "cluster-"


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker must have in common with prep.

    Attributes:
        token: a file in the dataset for as long as prep is at work.
        facts: as `collect_facts` returns them on the machine of prep.
    """

    source: Path
    token: Path
    facts: dict[str, str]

    @property
    def dataset(self) -> Path:
        return self.token.parent.parent


class Cluster:
    """The workers of a scheduler, found fit for one prep."""

    def __init__(self, client: Any, address: str, job: Job) -> None:
        self._client = client
        self._address = address
        self._job = job
        self._threads = 0  # how many tasks the workers run at once
        self._looked = 0.0  # when they were counted
        self._seen = time.monotonic()  # when there was one

    def run_tasks(self, tasks: list[ShardTask], stop_signal: StopSignal) -> Iterator[ShardRecord]:
        """Yield the record of each task as it is done.

        Ends early, and without a trace of unfinished shards, once a signal requested a stop.

        Raises:
            MachineError: if all workers or the scheduler are lost, a worker that joined later is
                not fit, or workers died of a shard. Finished shards are kept.
        """
        from distributed import KilledWorker
        from distributed.client import ClosedClientError

        pool = self._client.get_executor(pure=False)
        queue = iter(tasks)
        pending: set[Future] = set()

        def top_up(pending: set[Future]) -> None:
            room = max(1, TASKS_PER_THREAD * self._num_threads()) - len(pending)
            for task in islice(queue, max(0, room)):
                key = f"{task.name}-{self._job.token.name}"
                pending.add(pool.submit(make_shard_there, self._job, task, key=key))

        try:
            yield from collect(pending, stop_signal, top_up)
        except KilledWorker as error:
            shard = str(error.task).partition(f"-{TOKEN}")[0]
            raise MachineError(
                f"{counted(error.allowed_failures + 1, 'worker')} died one after another over "
                f"{shard}, the "
                f"last was {error.last_worker.address} (out of memory?).",
                kept=SHARDS_KEPT,
                hint="Start workers with fewer threads and more memory, and run the same command "
                "again.",
            ) from error
        except TaskStopped as error:
            raise MachineError(
                f"{self._job.token}: gone, so the workers stopped. Another prep works in this "
                "folder?",
                kept=SHARDS_KEPT,
                hint="Let one prep at a time work there; run this one again.",
            ) from error
        except (CancelledError, ClosedClientError) as error:
            raise _lost(self._address) from error
        finally:
            self._job.token.unlink(missing_ok=True)
            if self._threads:
                wait(pending, STOP_SECONDS)  # for the workers to abandon their shards
            remove_partial(self._job.dataset)

    def _num_threads(self) -> int:
        """Return how many tasks the workers run at once, as counted a moment ago."""
        now = time.monotonic()
        if now - self._looked > LOOK_SECONDS:
            try:
                self._threads = sum(self._client.nthreads().values())
            except (OSError, RuntimeError) as error:  # the connection, or the client, is closed
                raise _lost(self._address) from error
            self._looked = now
        if self._threads:
            self._seen = now
        elif now - self._seen > WAIT_SECONDS:
            none_came = f"no worker is left, and none came within {WAIT_SECONDS:.0f} s"
            raise _lost(self._address, none_came)
        return self._threads


@contextmanager
def connected(address: str, source: Path, folder: Path, progress: Progress) -> Iterator[Cluster]:
    """Connect with a scheduler and check that each of its workers is fit for a prep.

    Args:
        source: an absolute path, the same for every worker.
        folder: of the dataset; locked by this process, and the same for every worker.

    Raises:
        UsageError: if the address is none.
        MachineError: if no scheduler answers, `distributed` is not installed, or a worker has
            other folders or software than this machine.
    """
    client = _connect(address)
    try:
        with _token(folder) as token:
            job = Job(source, token, collect_facts(source))
            try:
                found = _check_workers(client, job)
            except OSError as error:
                raise _lost(address) from error
            progress.say(f"{address}: {counted(found, 'worker')}")
            yield Cluster(client, address, job)
    finally:  # the scheduler forgets the tasks of a client that is gone
        with suppress(OSError):
            client.close(timeout=CONNECT_SECONDS)


def _lost(address: str, what: str = "the scheduler was lost") -> MachineError:
    return MachineError(
        f"{address}: {what}.",
        kept=SHARDS_KEPT,
        hint="When workers are there again, run the same command.",
    )


def _connect(address: str) -> Any:
    match = ADDRESS.fullmatch(address)
    if not match or int(match["port"]) > 0xFFFF:
        raise UsageError(f"scheduler {address}: expected HOST:PORT or tcp://HOST:PORT.")
    import asyncio

    try:
        from distributed import Client, Security
        from distributed.comm import connect
    except ImportError as error:
        raise MachineError(
            "a cluster needs Dask, here and on the workers.",
            hint='Install it: pip install "alexnet-cli[cluster]"',
        ) from error

    async def shake_hands() -> None:
        """Connect once; a Client that finds no scheduler cannot be closed in an orderly way."""
        options = Security().get_connection_args("client")
        comm = await connect(address, timeout=CONNECT_SECONDS, **options)
        await comm.close()

    for name in ("distributed", "distributed.client", "tornado.application"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what they log is raised, too
    try:
        asyncio.run(shake_hands())
        return Client(address, timeout=CONNECT_SECONDS, set_as_default=False, name="alexnet-prep")
    except (OSError, TypeError, MemoryError) as error:
        # A length of exabytes: the first bytes of another protocol.
        foreign = isinstance(error, MemoryError)
        why = "another kind of server" if foreign else brief(error, 150)
        raise MachineError(
            f"{address}: no Dask scheduler answers there ({why}).",
            kept="Nothing was changed.",
            hint="Start one (dask scheduler) and its workers, or check the address.",
        ) from error


@contextmanager
def _token(folder: Path) -> Iterator[Path]:
    """Put a token into the folder until the block ends; removing older ones ends their jobs."""
    records = folder / RECORDS
    records.mkdir(exist_ok=True)
    for old in records.glob(f"{TOKEN}*"):
        old.unlink()
    token = records / f"{TOKEN}{secrets.token_hex(8)}"
    write_bytes(token, b"prep is at work\n")
    try:
        yield token
    finally:
        token.unlink(missing_ok=True)
        with suppress(OSError):  # not empty: there are finished shards
            records.rmdir()


def _check_workers(client: Any, job: Job) -> int:
    """Return the number of workers, or raise the error of one that is not fit."""
    found = client.run(check_worker, job, on_error="return")
    lost = {address for address, fault in found.items() if isinstance(fault, OSError)}
    for address in found.keys() - lost:  # a lost one is checked by its tasks, if it comes back
        fault = found[address]
        if isinstance(fault, AlexNetError):
            raise fault
        if fault is not None:  # it cannot even load the check
            theirs = client.run(version, "alexnet-cli", workers=[address], on_error="return")
            theirs = theirs.get(address)
            raise MachineError(
                f"worker {address} cannot do the work of alexnet {alexnet_cli.__version__}; its "
                f"own version is {theirs if isinstance(theirs, str) else 'none'} "
                f"({str(fault)[:120]}).",
                kept=SHARDS_KEPT,
                hint="Install the same alexnet there, restart the worker, and run the same "
                "command again.",
            )
    return len(found) - len(lost)


# --- on a worker

_fit: set[Path] = set()  # tokens of the jobs that this process has been found fit for


def make_shard_there(job: Job, task: ShardTask) -> ShardRecord:
    """Make a shard on a worker, or take it from one that was lost after it had finished it.

    Raises:
        MachineError: if this worker is not fit.
        TaskStopped: if prep is over.
    """
    if job.token not in _fit:
        check_worker(job)
    return read_record(task) or make_shard(task, _watch(job.token))


def check_worker(job: Job) -> None:
    """Raise a MachineError if this worker has other folders or software than prep."""
    where = f"worker on {socket.gethostname()}"
    again = "then run the same command again."
    path = job.dataset
    try:
        job.token.read_bytes()
        with tempfile.TemporaryFile(dir=job.token.parent) as file:
            file.write(b"writable")
        path = job.source
        own = collect_facts(path)
    except OSError as error:
        raise MachineError(
            f"{where}: {path}: {error.strerror}.",
            kept=SHARDS_KEPT,
            hint=f"Mount SOURCE and DATASET there under the same path, or stop it; {again}",
        ) from error
    for name in {**job.facts, **own}:
        here, there = job.facts.get(name, "missing"), own.get(name, "missing")
        if there != here:
            raise MachineError(
                f"{where}: {name} {there} there, {here} here, so that its shards may differ.",
                kept=SHARDS_KEPT,
                hint=f"Use the same folders and software on every worker; {again}",
            )
    _fit.add(job.token)


def collect_facts(source: Path) -> dict[str, str]:
    """Return what decides a shard's bytes on this machine: versions, a trial, what it reads."""
    rows, columns = np.arange(375)[:, None, None], np.arange(500)[None, :, None]
    pixels_HWC = (rows * rows // 7 + columns * (rows // 16) + np.array([0, 85, 170])) % 256
    trial = zlib.crc32(to_jpeg(to_square(to_jpeg(pixels_HWC.astype(np.uint8)))))
    return {
        "alexnet": alexnet_cli.__version__,
        **{name: version(name) for name in LIBRARIES},
        f"{source}:": list_entries(source),
        "CRC-32 of a test image": f"{trial:08x}",
    }


def list_entries(source: Path) -> str:
    """Return a folder's number of entries and a hash of their names, or a file's size."""
    if source.is_dir():
        names = sorted(os.fsencode(path.name) for path in source.iterdir())
        digest = hashlib.sha256(b"\0".join(names)).hexdigest()[:16]
        return f"{len(names)} entries ({digest})"
    return f"{source.stat().st_size} bytes" if source.exists() else "nothing"


def _watch(token: Path) -> Callable[[], bool]:
    """Return a function that says, with at most one look per second, whether prep is over."""
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
