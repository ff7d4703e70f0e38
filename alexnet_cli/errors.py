"""Everything a user can be told went wrong, and the exit code that says so to a script.

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

A message is at most three lines: what failed and on which file; what is kept; the next command.
"""


def machine_fault_in_words(error: MemoryError | OSError) -> str:
    """Return what to tell of a fault of the machine that nothing else has a word for."""
    if isinstance(error, MemoryError):
        return "out of memory. Close other programs, or use fewer --workers."
    where = f"{on_one_line(str(error.filename))}: " if error.filename else ""
    return f"{where}{error.strerror or error}"


def on_one_line(name: str) -> str:
    """Return a name found in data as a message shows it: control characters escaped.

    A line break that it may hold ends no line of the message then.
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in name)


def some_names(names: list[str]) -> str:
    """Return the first five names, as a message shows them."""
    return on_one_line(", ".join(names[:5])) + (", ..." if len(names) > 5 else "")


class AlexNetError(Exception):
    """A fault to be shown to the user as it is, without a traceback."""

    exit_code = 1


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
        reason: one of `REASONS` in alexnet_cli/data/images/resize.py.
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

    def __init__(self, message: str, exit_code: int):
        super().__init__(message)
        self.exit_code = exit_code


class Stopped(AlexNetError):  # noqa: N818 - nothing is wrong
    """A signal asked the run to end; its state has been saved.

    Attributes:
        exit_code: 128 + the signal's number.
    """

    def __init__(self, message: str, signal_number: int):
        super().__init__(message)
        self.exit_code = 128 + signal_number
