"""Starts the replicas of a run on this machine, and speaks for them when they end.

torch.multiprocessing starts and ends them; each tells how it ended through a pipe. Signals are
passed on, once: the replicas agree on a step, save, and end; a second one ends them at once. When
one dies, the others are ended.
"""

import atexit
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import connection
from typing import Any

import torch.distributed as dist
import torch.multiprocessing

from alexnet_cli.distributed.device_plan import DevicePlan
from alexnet_cli.distributed.oom_errors import KEPT
from alexnet_cli.distributed.replicas import in_group
from alexnet_cli.errors import (
    AlexNetError,
    JobError,
    LostReplicaError,
    MachineError,
    Stopped,
    machine_error,
)
from alexnet_cli.io.signals import StopSignal, catch_signals

LOCALHOST = "127.0.0.1"
GRACE_SECONDS = 8  # to end by itself when another one is lost; as long again before SIGKILL
POLL_SECONDS = 0.5
STOPPED = f"stopped. {KEPT}."


@dataclass(frozen=True, slots=True)
class _Outcome:
    """How a replica ended: a result, or a message and an exit code."""

    result: Any = None
    message: str = ""
    exit_code: int = 0
    is_loss: bool = False


def on_replicas(target: Callable[[], Any], layout: DevicePlan) -> Any:
    """Call `target` here, or in as many processes as the layout has replicas (`run_replicas`)."""
    if in_group():
        return _as_member(target)
    if layout.replicas == 1:
        return target()
    return run_replicas(target, layout.replicas)


def _as_member(target: Callable[[], Any]) -> Any:
    """Call `target` in a process that torchrun started; after a fault the process ends abruptly.

    The command line shows the fault first, and torchrun ends the other processes. Ending as usual,
    the interpreter would destroy the group, which waits for the others, who wait for this process.
    """
    try:
        return target()
    except (Exception, KeyboardInterrupt) as error:
        atexit.register(_end_in_group, _outcome_of(error).exit_code)
        raise


def _end_in_group(exit_code: int) -> None:
    """End the process at once if it is still in a group."""
    if dist.is_initialized():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(exit_code)


def run_replicas(target: Callable[[], Any], count: int) -> Any:
    """Call `target` in `count` processes of one group and return the first one's result.

    Args:
        target: picklable; it finds its place in the environment.

    Raises:
        JobError: what one of them ended with, and its exit code.
        MachineError: one died.
        Stopped: by a signal, which all were told.
    """
    logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)
    store = dist.TCPStore(LOCALHOST, 0, is_master=True, wait_for_workers=False)
    pipes = [torch.multiprocessing.Pipe(duplex=False) for _ in range(count)]
    started = []

    def end_all(number: int) -> None:
        for process in started:
            process.kill()
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)

    with catch_signals(signal.SIGUSR1, again=end_all) as stop_signal:
        context = torch.multiprocessing.start_processes(
            _replica,
            args=(count, store.port, target, [writer for _, writer in pipes]),
            nprocs=count,
            join=False,
            start_method="spawn",
        )
        started.extend(context.processes)
        for _, writer in pipes:
            writer.close()
        first = _join(context, stop_signal)
    outcomes = [_receive(reader) for reader, _ in pipes]
    codes = [process.exitcode for process in started]
    return _conclude(outcomes, _find_dead(outcomes, codes, first), stop_signal.signal_number)


def _replica(rank: int, count: int, port: int, target: Callable, writers: list) -> None:
    """Run in each process: find the group, do the work, tell how it ended."""
    with suppress(OSError):
        os.setpgid(0, 0)  # a terminal's Ctrl-C reaches the launcher, which passes it on
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": LOCALHOST,
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",  # the launcher's store, on a port that is free
    }
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    torch.set_num_threads(max(1, torch.get_num_threads() // count))
    outcome = _run(target)
    writers[rank].send(outcome)
    if outcome.exit_code:
        # Abruptly, because one process alone cannot destroy the group. Exit code 1 makes torch end
        # the others; after a signal they all end by themselves.
        os._exit(1 if outcome.exit_code < 128 else 0)


def _run(target: Callable[[], Any]) -> _Outcome:
    try:
        return _Outcome(result=target())
    except (Exception, KeyboardInterrupt) as error:
        outcome = _outcome_of(error)
        if outcome.exit_code == 1:
            traceback.print_exc()
        return outcome


def _outcome_of(error: BaseException) -> _Outcome:
    """Return the message and exit code that the command line has for a fault."""
    if isinstance(error, AlexNetError):
        is_loss = isinstance(error, LostReplicaError)
        return _Outcome(message=str(error), exit_code=error.exit_code, is_loss=is_loss)
    if isinstance(error, KeyboardInterrupt):
        return _Outcome(message=STOPPED, exit_code=130)
    if isinstance(error, (MemoryError, OSError)):
        return _outcome_of(machine_error(error))
    return _Outcome(message=f"internal error, {type(error).__name__}: {error}", exit_code=1)


def _join(context, stop_signal: StopSignal) -> int | None:
    """Wait for all; return the rank of the first that failed."""
    passed_on = 0
    while True:
        if stop_signal.signal_number != passed_on:
            passed_on = stop_signal.signal_number
            for process in context.processes:
                if process.is_alive():
                    os.kill(process.pid, passed_on)
        try:
            if context.join(POLL_SECONDS, grace_period=GRACE_SECONDS):
                return None
        except (
            torch.multiprocessing.ProcessExitedException,
            torch.multiprocessing.ProcessRaisedException,
        ) as error:
            return error.error_index


def _receive(reader: connection.Connection) -> _Outcome | None:
    """Return what a replica told; None if it could not."""
    try:
        return reader.recv() if reader.poll() else None
    except (EOFError, OSError):
        return None


def _find_dead(
    outcomes: list[_Outcome | None], codes: list[int], first: int | None
) -> tuple[int, int] | None:
    """Return rank and exit code of the replica that died.

    The first that failed may be one that lost another, of which nothing was noticed yet.
    """
    if first is not None and (outcome := outcomes[first]) and outcome.is_loss:
        silent = [rank for rank, outcome in enumerate(outcomes) if outcome is None]
        first = silent[0] if silent else None
    return None if first is None else (first, codes[first])


def _conclude(outcomes: list[_Outcome | None], died: tuple[int, int] | None, asked: int) -> Any:
    """Return the first replica's result, or raise what ended the run."""
    faults = [outcome for outcome in outcomes if outcome and outcome.exit_code]
    if not faults and not died:
        return outcomes[0].result  # a signal may have come when all was done
    faults.sort(key=lambda outcome: outcome.is_loss)  # who lost another did not begin it
    if faults and not faults[0].is_loss:
        raise JobError(faults[0].message, faults[0].exit_code)
    if asked:
        raise Stopped(STOPPED, asked)
    if died:
        rank, code = died
        how = f"of signal {-code}" if code < 0 else f"with code {code}"
        raise MachineError(
            f"replica {rank} of {len(outcomes)} died {how}, and the others were ended.\n"
            f"{KEPT}. To go on: the same command with --resume"
        )
    raise JobError(faults[0].message, faults[0].exit_code)
