"""Options from environment variables: --batch-size of train is ALEXNET_TRAIN_BATCH_SIZE."""

import os
from collections.abc import Mapping
from typing import Any

from typer.core import TyperOption

from alexnet_cli.cli.console import VERBOSITY
from alexnet_cli.errors import did_you_mean, on_one_line

PREFIX = "ALEXNET"  # of all variables of this package
# Variables that are no options of one command. The processes that a command starts inherit them.
OF_THE_MACHINE = ("ALEXNET_CACHE", "ALEXNET_DEBUG", VERBOSITY)
IN_FORCE = "alexnet_cli.variables"  # where the context of click keeps their names


def name_variables(parameters: list[Any], prefix: str) -> None:
    """Let each option of a command be read from the variable of its own name.

    click's automatic names are those of Python's parameters, such as AS_JSON for --json.
    """
    for option in _options(parameters):
        if not isinstance(option.envvar, list):
            option.show_envvar = option.envvar is not None  # the help would be twice as long
            shared = [str(option.envvar)] if option.envvar else []
            option.envvar = [variable_of(option, prefix), *shared]
            option.allow_from_autoenv = False


def _options(parameters: list[Any]) -> list[TyperOption]:
    return [parameter for parameter in parameters if isinstance(parameter, TyperOption)]


def variable_of(option: TyperOption, prefix: str) -> str:
    """Return the variable of an option: the command's prefix and the option's long name."""
    long_name = max(option.opts, key=len)
    return f"{prefix}_{long_name.lstrip('-').replace('-', '_').upper()}"


def in_force(ctx: Any, parameters: list[Any]) -> list[str]:
    """Return the names of the variables that options of this command line were read from."""
    return [
        next(name for name in option.envvar or () if os.environ.get(name))
        for option in _options(parameters)
        if (source := ctx.get_parameter_source(option.name)) and source.name == "ENVIRONMENT"
    ]


def unknown(ctx: Any, parameters: list[Any]) -> list[str]:
    """Return a line about each variable of this command that names none of its options."""
    start = f"{ctx.auto_envvar_prefix}_"
    known = {variable_of(option, ctx.auto_envvar_prefix) for option in _options(parameters)}
    names = sorted(name for name in os.environ if name.startswith(start) and name not in known)
    return [
        f"{on_one_line(name)} names no option of this command. {_advice(name, start, known)}"
        for name in names
    ]


def _advice(name: str, start: str, known: set[str]) -> str:
    from difflib import get_close_matches  # needed for wrong names only

    # Compared without their beginning, in which all are alike.
    near = get_close_matches(name.removeprefix(start), [end.removeprefix(start) for end in known])
    return did_you_mean(name, [start + end for end in near], "It is ignored.")


def job_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without options, so that a job is exactly its command line."""
    return {
        name: value
        for name, value in environment.items()
        if not name.startswith(f"{PREFIX}_") or name in OF_THE_MACHINE
    }
