"""A lock that keeps a folder to one process, and ends with that process however it ends."""

import errno
import json
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from alexnet_cli.errors import AlexNetError

LOCK_NAME = ".lock"  # in the folder, while it is locked; a killed process leaves it there
PATIENCE_SECONDS = 0.3  # another process may be about to remove its lock file
READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # some network disks


@contextmanager
def locked(folder: Path, refuse: Callable[[str], AlexNetError]) -> Iterator[None]:
    """Lock a folder until the block or this process ends.

    The lock file names its owner. A folder on a network disk without locks, or one in which this
    process cannot create a file, stays unlocked.

    Args:
        refuse: returns the error to raise if another process has the lock, called with
            "another process (17 on node3, alexnet prep, since 2012-09-30 18:05)".
    """
    folder.stat()  # filelock would create it
    path = folder / LOCK_NAME
    # With `on_acquired`, filelock never falls back to lock files that outlive a killed process.
    lock = FileLock(path, PATIENCE_SECONDS, on_acquired=_write_owner)
    try:
        lock.acquire()
    except Timeout:
        raise refuse(_describe_owner(path)) from None
    except OSError as error:
        if error.errno in READ_ONLY and path.exists():  # the lock of another user
            raise refuse(_describe_owner(path)) from None
        if error.errno not in (*READ_ONLY, *NO_LOCKS):
            raise
        if error.errno in NO_LOCKS:
            with suppress(OSError):
                path.unlink()
    try:
        yield
    except BaseException:
        with suppress(OSError):  # the first error is the one to report
            _release(lock, path)
        raise
    _release(lock, path)


def _release(lock: FileLock, path: Path) -> None:
    """Remove the lock file and release the lock.

    The file is removed while it is still locked, so it is never that of the next holder. A process
    that had opened it then locks a file without a name; filelock notices and tries a new file.
    Windows removes no open file; there filelock removes it afterwards.
    """
    if lock.is_locked:
        try:
            with suppress(PermissionError):
                path.unlink(missing_ok=True)
        finally:
            lock.release()


def _write_owner(descriptor: int) -> None:
    verb = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
    owner = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "command": f"alexnet {verb}".strip(),
        "since": datetime.now().astimezone().isoformat(timespec="seconds"),
    }
    with suppress(OSError):  # a full disk; the lock holds without a name
        os.truncate(descriptor, 0)
        os.write(descriptor, json.dumps(owner).encode())


def _describe_owner(path: Path) -> str:
    try:
        owner = json.loads(path.read_bytes())
        since = datetime.fromisoformat(owner["since"]).astimezone()
        where = f"{owner['pid']} on {owner['host']}, {owner['command']}"
    except (OSError, ValueError, LookupError, TypeError):  # it ended meanwhile, or its disk is full
        return "another process"
    return f"another process ({where}, since {since:%Y-%m-%d %H:%M})"
