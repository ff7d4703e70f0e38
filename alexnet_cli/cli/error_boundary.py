"""Turns every error into at most three lines on stderr and an exit code."""

import os
import signal
import sys
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Any

import typer
from typer.core import TyperGroup, TyperOption

from alexnet_cli.cli import console
from alexnet_cli.cli.hints import message
from alexnet_cli.cli.spellings import common_first
from alexnet_cli.cli.variables import IN_FORCE
from alexnet_cli.errors import AlexNetError, Stopped, UsageError, machine_error, missing_package
from alexnet_cli.io.atomic import STDOUT
from alexnet_cli.io.signals import handling, unless_ignored

EXIT_CODES = (
    "Exit codes: 0 done; 1 internal error; 2 wrong command line; 3 input cannot be used; "
    "4 disk, memory, device or permission; 5 finished, but items were rejected; "
    "6 training diverged; 129 / 130 / 143 stopped by SIGHUP / Ctrl-C / SIGTERM."
)


CONTINUING = {"prep", "train", "reproduce", "download", "import"}  # where they were stopped
CONTINUE = "Run the same command to continue."


class ErrorBoundary(TyperGroup):
    """Runs a command; its errors become at most three lines and an exit code."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the options of all commands, wherever they are typed, and the command."""
        for option in self.params:  # --quiet and --verbose have one variable, --version has none
            if isinstance(option, TyperOption):
                option.allow_from_autoenv = False
        return self._guarded(
            ctx, lambda: super(ErrorBoundary, self).parse_args(ctx, common_first(args))
        )

    def invoke(self, ctx: Any) -> Any:
        """Run the command; SIGTERM and SIGHUP stop it as Ctrl-C does, and its files stay whole."""
        with handling(unless_ignored("SIGTERM", "SIGHUP", "SIGBREAK"), _raise_stopped):
            return self._guarded(ctx, lambda: super(ErrorBoundary, self).invoke(ctx))

    def _guarded(self, ctx: Any, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except AlexNetError as error:
            self._fail(ctx, error)
        except KeyboardInterrupt:
            self._fail(ctx, Stopped("stopped.", signal.SIGINT))
        except BrokenPipeError:
            _drop_stdout()  # its reader is gone
            raise typer.Exit(141) from None
        except (MemoryError, OSError) as error:
            if getattr(error, "filename", None) == STDOUT:
                _drop_stdout()
            self._fail(ctx, machine_error(error))
        except typer.TyperException as error:
            if type(error).__name__ == "NoArgsIsHelpError":  # typer does not export it
                raise
            problem = error.format_message().replace("Value error, ", "")  # pydantic's
            usage = UsageError(problem, hint=f"Help: {_command_of(error, ctx)} --help")
            self._fail(ctx, usage, error.exit_code)
        except (typer.Exit, typer.Abort):
            raise
        except Exception as error:
            if isinstance(error, ImportError) and (missing := missing_package(error)):
                self._fail(ctx, missing)
            problem = f"internal error, {type(error).__name__}: {error}"
            where = f"Show where: alexnet {ctx.invoked_subcommand} ... --debug"
            self._fail(ctx, AlexNetError(problem, hint=where))

    def _fail(self, ctx: Any, error: AlexNetError, exit_code: int | None = None) -> None:
        if ctx.params.get("debug"):
            traceback.print_exc()
        if isinstance(error, Stopped) and ctx.invoked_subcommand in CONTINUING and not error.hint:
            error = error.replaced(kept="Finished work is kept.", hint=CONTINUE)
        if (names := ctx.meta.get(IN_FORCE)) and isinstance(error, UsageError) and not error.kept:
            error = error.replaced(kept=f"Options from the environment: {', '.join(names)}")
        console.print_error(message(error))
        raise typer.Exit(error.exit_code if exit_code is None else exit_code) from None


def _command_of(error: typer.TyperException, ctx: Any) -> str:
    """Return the command that an error is about, such as `alexnet figure explain`."""
    words: list[str] = []
    place = getattr(error, "ctx", None)
    while place is not None and place is not ctx:
        words.insert(0, place.info_name)
        place = place.parent
    return " ".join(["alexnet", *(words or [ctx.invoked_subcommand or ""])]).strip()


def _drop_stdout() -> None:
    """Let what is left in the buffer of stdout not fail when the program exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _raise_stopped(number: int, _frame: FrameType | None) -> None:
    raise Stopped("stopped.", number)
