"""Starts the replicas of a run on this machine, and reports how they ended.

torch.multiprocessing starts and ends the processes; each sends its result or error through a pipe.
The first signal is passed on to them: they agree on a step, save and end. The second one ends them
at once. When one replica dies, the others are ended.
"""

import atexit
import logging
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch.multiprocessing

from alexnet_cli.distributed.device_plan import DevicePlan
from alexnet_cli.distributed.oom_errors import KEPT
from alexnet_cli.distributed.rendezvous import (
    STORE_FILE,
    may_block_exit,
    meet,
    read_place,
    report_failure,
)
from alexnet_cli.distributed.replicas import AGAIN, in_group, translate_losses
from alexnet_cli.distributed.runtime_config import DEFAULT_RUNTIME
from alexnet_cli.errors import (
    AlexNetError,
    JobError,
    LostReplicaError,
    Stopped,
    hint,
    machine_error,
)
from alexnet_cli.io.progress import SILENT, Progress
from alexnet_cli.io.signals import CAN_PASS_ON, SAVE_AND_STOP, StopSignal, catch_signals
from alexnet_cli.io.starting import starting

JOIN_LIMIT = timedelta(minutes=DEFAULT_RUNTIME.join_minutes)
LOOPBACKS = {"linux": "lo", "darwin": "lo0"}
GRACE_SECONDS = 8  # to end by itself when another one is lost; as long again before SIGKILL
POLL_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class _Outcome:
    """How a replica ended."""

    result: Any = None
    error: AlexNetError | None = None

    @property
    def is_loss(self) -> bool:
        """Whether the replica ended because it lost another one."""
        return isinstance(self.error, LostReplicaError)


def on_replicas(target: Callable[[], Any], plan: DevicePlan, progress: Progress = SILENT) -> Any:
    """Call `target` in this process, or in the processes of a plan with several replicas.

    In a process that torchrun or a scheduler started, first wait for the others to start.
    """
    if in_group():
        return _as_member(partial(_meet_and_call, target, plan.join_limit, progress))
    if plan.num_replicas == 1:
        return target()
    return run_replicas(target, plan.num_replicas, progress)


def _meet_and_call(target: Callable[[], Any], limit: timedelta, progress: Progress) -> Any:
    with translate_losses(read_place()):
        meet(limit, progress)
    return target()


def _as_member(target: Callable[[], Any]) -> Any:
    """Call `target` in a process of torchrun; if it raises, the process ends without cleanup.

    The command line shows the error first, and torchrun ends the other processes. At a normal exit
    the interpreter would destroy the group and wait for the others, which wait for this process.
    """
    try:
        return target()
    except (Exception, KeyboardInterrupt) as error:
        report_failure()
        atexit.register(_end_in_group, _to_alexnet_error(error).exit_code)
        raise


def _end_in_group(exit_code: int) -> None:
    """End the process at once if it waited for others; to clean up after torch takes seconds."""
    if may_block_exit():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(exit_code)


def run_replicas(target: Callable[[], Any], count: int, progress: Progress = SILENT) -> Any:
    """Call `target` in `count` processes of one group and return the result of rank 0.

    Args:
        target: a picklable call; it reads its rank from the environment.

    Raises:
        AlexNetError: the error of a replica.
        LostReplicaError: if a replica died.
        Stopped: if a signal stopped the replicas before they could save.
    """
    logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)
    pipes = [torch.multiprocessing.Pipe(duplex=False) for _ in range(count)]
    started: list[BaseProcess] = []

    def end_all(number: int) -> None:
        for process in started:
            process.kill()
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)

    with (
        tempfile.TemporaryDirectory(prefix="alexnet-", ignore_cleanup_errors=True) as folder,
        catch_signals(SAVE_AND_STOP, again=end_all) as stop_signal,
    ):
        call = partial(_meet_and_call, target, JOIN_LIMIT, progress)
        with starting("a replica", hint=hint("free_memory")):
            context = torch.multiprocessing.start_processes(
                _replica,
                args=(count, str(Path(folder, "store")), call, [writer for _, writer in pipes]),
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


def _replica(rank: int, count: int, store: str, target: Callable, writers: list) -> None:
    """Run in each process: set up the environment, call the target, send the outcome."""
    with suppress(AttributeError, OSError):  # Windows has no groups
        os.setpgid(0, 0)  # a terminal's Ctrl-C reaches the launcher, which passes it on
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        STORE_FILE: store,  # torch's TCP store would ask for the name of 127.0.0.1
    }
    if loopback := LOOPBACKS.get(sys.platform):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)
    torch.set_num_threads(max(1, torch.get_num_threads() // count))
    outcome = _run(target)
    writers[rank].send(outcome)
    if outcome.error:
        # Without cleanup, because one process alone cannot destroy the group. Exit code 1 makes
        # torch end the others; after a signal they all end by themselves.
        os._exit(1 if outcome.error.exit_code < 128 else 0)


def _run(target: Callable[[], Any]) -> _Outcome:
    try:
        return _Outcome(result=target())
    except (Exception, KeyboardInterrupt) as error:
        known = _to_alexnet_error(error)
        if known.exit_code == 1:
            traceback.print_exc()
        return _Outcome(error=known)


def _to_alexnet_error(error: BaseException) -> AlexNetError:
    """Return the error that the command line reports for an exception."""
    if isinstance(error, AlexNetError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return Stopped("stopped.", signal.SIGINT, kept=KEPT)
    if isinstance(error, (MemoryError, OSError)):
        return machine_error(error)
    return JobError(f"internal error, {type(error).__name__}: {error}", 1)


def _join(context: torch.multiprocessing.ProcessContext, stop_signal: StopSignal) -> int | None:
    """Wait for all processes; return the rank of the first that failed."""
    passed_on = 0
    while True:
        if stop_signal.signal_number != passed_on:
            passed_on = stop_signal.signal_number
            for process in context.processes:
                if process.is_alive() and CAN_PASS_ON:
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
    """Return the outcome that a replica sent; None if it died before."""
    try:
        return reader.recv() if reader.poll() else None
    except (EOFError, OSError):
        return None


def _find_dead(
    outcomes: list[_Outcome | None], codes: list[int | None], first: int | None
) -> tuple[int, int | None] | None:
    """Return rank and exit code of the replica that died.

    The first process that failed may have failed because it lost the one that died.
    """
    if first is not None and (outcome := outcomes[first]) and outcome.is_loss:
        silent = [rank for rank, outcome in enumerate(outcomes) if outcome is None]
        first = silent[0] if silent else None
    return None if first is None else (first, codes[first])


def _conclude(
    outcomes: list[_Outcome | None], died: tuple[int, int | None] | None, signal_number: int
) -> Any:
    """Return the result of rank 0, or raise the error that ended the run."""
    errors = [outcome.error for outcome in outcomes if outcome and outcome.error]
    causes = [error for error in errors if not isinstance(error, LostReplicaError)]
    if causes:
        raise causes[0]
    if (errors or died) and signal_number:
        raise Stopped("stopped.", signal_number, kept=KEPT)
    if died:
        rank, code = died
        how = f"of signal {-code}" if code and code < 0 else f"with code {code}"
        raise LostReplicaError(
            f"replica {rank} of {len(outcomes)} died {how}, and the others were ended.", hint=AGAIN
        )
    if errors:
        raise errors[0]
    return outcomes[0] and outcomes[0].result  # a signal may have arrived when all was done
