"""Runs shard tasks on worker processes, in any order.

A worker abandons its shard between two images when the pipe to its parent closes: because prep was
asked to stop, has failed, or has ended in any way.
"""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from typing import Any

from alexnet_cli.data.shards.writer import ShardRecord, ShardTask, TaskStopped, make_shard
from alexnet_cli.errors import MachineError, hint
from alexnet_cli.io.atomic import PARTIAL_SUFFIX, remove_partial
from alexnet_cli.io.process import start_method
from alexnet_cli.io.signals import StopSignal, blocked
from alexnet_cli.io.starting import starting, without_main
from alexnet_cli.prep.folder import SHARDS_KEPT

POLL_SECONDS = 0.2
STOP_SECONDS = 8.0  # for the images that workers are decoding


def run_tasks(
    tasks: list[ShardTask], num_workers: int, stop_signal: StopSignal | None = None
) -> Iterator[ShardRecord]:
    """Yield the record of each task as it is done; with one worker in this process.

    Ends early, and without a trace of unfinished shards, once a signal requested a stop.

    Raises:
        MachineError: if a worker cannot be started, or died. Finished shards are kept.
    """
    stop_signal = stop_signal or StopSignal()
    if num_workers > 1:
        yield from _run_on_workers(tasks, num_workers, stop_signal)
        return
    for task in tasks:
        try:
            yield make_shard(task, lambda: stop_signal.stop_requested)
        except TaskStopped:
            return


def collect(
    pending: set[Future],
    stop_signal: StopSignal,
    top_up: Callable[[set[Future]], None] = lambda pending: None,
) -> Iterator[ShardRecord]:
    """Yield what the tasks of any executor return, as they finish, until a stop is requested.

    Args:
        pending: the submitted tasks; those that are done leave the set.
        top_up: called at every turn; it may add to the set, and raise to end the work.
    """
    top_up(pending)
    while pending and not stop_signal.stop_requested:
        done, _ = wait(pending, POLL_SECONDS, FIRST_COMPLETED)
        pending -= done
        for future in done:
            yield future.result()
        top_up(pending)


def _run_on_workers(
    tasks: list[ShardTask], num_workers: int, stop_signal: StopSignal
) -> Iterator[ShardRecord]:
    # A fork server imports everything once; workers start from it in milliseconds.
    context = multiprocessing.get_context(start_method())
    if context.get_start_method() == "forkserver":
        context.set_forkserver_preload(["alexnet_cli.data.shards.writer"])
    reader, writer = context.Pipe(duplex=False)
    workers: list[BaseProcess] = []
    with _starting():
        pool = ProcessPoolExecutor(
            num_workers, mp_context=context, initializer=_start_worker, initargs=(reader,)
        )
    try:
        with _starting():
            pending = {pool.submit(make_shard_here, task) for task in tasks}
        workers = multiprocessing.active_children()
        yield from collect(pending, stop_signal)
    except BrokenProcessPool as error:
        time.sleep(POLL_SECONDS)  # a signal to the whole group reaches us too
        if not stop_signal.stop_requested:
            pool.shutdown(wait=True)  # sets the exit codes
            raise _death(workers, tasks) from error
    finally:
        writer.close()
        # Only the first shutdown can wait for the pool's own thread, which fails if we end before.
        ending = threading.Thread(target=pool.shutdown, kwargs={"cancel_futures": True})
        try:
            ending.start()
        except RuntimeError:  # no thread can be started, so no worker was either
            pool.shutdown(wait=False, cancel_futures=True)
        _end(workers)
        if ending.ident:
            ending.join()
        reader.close()
        for folder in {task.folder for task in tasks}:
            remove_partial(folder)


@contextmanager
def _starting() -> Iterator[None]:
    """Start processes that ignore a closed terminal, as the parent ends them.

    Raises:
        MachineError: if one is killed, or a limit of processes or threads prevents it.
    """
    with (
        blocked("SIGHUP"),
        without_main(),
        starting("a prep worker", kept=SHARDS_KEPT, hint=hint("fewer_workers")),
    ):
        yield


def _end(workers: list[BaseProcess]) -> None:
    """Wait for the workers; kill those that do not end, because of a hung disk for example."""
    alive: dict[Any, BaseProcess] = {worker.sentinel: worker for worker in workers}
    deadline = time.monotonic() + STOP_SECONDS
    while alive and (left := deadline - time.monotonic()) > 0:
        for ended in connection.wait(list(alive), left):
            del alive[ended]
    for worker in alive.values():
        worker.kill()


def _death(workers: list[BaseProcess], tasks: list[ShardTask]) -> MachineError:
    """Return the error that names the worker that died; the pool has sent SIGTERM to the others."""
    codes = {worker.pid: worker.exitcode for worker in workers if worker.exitcode}
    pid = next((pid for pid, code in codes.items() if code != -signal.SIGTERM), None)
    pid = pid or next(iter(codes), None)
    code = codes.get(pid, 0)
    how = f"of signal {-code}" if code < 0 else f"with code {code}"
    left = [path.name for path in tasks[0].folder.glob(f"*.{pid}{PARTIAL_SUFFIX}")]
    where = f" while making {left[0].split('.')[0]}.tar" if left else ""
    return MachineError(
        f"a prep worker died {how}{where} (killed, or out of memory).",
        kept=SHARDS_KEPT,
        hint=hint("fewer_workers"),
    )


# --- in a worker

_stopping = threading.Event()
_working = threading.Lock()


def _start_worker(pipe: connection.Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    threading.Thread(target=_watch_parent, args=(pipe,), daemon=True).start()


def make_shard_here(task: ShardTask) -> ShardRecord:
    """Make a shard in a worker; end with the parent process."""
    with _working:
        try:
            return make_shard(task, _stopping.is_set)
        finally:
            parent = multiprocessing.parent_process()
            if parent is None or not parent.is_alive():
                os._exit(1)


def _watch_parent(pipe: connection.Connection) -> None:
    """Abandon the shard when the pipe closes, and end with the parent process."""
    pipe.poll(None)
    _stopping.set()
    if parent := multiprocessing.parent_process():
        parent.join()
    with _working:
        os._exit(1)
