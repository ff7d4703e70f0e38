"""How replicas that other programs start find each other, wait, and stop waiting."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from datetime import timedelta

import pytest
import torch.distributed as dist
from helpers import Listener, refused

from alexnet_cli.distributed import rendezvous
from alexnet_cli.distributed.rendezvous import STORE_FILE, Place, join, meet, read_place
from alexnet_cli.errors import LostReplicaError, MachineError, UsageError

GROUP = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
VARIABLES = (*GROUP, "LOCAL_RANK", "LOCAL_WORLD_SIZE", STORE_FILE, "TORCHELASTIC_USE_AGENT_STORE")
SECOND = timedelta(seconds=1)


@pytest.fixture
def environment(monkeypatch):
    """Set the variables of a group; None removes one."""

    def given(**values) -> None:
        for name in VARIABLES:
            monkeypatch.delenv(name, raising=False)
        for name, value in values.items():
            if value is not None:
                monkeypatch.setenv(name, str(value))

    return given


@pytest.fixture
def impatient(monkeypatch, environment):
    """Speak after 0.2 seconds; forget the store, and the wish to end at once, afterwards."""
    monkeypatch.setattr(rendezvous, "FIRST_LINE_SECONDS", 0.2)
    monkeypatch.setattr(rendezvous, "_group", rendezvous._Group())
    return environment


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


# --- the environment


@pytest.mark.parametrize(
    ("changed", "place"),
    [
        ({}, Place(1, 2, 0, 1)),
        ({"LOCAL_RANK": 1, "LOCAL_WORLD_SIZE": 2}, Place(1, 2, 1, 2)),
        ({"RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": None, "MASTER_PORT": None}, Place()),
        (dict.fromkeys(GROUP), Place()),
        ({"RANK": None, "WORLD_SIZE": 1}, Place()),
        ({"MASTER_ADDR": None, "MASTER_PORT": None, STORE_FILE: "file"}, Place(1, 2, 0, 1)),
    ],
)
def test_place_is_read_from_the_environment(environment, changed, place):
    environment(**GROUP | changed)
    assert read_place() == place


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"RANK": None}, "WORLD_SIZE is '2', but RANK is not set."),
        ({"WORLD_SIZE": None}, "RANK is set, but WORLD_SIZE is not."),
        ({"MASTER_ADDR": None}, "RANK is set, but MASTER_ADDR is not."),
        ({"MASTER_ADDR": " "}, "RANK is set, but MASTER_ADDR is not."),
        ({"MASTER_PORT": None}, "RANK is set, but MASTER_PORT is not."),
        ({"MASTER_PORT": "0"}, "MASTER_PORT is '0', not a whole number of at least 1."),
        ({"MASTER_PORT": "99999"}, "MASTER_PORT is 99999, above 65535."),
        ({"RANK": "one"}, "RANK is 'one', not a whole number of at least 0."),
        ({"RANK": "-1"}, "RANK is '-1', not"),
        ({"RANK": ""}, "RANK is '', not"),
        ({"RANK": "2"}, "RANK is 2, but WORLD_SIZE is 2"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE is '0', not"),
        ({"LOCAL_RANK": "3", "LOCAL_WORLD_SIZE": "2"}, "LOCAL_RANK is 3, but LOCAL_WORLD_SIZE is"),
        ({"LOCAL_WORLD_SIZE": "x"}, "LOCAL_WORLD_SIZE is 'x', not"),
    ],
)
def test_wrong_environment_is_named(environment, changed, problem):
    environment(**GROUP | changed)
    with refused(UsageError, r"as torchrun does; or unset RANK") as caught:
        read_place()
    assert caught.value.problem.startswith(problem)


@pytest.mark.parametrize("command", ["train", "eval"])
def test_commands_refuse_a_wrong_environment(environment, alexnet, dataset, checkpoint, command):
    environment(**GROUP | {"MASTER_ADDR": None})
    rest = {"train": (dataset, "--run", "run"), "eval": (checkpoint, dataset)}[command]
    result = alexnet(command, *rest, "--device", "cpu")
    assert (result.exit_code, "MASTER_ADDR" in result.stderr) == (2, True), result.output


# --- waiting


def test_first_replica_says_for_how_many_it_waits_and_gives_up(impatient):
    impatient(**GROUP | {"RANK": 0, "WORLD_SIZE": 3, "MASTER_PORT": (port := free_port())})
    said = Listener()
    with refused(MachineError, "2 of 3 replicas did not start within 1 second.*\n.*--join-minutes"):
        meet(SECOND, said)
    assert said.lines == [f"waiting for 2 of 3 replicas at 127.0.0.1:{port}"]


@pytest.mark.parametrize("host", ["127.0.0.1", "no-such-host.invalid"])
def test_other_replica_waits_for_the_first_and_gives_up(impatient, monkeypatch, host):
    """Whether nobody listens yet, or the name is not known yet; no name is looked up here."""
    find = socket.getaddrinfo

    def look_up(name, *rest, **more):
        if name == "no-such-host.invalid":
            raise socket.gaierror(-2, "Name or service not known")
        return find(name, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    impatient(**GROUP | {"MASTER_ADDR": host, "MASTER_PORT": (port := free_port())})
    said = Listener()
    with refused(MachineError, f"replica 0 of 2 did not answer at {host}:{port} within 1 second"):
        meet(SECOND, said)
    assert said.lines == [f"waiting for replica 0 of 2 at {host}:{port}"]


def test_only_one_replica_of_a_machine_says_that_it_waits(impatient):
    others = {"LOCAL_RANK": 1, "LOCAL_WORLD_SIZE": 2, "MASTER_PORT": free_port()}
    impatient(**GROUP | others)
    said = Listener()
    with pytest.raises(MachineError):
        meet(0.5 * SECOND, said)
    assert said.lines == []


def test_port_in_use_is_named(impatient):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        impatient(**GROUP | {"RANK": 0, "MASTER_PORT": port})
        with refused(MachineError, rf"cannot listen on port {port} \(MASTER_PORT\)"):
            meet(SECOND)


def test_replicas_meet_and_one_that_fails_ends_the_others(impatient, tmp_path):
    impatient(RANK=0, WORLD_SIZE=2, **{STORE_FILE: tmp_path / "store"})
    other = dist.FileStore(str(tmp_path / "store"), 2)
    other.add("started", 1)
    said = Listener()
    meet(SECOND, said)
    threading.Timer(0.5, other.set, ("failed", "1")).start()
    with refused(LostReplicaError, r"replica 1 of 2 ended with an error\."):
        join("gloo", 60 * SECOND, SECOND, said)
    assert said.lines == ["waiting for 1 of 2 replicas to open their data"]


PROGRAM = """
from alexnet_cli.distributed import rendezvous
rendezvous.FIRST_LINE_SECONDS = 0.1
from alexnet_cli.cli.app import main
main()
"""


def test_waiting_replica_ends_at_once_on_a_signal(checkpoint, dataset):
    signals = (signal.SIGTERM, signal.SIGINT)
    command = [sys.executable, "-c", PROGRAM, "eval", checkpoint, dataset, "--device", "cpu"]
    processes = [
        subprocess.Popen(
            list(map(str, command)),
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | GROUP | {"RANK": str(rank), "MASTER_PORT": str(free_port())},
        )
        for rank in (0, 1)
    ]
    for process, number in zip(processes, signals, strict=True):
        with process:
            assert process.stderr.readline().startswith("waiting for ")
            began = time.monotonic()
            process.send_signal(number)
            said = process.stderr.read()
            assert process.wait() == 128 + number
            assert time.monotonic() - began < 3
            assert said.startswith("error: stopped.\n")
