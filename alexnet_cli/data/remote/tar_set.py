"""Tars without an index: files, URLs, and commands where the user allows them."""

import os
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Protocol

from alexnet_cli.data.remote.files import RemoteFile, check_url, is_url, size_and_tag
from alexnet_cli.data.sources.labels import SPLITS
from alexnet_cli.data.sources.samples import FILE
from alexnet_cli.errors import DatasetError, MachineError, UsageError, hint

PIPE = "pipe:"
MAX_TARS = 100_000
NAME_IN_COMMAND = re.compile(r"[^\s/'\"|;&<>()=:]+\.tar(?!\w)")
ENDING_SECONDS = 0.5  # given to a command to end after its last byte


class ByteSource(Protocol):
    """Bytes in their order."""

    def read(self, count: int) -> bytes:
        """Return at most `count` bytes; none at the end."""


@dataclass(frozen=True, slots=True)
class TarSet:
    """Tars as the user names them.

    Attributes:
        pattern: a folder, a tar, or names and URLs with {000..099} for several.
        classes: a file with the name of each class.
        allow_pipe: whether a name may be pipe: and a shell command.
        passed_over: number of members and samples that are not used, by reason, once they are open.
    """

    pattern: str
    classes: Path | None = None
    allow_pipe: bool = False
    passed_over: Counter[str] = field(default_factory=Counter, compare=False, repr=False)

    def __str__(self) -> str:
        return self.pattern

    def names(self) -> list[str]:
        """Return the tars in the order in which they are read.

        Raises:
            UsageError: if the pattern is not valid, or contains a command that is not allowed.
            DatasetError: if it names no tar.
        """
        path = Path(self.pattern)
        if is_url(self.pattern) or self.pattern.startswith(PIPE):
            names = self._expand()
        elif path.is_dir():
            names = sorted(str(entry) for entry in path.glob("*.tar"))
        elif path.is_file():
            names = [self.pattern]
        else:
            names = self._expand()
        if not names:
            raise DatasetError(f"{self.pattern}: no *.tar is there.")
        if len(set(names)) < len(names):
            raise UsageError(f"{self.pattern}: names a tar twice.")
        return names

    def _expand(self) -> list[str]:
        import braceexpand  # not webdataset's expand_urls, which inserts environment variables

        try:
            names = list(islice(braceexpand.braceexpand(self.pattern), MAX_TARS + 1))
        except ValueError as error:
            raise UsageError(f"{self.pattern}: {error}.") from error
        if len(names) > MAX_TARS:
            raise UsageError(f"{self.pattern}: more than {MAX_TARS} tars.")
        for name in names:
            if name.startswith(PIPE) and not self.allow_pipe:
                raise _command_refused(name)
            if is_url(name) and not name.startswith(PIPE):
                check_url(name)
        return names


def tar_name(name: str) -> str:
    """Return a tar's own name; of a command, the last name in it that contains a split."""
    if name.startswith(PIPE):
        names = [found for found in NAME_IN_COMMAND.findall(name) if FILE.fullmatch(found)]
        if names:
            return names[-1]
    return name.replace(os.sep, "/").rpartition("/")[2]


def split_of(name: str) -> str:
    """Return the split in a tar's name; train if it contains none."""
    match = FILE.fullmatch(tar_name(name))
    return SPLITS[match["split"].lower()] if match else "train"


def tar_size_and_tag(name: str) -> tuple[int | None, str]:
    """Return a tar's size in bytes, and a text that changes with its content, without reading it.

    The size is None and the text empty where they are unknown, as for a command.

    Raises:
        DatasetError: if the tar does not exist.
        MachineError: if its server does not answer.
    """
    if name.startswith(PIPE):
        return None, ""
    if is_url(name):
        return size_and_tag(name)
    try:
        status = Path(name).stat()
    except OSError as error:
        raise DatasetError(f"{name}: {error.strerror}.") from error
    return status.st_size, f"{Path(name).resolve()} {status.st_mtime_ns}"


@contextmanager
def open_tar(name: str, *, allow_pipe: bool) -> Iterator[ByteSource]:
    """Open a tar to be read once.

    Raises:
        MachineError: if the disk, the network or the command fails.
    """
    if name.startswith(PIPE):
        with _command(name, allow_pipe) as source:
            yield source
    else:
        with closing(RemoteFile(name)) if is_url(name) else Path(name).open("rb") as source:
            yield source


@contextmanager
def _command(name: str, allow_pipe: bool) -> Iterator[ByteSource]:
    if not allow_pipe:
        raise _command_refused(name)
    from webdataset.gopen import gopen_pipe

    pipe = gopen_pipe(name, "rb", 1 << 16)
    try:
        yield pipe
        pipe.close()
    except (OSError, DatasetError, MachineError) as error:
        if failed := _exit_code(pipe.proc):
            raise MachineError(
                f"{name}: the command failed, exit code {failed}.",
                kept="Nothing of its tar is kept.",
                hint="Run the same command again to continue.",
            ) from error
        raise
    finally:
        pipe.proc.kill()
        pipe.stream.close()
        pipe.proc.wait()


def _command_refused(name: str) -> UsageError:
    return UsageError(f"{name}: a command; nothing was run.", hint=hint("allow_pipe"))


def _exit_code(process: subprocess.Popen) -> int:
    """Return the exit code of a command; 0 if it still runs."""
    with suppress(subprocess.TimeoutExpired):
        return process.wait(ENDING_SECONDS)
    return 0
