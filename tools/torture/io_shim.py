"""The shim that lets calls fail, fail_call.c: compiled, loaded, and given its orders."""

import ctypes
import mmap
import os
import subprocess
import sys
import tempfile
from pathlib import Path

KINDS = (
    "open", "make", "read", "write", "sync", "close", "rename", "remove", "mkdir", "stat", "list",
    "lock", "space", "cut", "map",
)  # fmt: skip
GROWS = "make write sync close rename mkdir cut"
CHANGES = "make rename remove mkdir"
ERRORS = {
    "EIO": (" ".join(KINDS), "input/output error|cannot be removed|not a readable"),
    "ENOSPC": (GROWS, "disk full|no space left|cannot be removed"),
    "EDQUOT": (GROWS, "quota|cannot be removed"),
    "EFBIG": ("write", "file.*larg"),
    "EROFS": (CHANGES, "read-only"),
    "EACCES": (CHANGES + " open stat list", "permission"),
    "EMFILE": ("open make list", "open files"),
}


class Control(ctypes.Structure):
    """The struct control of fail_call.c."""

    _fields_ = [
        ("at", ctypes.c_longlong), ("count", ctypes.c_longlong), ("error", ctypes.c_int),
        ("onward", ctypes.c_int), ("kinds", ctypes.c_int), ("fired", ctypes.c_int),
        ("below", ctypes.c_char * 4096), ("what", ctypes.c_char * (4096 + 64)),
    ]  # fmt: skip


def begin_again_with_shim() -> None:
    """Compile fail_call.c and start this program again with it loaded."""
    folder = Path(tempfile.mkdtemp(prefix="prep_io."))
    source, library = Path(__file__).with_name("fail_call.c"), folder / "fail_call.so"
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"], check=True
    )
    control = folder / "control"
    control.write_bytes(bytes(ctypes.sizeof(Control)))
    variables = {
        "LD_PRELOAD": str(library), "FAIL_CALL_CONTROL": str(control), "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **variables})


def open_control() -> tuple[Path, Control]:
    """Return the folder to work in, and the file of its orders; starts this program again first.

    All processes see the same `Control`, and it changes as they make their calls.
    """
    if "FAIL_CALL_CONTROL" not in os.environ:
        begin_again_with_shim()
    path = Path(os.environ["FAIL_CALL_CONTROL"])
    with path.open("r+b") as file:
        return path.parent, Control.from_buffer(mmap.mmap(file.fileno(), 0))
