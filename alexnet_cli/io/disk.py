"""The free space of a disk, and a disk's faults in words."""

import errno
import shutil
from pathlib import Path

from alexnet_cli.errors import Hint, MachineError, hint

LFS_POINTER = b"version https://git-lfs.github.com/spec/"  # begins what is there in a file's place
LFS_ADVICE = "a Git LFS pointer: fetch the file with git lfs pull"
FULL = (errno.ENOSPC, errno.EDQUOT)
WORDS = {
    errno.ENOSPC: "disk full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file is larger than is allowed here (ulimit -f)",
    errno.EROFS: "read-only disk",
    errno.EACCES: "no permission",
    errno.EPERM: "no permission",
    errno.EMFILE: "too many open files for one process (ulimit -n)",
    errno.ENFILE: "too many open files on this machine",
    errno.EAGAIN: "too many processes or threads (ulimit -u)",
}
ADVICE: dict[int, str | Hint] = {
    errno.ENOSPC: "Make room and run the same command again.",
    errno.EDQUOT: "Make room within the quota and run the same command again.",
    errno.EFBIG: "Raise the limit and run the same command again.",
    errno.EROFS: "Make it writable, or name a folder on another disk.",
    errno.EMFILE: hint("raise_limit"),
    errno.EAGAIN: hint("raise_limit"),
}


def is_ours(error: OSError) -> bool:
    """Return whether a fault is one of this process or machine and not of the file in use."""
    return error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN)


def size_in_words(num_bytes: int) -> str:
    """Return a size for people: 0.3 MB, 31.9 GB."""
    return f"{num_bytes / 1e9:,.1f} GB" if num_bytes >= 1e8 else f"{num_bytes / 1e6:,.1f} MB"


def free_bytes(folder: Path) -> int:
    """Return the free space of the disk that holds a folder."""
    return shutil.disk_usage(folder).free


def check_room(
    folder: Path, needed: int, what_needs: str, hint: str | Hint, kept: str | None = None
) -> None:
    """Raise a MachineError if the disk of a folder has not the bytes needed.

    Args:
        what_needs: subject and verb of the problem, such as "the shards need".
    """
    free = free_bytes(folder)
    if needed > free:
        raise MachineError(
            f"{folder}: {what_needs} {size_in_words(needed)}, {size_in_words(free)} are free: "
            f"{size_in_words(needed - free)} more are needed.",
            kept=kept,
            hint=hint,
        )


def fault_in_words(error: OSError, folder: Path) -> str:
    """Return the file, or else the folder in use, and what is wrong with its disk."""
    what = WORDS.get(error.errno or 0) or error.strerror or str(error)
    return f"{error.filename or folder}: {what}"


def advice_on(error: OSError) -> str | Hint:
    """Return the hint of an error about a fault of the disk."""
    return ADVICE.get(error.errno or 0, "When the disk can be used again, run the same command.")
