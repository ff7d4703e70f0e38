import errno
import functools
import os
import signal

import pytest
import typer
from typer.testing import CliRunner

from alexnet_cli.cli.error_boundary import ErrorBoundary
from alexnet_cli.errors import (
    CheckpointError,
    DeviceError,
    DivergedError,
    RecipeError,
    RejectedError,
    Stopped,
)


def run(action, *options: str, command: str = "work"):
    """Run a program of one command, which does `action`, behind the face."""
    app = typer.Typer(cls=ErrorBoundary, pretty_exceptions_enable=False)

    @app.callback()
    def options_(debug: bool = False) -> None:
        pass

    @app.command(command)
    def work() -> None:
        action()

    return CliRunner().invoke(app, [*options, command])


def run_raising(fault: BaseException, *options: str):
    def fail():
        raise fault

    return run(fail, *options)


@pytest.mark.parametrize(
    ("fault", "exit_code", "message"),
    [
        (RecipeError("no field x"), 2, "no field x"),
        (CheckpointError("a.safetensors: cut\nTake another."), 3, "a.safetensors: cut"),
        (DeviceError("no GPU"), 4, "no GPU"),
        (RejectedError("3 rejected"), 5, "3 rejected"),
        (DivergedError("the loss is nan"), 6, "the loss is nan"),
        (Stopped("stopped and saved", signal.SIGTERM), 143, "stopped and saved"),
        (KeyboardInterrupt(), 130, "stopped"),
        (MemoryError(), 4, "out of memory"),
        (OSError(errno.ENOSPC, "No space left on device"), 4, "No space left on device"),
        (PermissionError(errno.EACCES, "Permission denied", "/a/b"), 4, "/a/b: Permission denied"),
        (OSError("the cable"), 4, "the cable"),
        (ZeroDivisionError("by zero"), 1, "internal error, ZeroDivisionError: by zero"),
        (AssertionError(), 1, "internal error, AssertionError"),
    ],
)
def test_every_fault_has_its_exit_code_and_at_most_three_lines(fault, exit_code, message):
    result = run_raising(fault)
    assert result.exit_code == exit_code
    assert result.stderr.startswith("error: ")
    assert message in result.stderr
    assert result.stderr.count("\n") <= 3
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(("fault", "exit_code"), [(CheckpointError("cut"), 3), (KeyError("x"), 1)])
def test_debug_adds_the_traceback_and_keeps_the_exit_code(fault, exit_code):
    result = run_raising(fault, "--debug")
    assert result.exit_code == exit_code
    assert "Traceback" in result.stderr
    assert "raise fault" in result.stderr


def test_exit_codes_of_the_work_pass():
    assert run_raising(typer.Exit(7)).exit_code == 7
    assert run(lambda: None).exit_code == 0


def test_wrong_parameters_are_the_parser_s_own():
    result = run_raising(typer.BadParameter("3 is neither 1 nor 10.", param_hint="--views"))
    assert result.exit_code == 2
    assert "--views" in result.stderr


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_signal_ends_the_work_with_its_code(number, exit_code):
    result = run(lambda: os.kill(os.getpid(), number))
    assert result.exit_code == exit_code
    assert result.stderr == "error: stopped.\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_only_a_command_that_continues_says_that_it_does(number):
    action = functools.partial(os.kill, os.getpid(), number)
    assert "Run the same command to continue" in run(action, command="prep").stderr
    assert run(action, command="predict").stderr == "error: stopped.\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_handler_of_a_signal_is_given_back(number):
    before = signal.getsignal(number)
    run(lambda: None)
    assert signal.getsignal(number) == before


def test_hangup_that_is_ignored_stays_so_as_under_nohup():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert run(lambda: os.kill(os.getpid(), signal.SIGHUP)).exit_code == 0
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("name", ["a\nb.jpg", "folder\n/c.jpg", "x\ny=z\n"])
def test_line_break_in_a_name_ends_no_line_of_the_message(name: str):
    app = typer.Typer(cls=ErrorBoundary, pretty_exceptions_enable=False)

    @app.callback()
    def options_(debug: bool = False) -> None:
        pass

    @app.command()
    def work(names: list[str], option: str = "") -> None:
        raise CheckpointError(f"{option}: cut.", kept=f"{names[0]} is kept.", hint="Take another.")

    result = CliRunner().invoke(app, ["work", name, f"--option={name}", "\n", "/"])

    shown = name.replace("\n", r"\n")
    assert result.stderr == f"error: {shown}: cut.\n{shown} is kept.\nTake another.\n"
