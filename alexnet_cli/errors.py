"""Every error that a user can see, and the exit code that tells it to a script.

AlexNetError                 1  failed
  UsageError                 2  the command line
    RecipeError              2  an unknown recipe or field
  InputError                 3  input is unusable
    SourceError             3  the images prep was pointed at
    ImageError               3  one image
    DatasetError             3  a prepared dataset: its shards, index or pixel statistics
    CheckpointError          3  a checkpoint, an ONNX model or a predictions file
  MachineError               4  disk, memory, device, permission, folder in use
    DeviceError              4  a GPU that is not there
    LostReplicaError         4  another process of a run on several
  RejectedError              5  finished, but items were rejected beyond what was allowed
  DivergedError              6  the loss is no longer a number
  JobError                 1  a process that a command runs failed; its code is that one's
  Stopped                  130  stopped by a signal after saving (143 for SIGTERM, 129 for SIGHUP)

An error is data: its problem (what failed, with which file), what is kept, and a hint (what to do
next). `alexnet_cli/cli/error_boundary.py` makes the three lines of a message of them.
"""

import copy
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Hint:
    """What to do next, by name. `alexnet_cli/cli/hints.py` has the sentences with their options.

    Attributes:
        name: a key of `HINTS` there.
        values: what the sentence names, such as a path.
    """

    name: str
    values: dict[str, Any] = field(default_factory=dict)


def hint(name: str, /, **values: Any) -> Hint:
    """Return the hint of that name, for an error that a command line option can avoid."""
    return Hint(name, values)


def on_one_line(name: str) -> str:
    """Return a name found in data as a message shows it: control characters escaped.

    A line break that it may hold ends no line of the message then.
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in name)


def brief(error: BaseException, limit: int = 120) -> str:
    """Return the beginning of a library's error on one line."""
    return " ".join(str(error).split())[:limit]


def some_names(names: list[str]) -> str:
    """Return the first five names, as a message shows them."""
    return on_one_line(", ".join(names[:5])) + (", ..." if len(names) > 5 else "")


def counted(count: int, one: str, many: str = "") -> str:
    """Return a count with its noun, `many` or the regular plural of `one` unless it is 1."""
    regular = f"{one}es" if one.endswith(("s", "tch")) else f"{one}s"
    return f"{count:,} {one if count == 1 else many or regular}"


def did_you_mean(word: str, known: Iterable[str], otherwise: str = "") -> str:
    """Return a hint with the names, at most three, that a wrong one may have meant.

    Args:
        otherwise: the hint if no name is like it.
    """
    from difflib import get_close_matches  # needed by errors only

    lower = {name.lower(): name for name in known}
    near = [lower[name] for name in get_close_matches(str(word).lower(), lower, n=3, cutoff=0.6)]
    if not near:
        return otherwise
    *others, last = map(on_one_line, near)
    return f"Did you mean {', '.join(others)} or {last}?" if others else f"Did you mean {last}?"


class AlexNetError(Exception):
    """An error to be shown to the user as it is, without a traceback.

    Attributes:
        problem: what failed, on which file; one sentence on one line, without option names.
        kept: what is safe, in one sentence.
        hint: what to do next: a sentence, or a `Hint` where it takes an option.
    """

    exit_code = 1

    def __init__(self, problem: str, *, kept: str | None = None, hint: str | Hint | None = None):
        super().__init__(problem)
        self.problem, self.kept, self.hint = problem, kept, hint

    def __str__(self) -> str:
        """Return the problem and what is kept; the command line adds the hint."""
        return "\n".join(part for part in (self.problem, self.kept) if part)

    def __reduce__(self) -> tuple:
        """Travel between processes with every field, whatever a constructor takes."""
        return _copied, (type(self), self.args, self.__dict__)

    def replaced(self, **fields: Any) -> Self:
        """Return the same error with other fields, to raise from this one."""
        error = copy.copy(self)
        for name, value in fields.items():
            setattr(error, name, value)
        return error


def _copied(kind: type[AlexNetError], arguments: tuple, fields: dict) -> AlexNetError:
    error = kind.__new__(kind, *arguments)
    error.__dict__.update(fields)
    return error


class UsageError(AlexNetError):
    """The command line asks for something that does not exist or does not fit together."""

    exit_code = 2


class RecipeError(UsageError):
    """An unknown recipe, an unknown field, or a value the field cannot take."""


class InputError(AlexNetError):
    """A file or folder the user named cannot be used."""

    exit_code = 3


class SourceError(InputError):
    """The source of images is not a layout we read, or is damaged."""


class ImageError(InputError):
    """One image cannot become 256x256 RGB.

    Attributes:
        reason: one of `REASONS` in alexnet_cli/data/images/decode.py.
    """

    def __init__(self, reason: str, detail: str):
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class DatasetError(InputError):
    """A folder of shards does not match its index."""


class CheckpointError(InputError):
    """A checkpoint, model or predictions file is damaged or does not belong here."""


class MachineError(AlexNetError):
    """The machine cannot do it now: disk, memory, permission, device, a folder in use."""

    exit_code = 4


def machine_error(error: MemoryError | OSError) -> MachineError:
    """Return the error to report for a fault of the machine that nothing else explains."""
    if isinstance(error, MemoryError):
        return MachineError("out of memory.", hint=hint("less_memory"))
    where = f"{on_one_line(str(error.filename))}: " if error.filename else ""
    return MachineError(f"{where}{error.strerror or error}")


# The extra of pyproject.toml that installs a package which the base installation lacks.
EXTRA_OF = {
    "torch": "train",
    "torchvision": "train",
    "webdataset": "train",
    "tensorboard": "train",
    "matplotlib": "train",
    "jinja2": "train",
    "wandb": "loggers",
    "mlflow": "loggers",
    "pyarrow": "parquet",
    "fsspec": "cloud",
    "distributed": "cluster",
}


def missing_package(error: ImportError) -> MachineError | None:
    """Return the error to report for a package that an extra installs; None for any other."""
    package = (error.name or "").partition(".")[0]
    if not isinstance(error, ModuleNotFoundError) or package not in EXTRA_OF:
        return None
    return MachineError(
        f"{package} is not installed.",
        hint=f'Install it: pip install "alexnet-cli[{EXTRA_OF[package]}]"',
    )


def has_package(name: str) -> bool:
    """Return whether a package is installed, without importing it."""
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # as import hooks that hide a package raise
        return False


def require_package(name: str) -> None:
    """Check that a package is installed, without importing it.

    Raises:
        MachineError: if it is not, and an extra installs it.
    """
    if not has_package(name):
        error = ModuleNotFoundError(f"No module named {name!r}", name=name)
        raise missing_package(error) or error


class DeviceError(MachineError):
    """The device asked for is not here."""


class LostReplicaError(MachineError):
    """Another process of the run cannot be reached any more; why, it may have said itself."""


class RejectedError(AlexNetError):
    """The work is complete and usable, but more items were rejected than allowed."""

    exit_code = 5


class DivergedError(AlexNetError):
    """The loss became infinite or not a number."""

    exit_code = 6


class JobError(AlexNetError):
    """A process that a command runs failed: a step of demo or reproduce, or a run's replica.

    Attributes:
        exit_code: its own.
    """

    def __init__(self, problem: str, exit_code: int, **fields: Any):
        super().__init__(problem, **fields)
        self.exit_code = exit_code


class Stopped(AlexNetError):  # noqa: N818 - nothing is wrong
    """A signal asked the run to end; its state has been saved.

    Attributes:
        exit_code: 128 + the signal's number.
    """

    def __init__(self, problem: str, signal_number: int, **fields: Any):
        super().__init__(problem, **fields)
        self.exit_code = 128 + signal_number
