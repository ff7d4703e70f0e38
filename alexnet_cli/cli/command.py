"""A command whose help groups its options, and which reads what people type for MODEL."""

import os
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperOption

from alexnet_cli.cli import variables
from alexnet_cli.cli.console import ConsoleProgress
from alexnet_cli.cli.spellings import with_model
from alexnet_cli.errors import UsageError

# The groups of the help by the names of parameters; others are in Options.
PANELS = {
    "Data": (
        *("data", "split", "stream", "classes", "class_names", "allow_pipe", "allow_data_change"),
        *("layout", "labels", "follow_links", "check_md5", "val_fraction", "from_file", "null"),
        *("queries", "subset", "gray_bits", "apply_orientation", "allow_empty_class", "cache"),
        "only_errors",
    ),
    "Model": ("model", "views", "recipe", "settings", "init_from", "freeze", "weights"),
    "Training": ("epochs", "lr", "batch_size", "seed", "resume"),
    "Devices": (
        *("device", "gpus", "columns", "precision", "compiled", "join_minutes", "workers"),
        "scheduler",
    ),
    "Output": (
        *("output", "out", "run", "as_json", "force", "row_format", "top", "theme"),
        *(
            "min_probability",
            "save_minutes",
            "save_steps",
            "loggers",
            "size",
            "quality",
            "shard_size",
        ),
        *("max_bad", "dry_run", "predictions", "as_csv", "only", "seconds", "kernels", "draw"),
    ),
}
PANEL_OF = {name: panel for panel, names in PANELS.items() for name in names}
# Names that mean something else in a command.
OF_COMMAND = {("prep", "columns"): "Data", ("prep", "seed"): "Output", ("show", "seed"): "Data"}


class Command(TyperCommand):
    """Runs one command; its help has at most five groups of options."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments; the options --model, --weights and --checkpoint name MODEL too."""
        own = {name for parameter in self.params for name in parameter.opts}
        takes_model = any("MODEL" in (parameter.metavar or "") for parameter in self._arguments())
        variables.name_variables(self.params, ctx.auto_envvar_prefix)
        try:
            return super().parse_args(ctx, with_model([*args], own, takes_model))  # it is emptied
        except typer.TyperException as error:
            if type(error).__name__ == "NoSuchOption":  # typer does not export it
                _check_names(args, str(vars(error)["option_name"]))
            raise
        finally:
            ctx.meta[variables.IN_FORCE] = variables.in_force(ctx, self.params)

    def invoke(self, ctx: Any) -> Any:
        """Run the command, after a line about the variables that its options were read from."""
        of_command = f"{ctx.auto_envvar_prefix}_"
        names = [name for name in ctx.meta[variables.IN_FORCE] if name.startswith(of_command)]
        lines = [f"Options from the environment: {', '.join(names)}"] if names else []
        if os.environ.get("RANK", "0") == "0":  # one of the processes that torchrun starts
            for line in lines + variables.unknown(ctx, self.params):
                ConsoleProgress().say(line)
        return super().invoke(ctx)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Show the options in their groups, in the order of these."""
        order = ["", *PANELS]  # the help shows groups in the order of their first options
        self.params.sort(key=lambda parameter: order.index(self._panel_of(parameter)))
        for parameter in self.params:
            if isinstance(parameter, TyperOption):
                parameter.rich_help_panel = self._panel_of(parameter) or None
        super().format_help(ctx, formatter)

    def _panel_of(self, parameter: Any) -> str:
        if not isinstance(parameter, TyperOption):
            return ""
        name = parameter.name or ""
        return OF_COMMAND.get((self.name or "", name)) or PANEL_OF.get(name, "")

    def _arguments(self) -> list[Any]:
        return [part for part in self.params if part.param_type_name == "argument"]


def _check_names(words: list[str], option: str) -> None:
    """Raise a UsageError if an option that does not exist is the beginning of a file's name."""
    for word in words:
        has_suffix = Path(word).suffix and "=" not in word  # not --rate=0.01
        if word.startswith(option) and (has_suffix or Path(word).exists()):
            raise UsageError(f"{word}: no such option.", hint=f"If it is a file: ./{word}")
