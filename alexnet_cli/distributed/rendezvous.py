"""How the replicas of a run find each other, and what they say while they wait.

torch's own calls wait in C++, where no signal is handled: one that waits for another machine could
not be stopped. Here the thread that handles signals only sleeps, and what may block runs in a
thread of its own.
"""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch.distributed as dist

from alexnet_cli.errors import LostReplicaError, MachineError, UsageError, brief, hint
from alexnet_cli.io.progress import SILENT, Progress
from alexnet_cli.types import BatchShard

STORE_FILE = "ALEXNET_STORE_FILE"  # of replicas that the launcher starts: no address, no name
FIRST_LINE_SECONDS = 5.0  # of waiting, before a line says for whom
LINE_SECONDS = 60.0  # between such lines
POLL_SECONDS = 0.1
CONNECT_SECONDS = 2.0
STORE_TIMEOUT = timedelta(minutes=1)  # for an answer of the store, where nothing is waited for
AS_TORCHRUN = (
    "Set RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT as torchrun does; or unset RANK and "
    "WORLD_SIZE to run alone."
)


@dataclass(frozen=True, slots=True)
class Place:
    """Which replica a process is.

    Attributes:
        local_rank: rank among the replicas of this machine, of which there are `num_local`.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    num_local: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this replica writes files and reports."""
        return self.rank == 0

    @property
    def share(self) -> BatchShard:
        """The part of every batch that this replica computes."""
        return BatchShard(self.rank, self.world_size)


def read_place() -> Place:
    """Return the place of this process from the variables that torchrun or the launcher sets.

    Raises:
        UsageError: if a variable is missing or cannot be right.
    """
    if "RANK" not in os.environ:
        if os.environ.get("WORLD_SIZE", "1").strip() not in ("", "0", "1"):
            raise UsageError(
                f"WORLD_SIZE is {os.environ['WORLD_SIZE']!r}, but RANK is not set.",
                hint=AS_TORCHRUN,
            )
        return Place()
    rank = _number("RANK", 0)
    world_size = _number("WORLD_SIZE", 1)
    local_rank = _number("LOCAL_RANK", 0, "0")
    num_local = _number("LOCAL_WORLD_SIZE", 1, "1")
    for name, found, of, count in (
        ("RANK", rank, "WORLD_SIZE", world_size),
        ("LOCAL_RANK", local_rank, "LOCAL_WORLD_SIZE", num_local),
    ):
        if found >= count:
            raise UsageError(
                f"{name} is {found}, but {of} is {count}: ranks begin at 0.", hint=AS_TORCHRUN
            )
    if world_size == 1:
        return Place()
    if STORE_FILE not in os.environ:
        _address()
    return Place(rank, world_size, local_rank, num_local)


def _number(name: str, least: int, default: str | None = None) -> int:
    text = os.environ.get(name, default)
    if text is None:
        raise UsageError(f"RANK is set, but {name} is not.", hint=AS_TORCHRUN)
    if not text.strip().isdecimal() or int(text) < least:
        raise UsageError(
            f"{name} is {text!r}, not a whole number of at least {least}.", hint=AS_TORCHRUN
        )
    return int(text)


def _address() -> tuple[str, int]:
    """Return the host and port at which replica 0 listens."""
    host = os.environ.get("MASTER_ADDR", "").strip()
    if not host:
        raise UsageError("RANK is set, but MASTER_ADDR is not.", hint=AS_TORCHRUN)
    port = _number("MASTER_PORT", 1)
    if port > 65_535:
        raise UsageError(f"MASTER_PORT is {port}, above 65535.", hint=AS_TORCHRUN)
    return host, port


class _Group:
    """The store that this process shares with the others, once they have met."""

    def __init__(self) -> None:
        self.store: dist.Store | None = None
        self.num_joins = 0
        self.is_needed = False  # whether this process waits, or waited, for others


_group = _Group()


def may_block_exit() -> bool:
    """Return whether a normal exit of the interpreter might wait for other replicas."""
    return _group.is_needed


def meet(limit: timedelta, progress: Progress = SILENT) -> None:
    """Wait until all replicas have started; in a process that is alone, do nothing.

    Raises:
        MachineError: if some have not started within the limit, or replica 0 cannot listen on its
            port.
    """
    place = read_place()
    if place.world_size == 1 or _group.store is not None:
        return
    _group.is_needed = True
    wait = _Wait(place, limit, progress)
    if path := os.environ.get(STORE_FILE):
        where = ""
        store: dist.Store = dist.FileStore(path, place.world_size)
    else:
        host, port = _address()
        where = f" at {host}:{port}"
        store = _open_tcp_store(place, host, port, wait)
    store.set_timeout(STORE_TIMEOUT)
    wait.for_all(store, "started", where, "did not start")
    _group.store = store


def join(backend: str, data_limit: timedelta, timeout: timedelta, progress: Progress) -> None:
    """Form a process group with all replicas, which may still be opening their data.

    Args:
        data_limit: how long to wait for the slowest of them.
        timeout: of each operation of the group.

    Raises:
        LostReplicaError: if a replica failed.
        MachineError: if one is not ready within the limit.
    """
    place = read_place()
    if dist.is_initialized():  # a block that raised left it, and the process continued
        dist.destroy_process_group()
    if _group.store is None:
        raise RuntimeError("join() without meet()")
    number, _group.num_joins = _group.num_joins, _group.num_joins + 1
    store = dist.PrefixStore(f"group {number}", _group.store)
    wait = _Wait(place, data_limit, progress)
    wait.for_all(store, "ready", " to open their data", "were not ready")
    store.set_timeout(timeout)
    others = "the other replica" if place.world_size == 2 else "the other replicas"
    wait.for_call(
        lambda: dist.init_process_group(
            backend, timeout=timeout, store=store, rank=place.rank, world_size=place.world_size
        ),
        f"waiting for a connection to {others}",
    )


def report_failure() -> None:
    """Let the others, which may wait for this replica, end as well."""
    if _group.store is not None:
        with suppress(RuntimeError):  # the others are gone
            _group.store.set("failed", str(read_place().rank))


class _Wait:
    """Waiting for other replicas: in steps between which signals are handled, and said."""

    def __init__(self, place: Place, limit: timedelta, progress: Progress):
        self._place, self._limit = place, limit
        self._progress = progress if place.local_rank == 0 else SILENT
        self._deadline = time.monotonic() + limit.total_seconds()
        self._next_line = time.monotonic() + FIRST_LINE_SECONDS

    def for_all(self, store: dist.Store, key: str, where: str, failure: str) -> None:
        """Wait until every replica has called this."""
        world_size = self._place.world_size
        num_here = store.add(key, 1)
        while num_here < world_size:
            if _group.store is not None and _group.store.check(["failed"]):
                rank = _group.store.get("failed").decode()
                raise LostReplicaError(
                    f"replica {rank} of {world_size} ended with an error.",
                    hint="Its own message says why.",
                )
            missing = world_size - num_here
            self.step(
                f"waiting for {missing} of {world_size} replicas{where}",
                f"{missing} of {world_size} replicas {failure}",
            )
            num_here = int(store.get(key))

    def for_call(self, call: Callable[[], Any], line: str) -> Any:
        """Return the result of a call that may block without handling signals."""
        outcome: list[Any] = []
        failed: list[BaseException] = []

        def run() -> None:
            try:
                outcome.append(call())
            except BaseException as error:  # raised in the thread that waits
                failed.append(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        while thread.is_alive():
            self._say(line)
            thread.join(POLL_SECONDS)
        if failed:
            raise failed[0]
        return outcome[0]

    def step(self, line: str, problem: str) -> None:
        """Sleep for a moment; say so once in a while.

        Raises:
            MachineError: if the limit is reached.
        """
        self._say(line)
        if time.monotonic() > self._deadline:
            raise MachineError(
                f"{problem} within {_in_words(self._limit)}.", hint=hint("join_minutes")
            )
        time.sleep(POLL_SECONDS)

    def _say(self, line: str) -> None:
        if time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + LINE_SECONDS
            self._progress.say(line)


def _in_words(limit: timedelta) -> str:
    seconds = limit.total_seconds()
    number, unit = (seconds / 60, "minute") if seconds >= 60 else (seconds, "second")
    return f"{number:g} {unit}{'' if number == 1 else 's'}"


def _open_tcp_store(place: Place, host: str, port: int, wait: _Wait) -> dist.TCPStore:
    by_agent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"  # torchrun's own
    if place.is_main and not by_agent:
        try:
            return dist.TCPStore(host, port, is_master=True, wait_for_workers=False)
        except RuntimeError as error:
            raise MachineError(
                f"replica 0 cannot listen on port {port} (MASTER_PORT): {brief(error)}.",
                hint="Name another MASTER_PORT to all replicas, or end the program that uses it.",
            ) from error
    with _probing(host, port) as answered:
        while not answered.is_set():
            wait.step(
                f"waiting for replica 0 of {place.world_size} at {host}:{port}",
                f"replica 0 of {place.world_size} did not answer at {host}:{port}",
            )
    return wait.for_call(
        lambda: dist.TCPStore(
            host, port, is_master=False, wait_for_workers=False, timeout=STORE_TIMEOUT
        ),
        f"waiting for replica 0 of {place.world_size} at {host}:{port}",
    )


@contextmanager
def _probing(host: str, port: int) -> Iterator[threading.Event]:
    """Try to connect until the block ends; the event says that something answered."""
    answered, ended = threading.Event(), threading.Event()

    def probe() -> None:
        while not (answered.is_set() or ended.wait(POLL_SECONDS)):
            with (
                suppress(OSError),
                closing(socket.create_connection((host, port), CONNECT_SECONDS)),
            ):
                answered.set()

    threading.Thread(target=probe, daemon=True).start()  # a look-up of a name may block
    try:
        yield answered
    finally:
        ended.set()
