"""Shard tasks on worker processes, in whatever order they finish."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait

from alexnet_cli.data.shards import ShardRecord, ShardTask, make_shard
from alexnet_cli.errors import MachineError


def run_tasks(tasks: list[ShardTask], num_workers: int) -> Iterator[ShardRecord]:
    """Yield the record of each task as it is done; with one worker in this process.

    Raises:
        MachineError: a worker died. The shards it had finished are kept.
    """
    if num_workers <= 1:
        yield from map(make_shard, tasks)
        return
    # A fork server that has loaded torch once; workers start from it in milliseconds.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "alexnet_cli.data.shards"])
    pool = ProcessPoolExecutor(num_workers, mp_context=context, initializer=_start_worker)
    try:
        for future in as_completed([pool.submit(make_shard, task) for task in tasks]):
            yield future.result()
    except BrokenProcessPool as error:
        raise MachineError(
            "a prep worker died (killed, or out of memory).\n"
            "Finished shards are kept. Run the same command to go on, with fewer --workers."
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start_worker() -> None:
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this worker when prep is gone, however it went; a half-written shard has no name yet."""
    wait([multiprocessing.parent_process().sentinel])
    os._exit(1)
