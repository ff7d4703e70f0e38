"""Takes from Python on Linux what Windows lacks, and adds the rules of its files.

Python runs this at its start in every process that has this folder on PYTHONPATH, so in worker
processes too. What it cannot imitate: the code of Python and of libraries for Windows itself.
"""
# pathlib calls what is replaced here, so it cannot be used.
# ruff: noqa: PTH108, PTH110, PTH112, PTH113, PTH119

import builtins
import fcntl
import io
import multiprocessing
import multiprocessing.context
import os
import re
import shutil
import signal
import sys
import warnings
from contextlib import suppress
from functools import wraps

import filelock

HIDDEN_MODULES = ("fcntl", "resource", "pwd", "grp", "termios", "syslog")
HIDDEN_NAMES = {
    signal: (
        "SIGHUP SIGUSR1 SIGUSR2 SIGALRM SIGQUIT SIGPIPE SIG_BLOCK SIG_SETMASK SIG_UNBLOCK "
        "pthread_sigmask pthread_kill sigwait setitimer alarm"
    ),
    os: (
        "pread preadv pwrite O_NONBLOCK O_CLOEXEC O_DIRECTORY O_NOFOLLOW sched_getaffinity fork "
        "forkpty setpgid setsid killpg nice getpgid memfd_create "
        "posix_fadvise posix_fallocate mkfifo chown getloadavg"
    ),
}
RESERVED = re.compile(
    r'.*[<>:"|?*\x00-\x1f].*|.*[. ]|(con|prn|aux|nul|com\d|lpt\d)(\..*)?', re.IGNORECASE | re.DOTALL
)
SYSTEM = ("/proc", "/sys", "/dev")

sys.modules.update(dict.fromkeys(HIDDEN_MODULES))
for module, names in HIDDEN_NAMES.items():
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)
warnings.filterwarnings("error", category=EncodingWarning, module=r"alexnet_cli\.")
os.O_BINARY = 0o100000  # O_LARGEFILE, which changes nothing
shutil._use_fd_functions = False

spawn = multiprocessing.context.SpawnContext()
multiprocessing.context._concrete_contexts.clear()
multiprocessing.context._concrete_contexts["spawn"] = spawn
multiprocessing._default_context = None
multiprocessing.context._default_context._default_context = spawn
multiprocessing.context.DefaultContext.get_all_start_methods = lambda self: ["spawn"]
multiprocessing.get_all_start_methods = lambda: ["spawn"]

plain_open, plain_listdir, plain_readlink = os.open, os.listdir, os.readlink


def in_use(path) -> bool:
    """Return whether this process has a file open or mapped."""
    real = os.path.realpath(os.fspath(path))
    for number in plain_listdir("/proc/self/fd"):
        try:
            if plain_readlink(f"/proc/self/fd/{number}") == real:
                return True
        except OSError:
            continue
    descriptor = plain_open("/proc/self/maps", os.O_RDONLY)
    try:
        content = b""
        while more := os.read(descriptor, 1 << 20):
            content += more
    finally:
        os.close(descriptor)
    return os.fsencode(f" {real}\n") in content


def refuse_if_in_use(*paths) -> None:
    for path in paths:
        if not isinstance(path, int) and os.path.isfile(path) and in_use(path):
            raise PermissionError(13, "in use by this process", os.fspath(path))


def refuse_bad_name(path) -> None:
    if not isinstance(path, int) and RESERVED.fullmatch(os.path.basename(os.fspath(path))):
        raise OSError(22, "not a file name of Windows", os.fspath(path))


def guarded(function, targets):
    """Refuse to remove or replace files that are open, and names that Windows forbids."""

    @wraps(function)
    def call(*paths, **options):
        refuse_if_in_use(*paths[:targets])
        if targets == 2:
            refuse_bad_name(paths[1])
            if function.__name__ == "rename" and os.path.exists(paths[1]):
                raise FileExistsError(17, "exists", os.fspath(paths[1]))
        return function(*paths, **options)

    return call


for name, targets in (("unlink", 1), ("remove", 1), ("replace", 2), ("rename", 2)):
    setattr(os, name, guarded(getattr(os, name), targets))


class WindowsLikeLock(filelock.BaseFileLock):
    """Locks as filelock does on Windows: the file stays open, and is removed after the release."""

    def _acquire(self):
        descriptor = plain_open(self.lock_file, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return
        self._mark_descriptor_owned(descriptor)

    def _release(self):
        descriptor = self._context.lock_file_fd
        self._mark_descriptor_released()
        os.close(descriptor)
        with suppress(OSError):
            os.unlink(self.lock_file)


filelock.FileLock = WindowsLikeLock

plain_mkdir, plain_io_open = os.mkdir, io.open


def is_of_system(path) -> bool:
    return isinstance(path, (str, os.PathLike)) and os.fspath(path).startswith(SYSTEM)


def make_folder(path, *arguments, **options):
    refuse_bad_name(path)
    return plain_mkdir(path, *arguments, **options)


def open_descriptor(path, flags, *arguments, **options):
    ours = sys._getframe(1).f_globals.get("__name__", "").startswith("alexnet_cli")
    if not isinstance(path, int) and os.path.isdir(path):
        raise PermissionError(13, "Windows opens no folders", os.fspath(path))
    if flags & (os.O_CREAT | os.O_WRONLY | os.O_RDWR) and path != os.devnull:
        refuse_bad_name(path)
    elif ours and path != os.devnull and not flags & os.O_BINARY:
        raise AssertionError(f"{path} is opened as text")
    return plain_open(path, flags, *arguments, **options)


def open_file(file, mode="r", *arguments, **options):
    caller = sys._getframe(1).f_globals.get("__name__", "")
    if caller.startswith(("alexnet_cli", "pathlib")) and is_of_system(file):
        raise FileNotFoundError(2, "Windows has no such folder", os.fspath(file))
    if set(mode) & set("wax+") and not isinstance(file, int) and file != os.devnull:
        refuse_bad_name(file)
    return plain_io_open(file, mode, *arguments, **options)


os.mkdir, os.open = make_folder, open_descriptor
io.open = builtins.open = open_file
