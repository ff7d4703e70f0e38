"""How a run of several processes ends; two real launches of some seconds each."""

import os
import pickle
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from helpers import alive, left_of

from alexnet_cli.cli.hints import message
from alexnet_cli.distributed.launcher import _conclude, _find_dead, _Outcome, _run
from alexnet_cli.errors import (
    AlexNetError,
    DatasetError,
    DivergedError,
    LostReplicaError,
    Stopped,
)

OK = _Outcome(result="first")
OTHER = _Outcome(result="other")
SAVED = _Outcome(error=Stopped("stopped and saved at epoch 1, step 2.", signal.SIGTERM))
BAD_DATA = _Outcome(error=DatasetError("shard 3 is damaged"))
DIVERGED = _Outcome(error=DivergedError("the loss is nan"))
LOSS = _Outcome(error=LostReplicaError("replica 0 of 2 lost the others"))
DIED = "replica {} of 2 died {}"


# --- how a run ended, from the outcomes of its replicas


@pytest.mark.parametrize(
    ("outcomes", "codes", "first", "number", "kind", "exit_code", "words"),
    [
        ([SAVED, SAVED], [0, 0], None, 15, Stopped, 143, "stopped and saved"),
        ([SAVED, LOSS], [0, 1], 1, 15, Stopped, 143, "stopped and saved"),
        ([None, None], [-15, -15], 0, 15, Stopped, 143, "Everything saved before is kept"),
        ([LOSS, None], [1, -2], 1, 2, Stopped, 130, "Everything saved before is kept"),
        ([BAD_DATA, LOSS], [1, 1], 0, 0, DatasetError, 3, "shard 3 is damaged"),
        ([LOSS, BAD_DATA], [1, 1], 0, 0, DatasetError, 3, "shard 3 is damaged"),
        ([DIVERGED, DIVERGED], [1, 1], 1, 0, DivergedError, 6, "the loss is nan"),
        ([BAD_DATA, SAVED], [1, 0], 0, 15, DatasetError, 3, "shard 3 is damaged"),
        ([LOSS, None], [1, -9], 1, 0, LostReplicaError, 4, DIED.format(1, "of signal 9")),
        ([LOSS, None], [1, -9], 0, 0, LostReplicaError, 4, DIED.format(1, "of signal 9")),
        ([None, LOSS], [-11, 1], 0, 0, LostReplicaError, 4, DIED.format(0, "of signal 11")),
        ([None, None], [-9, -15], 0, 0, LostReplicaError, 4, DIED.format(0, "of signal 9")),
        ([None, LOSS], [7, 1], 0, 0, LostReplicaError, 4, DIED.format(0, "with code 7")),
        ([LOSS, LOSS], [1, 1], 0, 0, LostReplicaError, 4, "lost the others"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else None,
)
def test_run_ends_with_the_cause(outcomes, codes, first, number, kind, exit_code, words):
    with pytest.raises(AlexNetError) as caught:
        _conclude(outcomes, _find_dead(outcomes, codes, first), number)

    assert type(caught.value) is kind
    assert caught.value.exit_code == exit_code
    assert words in str(caught.value)
    assert message(caught.value).count("\n") < 3


@pytest.mark.parametrize("number", [0, 15])
def test_result_is_that_of_the_main_replica(number):
    """A signal that arrived when everything was done does not discard the result."""
    assert _conclude([OK, OTHER], None, number) == "first"


def raising(error: BaseException):
    raise error


@pytest.mark.parametrize(
    ("error", "exit_code", "words", "is_loss"),
    [
        (DatasetError("shard 3"), 3, "shard 3", False),
        (LostReplicaError("gone"), 4, "gone", True),
        (Stopped("saved", 15), 143, "saved", False),
        (KeyboardInterrupt(), 130, "stopped.\nEverything saved before is kept.", False),
        (MemoryError(), 4, "out of memory", False),
        (OSError(28, "No space left on device", "log.jsonl"), 4, "log.jsonl: No space", False),
        (ZeroDivisionError("by zero"), 1, "internal error, ZeroDivisionError: by zero", False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_error_of_a_replica_has_its_exit_code(error, exit_code, words, is_loss, capsys):
    outcome = _run(partial(raising, error))

    assert (outcome.error.exit_code, outcome.is_loss) == (exit_code, is_loss)
    assert words in message(outcome.error)
    assert ("Traceback" in capsys.readouterr().err) == (exit_code == 1)


def test_outcomes_travel_between_processes_whole():
    for outcome in (OK, SAVED, BAD_DATA):
        copied = pickle.loads(pickle.dumps(outcome))
        assert copied.result == outcome.result
        assert repr(copied.error) == repr(outcome.error)


def test_result_of_a_replica_is_its_outcome():
    assert _run(partial(int, "7")) == _Outcome(result=7)


# --- two processes

PROGRAM = """
import os, sys, time
from functools import partial
from pathlib import Path
from alexnet_cli.distributed.launcher import run_replicas
from alexnet_cli.distributed.replicas import joined
from alexnet_cli.cli.hints import message
from alexnet_cli.errors import AlexNetError, DatasetError

def work(folder, is_faulty):
    with joined("cpu") as replicas:
        (folder / str(replicas.rank)).write_text(str(os.getpid()))
        if is_faulty and replicas.rank == 1:
            raise DatasetError("shard 3 is damaged")
        while True:
            replicas.barrier()
            time.sleep(0.01)

if __name__ == "__main__":
    try:
        run_replicas(partial(work, Path(sys.argv[1]), sys.argv[2] == "faulty"), 2)
    except AlexNetError as error:
        print(message(error))
        sys.exit(error.exit_code)
"""


@pytest.fixture
def launched(tmp_path):
    """Start two replicas in a session of their own, by `launched(how)`; end what is left."""
    started = []

    def launch(how: str) -> subprocess.Popen:
        (tmp_path / "program.py").write_text(PROGRAM)
        command = [sys.executable, tmp_path / "program.py", tmp_path, how]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        started.append(subprocess.Popen(command, start_new_session=True, **streams))
        return started[-1]

    yield launch
    for process in started:
        for left in alive(process.pid):
            os.kill(left, signal.SIGKILL)
        process.communicate()


def test_error_of_one_replica_ends_the_other_and_is_reported(launched):
    process = launched("faulty")

    said, _ = process.communicate(timeout=120)

    assert (process.returncode, said) == (3, "shard 3 is damaged\n")
    assert left_of(process.pid) == []


def test_killed_replica_is_reported_in_time_and_leaves_no_process(launched, tmp_path):
    process = launched("steady")
    victim = _wait_for(tmp_path / "1")
    _wait_for(tmp_path / "0")

    os.kill(victim, signal.SIGKILL)
    said, _ = process.communicate(timeout=30)

    assert process.returncode == 4, said
    assert said.startswith("replica 1 of 2 died of signal 9, and the others were ended.\n")
    assert "Run the same command again." in said
    assert "--resume" not in said
    assert left_of(process.pid) == []


def _wait_for(path: Path) -> int:
    """Return the process id in a file as soon as it is there."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if path.exists() and path.read_text():
            return int(path.read_text())
        time.sleep(0.02)
    raise TimeoutError(path)
