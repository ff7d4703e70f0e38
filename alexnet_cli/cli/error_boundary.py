"""The edge of the program: every fault becomes at most three lines and an exit code."""

import os
import re
import signal
import sys
import traceback
from types import FrameType
from typing import Any

import typer
from typer.core import TyperGroup

from alexnet_cli.cli import console
from alexnet_cli.cli.hints import message
from alexnet_cli.errors import AlexNetError, Stopped, machine_error, on_one_line
from alexnet_cli.io.signals import handling, unless_ignored

EXIT_CODES = (
    "Exit codes: 0 done; 1 internal error; 2 wrong command line; 3 input cannot be used; "
    "4 disk, memory, device or permission; 5 finished, but items were rejected; "
    "6 training diverged; 129 / 130 / 143 stopped by SIGHUP / Ctrl-C / SIGTERM."
)

TYPED = "alexnet.typed"
STOPPED = "stopped. Finished work is kept; run the same command to go on."


class ErrorBoundary(TyperGroup):
    """Turns every fault into at most three lines and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; SIGTERM and SIGHUP stop it as Ctrl-C does, and its files stay whole."""
        numbers = [*unless_ignored(signal.SIGTERM), *unless_ignored(signal.SIGHUP)]
        with handling(numbers, _raise_stopped):
            return self._invoke(ctx)

    def _invoke(self, ctx: typer.Context) -> Any:
        try:
            return super().invoke(ctx)
        except AlexNetError as error:
            self._fail(ctx, message(error), error.exit_code)
        except KeyboardInterrupt:
            self._fail(ctx, STOPPED, 130)
        except BrokenPipeError:
            # The reader of our output is gone; what is left in the buffer must not fail at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(141) from None
        except (MemoryError, OSError) as error:
            self._fail(ctx, message(machine_error(error)), 4)
        except typer.TyperException as error:
            command = f"alexnet {ctx.invoked_subcommand}" if ctx.invoked_subcommand else "alexnet"
            self._fail(ctx, f"{error.format_message()}\nHelp: {command} --help", error.exit_code)
        except (typer.Exit, typer.Abort):
            raise
        except Exception as error:
            what = f"internal error, {type(error).__name__}: {error}"
            hint = f"Show where: alexnet --debug {ctx.invoked_subcommand} ..."
            self._fail(ctx, f"{what}\n{hint}", 1)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Keep what was typed, whose names come back in messages."""
        ctx.meta[TYPED] = list(args)
        return super().parse_args(ctx, args)

    def _fail(self, ctx: typer.Context, message: str, exit_code: int) -> None:
        if ctx.params.get("debug"):
            traceback.print_exc()
        console.print_error(_on_its_lines(message, ctx.meta[TYPED]))
        raise typer.Exit(exit_code) from None


def _on_its_lines(message: str, typed: list[str]) -> str:
    """Escape line breaks that are part of names, so that they end no line of a message."""
    for name in re.split("[/=]", "/".join(typed)):
        if "\n" in name and name.strip():
            message = message.replace(name, on_one_line(name))
    return message


def _raise_stopped(number: int, _frame: FrameType | None) -> None:
    raise Stopped(STOPPED, number)
