"""Shard tasks on the workers of a Dask cluster, which see the same folders under the same paths.

Workers may be lost and others may come: Dask gives a lost worker's tasks to the others. Their
shards get the same bytes, and a shard has its name only when it is whole, so that nothing is lost
and nothing is there twice.
"""

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future, wait
from contextlib import contextmanager, suppress
from importlib.metadata import version
from itertools import islice
from pathlib import Path

import alexnet_cli
from alexnet_cli.data.shards.writer import RECORDS, ShardRecord, ShardTask, TaskStopped
from alexnet_cli.errors import AlexNetError, MachineError, UsageError
from alexnet_cli.io.atomic import remove_partial, write_bytes
from alexnet_cli.io.progress import Progress
from alexnet_cli.io.stop_signal import StopSignal
from alexnet_cli.prep.cluster_task import Job, check_worker, make_shard_there
from alexnet_cli.prep.workers import STOP_SECONDS, collect

ADDRESS = re.compile(r"((tcp|tls)://)?([\w.-]+|\[[0-9a-fA-F:.]+\]):(?P<port>\d{1,5})")
CONNECT_SECONDS = 4.0
LOOK_SECONDS = 2.0  # between two looks at who is there
WAIT_SECONDS = 20.0  # for a worker, while there is none
TASKS_A_THREAD = 2  # one at work, one at hand; more would only fill the scheduler's memory
TOKEN = "cluster-"


class Cluster:
    """The workers of a scheduler, found fit for one prep."""

    def __init__(self, client, address: str, job: Job):
        self._client, self._address, self._job = client, address, job
        self._threads, self._looked, self._seen = 0, 0.0, time.monotonic()

    def run_tasks(self, tasks: list[ShardTask], stop_signal: StopSignal) -> Iterator[ShardRecord]:
        """Yield the record of each task as it is done.

        Ends early, and without a trace of unfinished shards, once a signal asked to stop.

        Raises:
            MachineError: all workers or the scheduler are lost, a worker that joined later is not
                fit, or a shard took several workers with it. Finished shards are kept.
        """
        from distributed import KilledWorker
        from distributed.client import ClosedClientError

        pool, queue, pending = self._client.get_executor(pure=False), iter(tasks), set()

        def top_up(pending: set[Future]) -> None:
            room = max(1, TASKS_A_THREAD * self._num_threads()) - len(pending)
            for task in islice(queue, max(0, room)):
                key = f"{task.name}-{self._job.token.name}"
                pending.add(pool.submit(make_shard_there, self._job, task, key=key))

        try:
            yield from collect(pending, stop_signal, top_up)
        except KilledWorker as error:
            raise self._killed(error) from error
        except TaskStopped as error:
            raise self._taken_over() from error
        except (CancelledError, ClosedClientError) as error:
            raise _lost(self._address, "the scheduler was lost") from error
        finally:
            self._let_go(pending)
            remove_partial(self._job.dataset)

    def _num_threads(self) -> int:
        """Return how many tasks the workers do at once, by a look that is not much older."""
        now = time.monotonic()
        if now - self._looked > LOOK_SECONDS:
            self._threads, self._looked = self._count_threads(), now
        if self._threads:
            self._seen = now
        elif now - self._seen > WAIT_SECONDS:
            what = f"no worker is left, and none came within {WAIT_SECONDS:.0f} s"
            raise _lost(self._address, what)
        return self._threads

    def _count_threads(self) -> int:
        try:
            return sum(self._client.nthreads().values())
        except (OSError, RuntimeError) as error:  # the connection, or the client, is closed
            raise _lost(self._address, "the scheduler was lost") from error

    def _let_go(self, pending: set[Future]) -> None:
        """Tell the workers that it is over, and give them the time to let go of their shards."""
        self._job.token.unlink(missing_ok=True)
        if self._threads:
            wait(pending, STOP_SECONDS)

    def _killed(self, error) -> MachineError:
        shard, last = error.task.partition(f"-{TOKEN}")[0], error.last_worker.address
        return MachineError(
            f"{error.allowed_failures + 1} workers died one after another over {shard}, the last "
            f"was {last} (out of memory?).\n"
            "Finished shards are kept. Start workers with fewer threads and more memory, and run\n"
            "the same command again."
        )

    def _taken_over(self) -> MachineError:
        return MachineError(
            f"{self._job.token}: gone, so the workers stopped. Another prep works in this folder?\n"
            "Finished shards are kept. Let one prep at a time work there; run this one again."
        )


@contextmanager
def connected(address: str, source: Path, folder: Path, progress: Progress) -> Iterator[Cluster]:
    """Connect with a scheduler and find every worker that is there fit for a prep.

    Args:
        source: as every worker sees it.
        folder: of the dataset; ours, and seen by every worker.

    Raises:
        UsageError: the address is none.
        MachineError: nobody answers there, `distributed` is not installed, or a worker has other
            folders or software than we.
    """
    client = _connect(address)
    try:
        with _token(folder) as token:
            job = Job.of(source, token)
            try:
                found = _check_workers(client, job)
            except OSError as error:
                raise _lost(address, "the scheduler was lost") from error
            progress.say(f"{address}: {found} workers")
            yield Cluster(client, address, job)
    finally:  # the scheduler forgets the tasks of a client that is gone
        with suppress(OSError):
            client.close(timeout=CONNECT_SECONDS)


def _lost(address: str, what: str) -> MachineError:
    return MachineError(
        f"{address}: {what}.\n"
        "Finished shards are kept. When workers are there again, run the same command."
    )


def _connect(address: str):
    match = ADDRESS.fullmatch(address)
    if not match or int(match["port"]) > 0xFFFF:
        raise UsageError(f"--scheduler {address}: expected HOST:PORT or tcp://HOST:PORT.")
    try:
        from distributed import Client
    except ImportError as error:
        raise MachineError(
            "--scheduler needs Dask, here and on the workers. Install it: pip install distributed"
        ) from error
    for name in ("distributed", "distributed.client", "tornado.application"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what they have to say, we say
    try:
        asyncio.run(_shake_hands(address))
        return Client(address, timeout=CONNECT_SECONDS, set_as_default=False, name="alexnet-prep")
    except (OSError, TypeError, MemoryError) as error:
        # A length of exabytes: the first bytes of another protocol.
        foreign = isinstance(error, MemoryError)
        why = "another kind of server" if foreign else " ".join(str(error).split())[:150]
        raise MachineError(
            f"{address}: no Dask scheduler answers there ({why}).\n"
            "Nothing was changed. Start one (dask scheduler) and its workers, or look at the "
            "address."
        ) from error


async def _shake_hands(address: str) -> None:
    """See that a scheduler answers; a Client that finds none cannot be closed in an orderly way."""
    from distributed import Security
    from distributed.comm import connect

    options = Security().get_connection_args("client")
    comm = await connect(address, timeout=CONNECT_SECONDS, **options)
    await comm.close()


@contextmanager
def _token(folder: Path) -> Iterator[Path]:
    """Put a token into the folder for as long as the block lasts; older ones end their jobs."""
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


def _check_workers(client, job: Job) -> int:
    """Return how many workers there are, all of them fit."""
    found = client.run(check_worker, job, on_error="return")
    lost = {address for address, fault in found.items() if isinstance(fault, OSError)}
    for address in found.keys() - lost:  # a lost one is checked by its tasks, if it comes back
        if isinstance(found[address], AlexNetError):
            raise found[address]
        if found[address] is not None:
            raise _cannot_load(client, address, found[address])
    return len(found) - len(lost)


def _cannot_load(client, address: str, fault: Exception) -> MachineError:
    """Say what a worker has that cannot even load our check."""
    found = client.run(version, "alexnet-cli", workers=[address], on_error="return").get(address)
    theirs = found if isinstance(found, str) else "none"
    ours = alexnet_cli.__version__
    return MachineError(
        f"worker {address} cannot do the work of alexnet {ours}; its own version is {theirs} "
        f"({str(fault)[:120]}).\nFinished shards are kept. Install the same alexnet there, restart "
        "the worker, and run\nthe same command again."
    )
