"""What this machine can do: each check runs a small piece of the real thing and reports it.

A library that is missing or broken must not end the report, so the checks import what they try.
"""

import importlib
import importlib.metadata
import io
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from alexnet_cli.errors import brief, counted, has_package
from alexnet_cli.io.cores import memory_limit, num_cores
from alexnet_cli.io.disk import size_in_words
from alexnet_cli.io.process import max_open_files, start_method

EXTRAS = {
    "parquet": ("pyarrow", "prep of Hugging Face's files"),
    "cloud": ("fsspec", "datasets at URLs"),
    "train": ("torch", "training, export and figures"),
    "cluster": ("distributed", "prep on a Dask cluster"),
}
PACKAGES = ("numpy", "pillow", "safetensors", "onnx")
TRAIN_PACKAGES = ("torch", "torchvision", "webdataset", "tensorboard")
GET_TRAIN = f'{sys.executable} -m pip install "alexnet-cli[train]"'
TESTED = ("Linux", "x86_64")
NOT_RUN = "its wheels and its differences are tested, but nothing was run on such a system"
MOST_SHARDS = 1332  # of ImageNet
SHARED_MEMORY = Path("/dev/shm")
MIN_SHARED_BYTES = 512 << 20  # batches of 256-pixel images of a few reading processes


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that works, or why not.

    Attributes:
        group: the heading it is listed below.
        needed: whether a command that every user runs needs it; otherwise it is an option.
        detail: versions, sizes or the reason why it does not work, on one line.
        remedy: the command or setting that mends it; empty if it works.
    """

    group: str
    name: str
    works: bool
    detail: str
    remedy: str = ""
    needed: bool = False


@dataclass(slots=True)
class Examination:
    """All checks, in the order in which they were made."""

    checks: list[Check] = field(default_factory=list)

    def missing(self, wanted: list[str]) -> list[str]:
        """Return what is needed or wanted by name and does not work.

        A wanted name that no check has does not work either.
        """
        found = {check.name: check for check in self.checks}
        names = [name for name, check in found.items() if check.needed] + wanted
        return [name for name in dict.fromkeys(names) if name not in found or not found[name].works]


def examine(progress: Callable[[str], None] = lambda _: None) -> Examination:
    """Run every check.

    Args:
        progress: called with the name of each group of checks before it runs.
    """
    examination = Examination()
    groups = {
        "versions": _check_versions,
        "devices": _check_devices,
        "onnxruntime": _check_onnxruntime,
        "images": _check_images,
        "machine": _check_machine,
        "processes": _check_processes,
        "extras": _check_extras,
    }
    for name, check_group in groups.items():
        progress(name)
        examination.checks += check_group()
    return examination


def _attempt(
    group: str, name: str, try_it: Callable[[], str], remedy: str, *, needed: bool = False
) -> Check:
    """Return the check of something that raises if it does not work."""
    try:
        return Check(group, name, True, try_it(), needed=needed)
    except ModuleNotFoundError as error:
        return Check(group, name, False, f"{error.name} is not installed", remedy, needed=needed)
    except Exception as error:  # whatever a broken library raises is what we report
        detail = f"{type(error).__name__}: {brief(error, 160) or 'no reason given'}"
        return Check(group, name, False, detail, remedy, needed=needed)


def _check_versions() -> Iterator[Check]:
    yield Check("versions", "python", True, f"{platform.python_version()} on {platform.platform()}")
    for name in PACKAGES:
        remedy = f"Install {name} again: {sys.executable} -m pip install -U {name}"
        yield _attempt(
            "versions", name, partial(importlib.metadata.version, name), remedy, needed=True
        )
    for name in TRAIN_PACKAGES:
        yield _attempt("versions", name, partial(importlib.metadata.version, name), GET_TRAIN)


def _check_devices() -> Iterator[Check]:
    try:
        import torch
    except ModuleNotFoundError:
        yield Check("devices", "cpu", False, "torch is not installed", GET_TRAIN)
        return
    except ImportError as error:
        yield Check("devices", "cpu", False, f"torch: {brief(error)}", GET_TRAIN)
        return
    yield _attempt("devices", "cpu", _multiply_on("cpu"), "Reinstall torch.", needed=True)
    cuda = torch.version.cuda
    remedy = (
        f"Install an NVIDIA driver for CUDA {cuda}; nvidia-smi shows the one that is here."
        if cuda
        else "Install a torch build with CUDA: https://pytorch.org/get-started/locally"
    )
    yield _attempt("devices", "cuda", _multiply_on("cuda"), remedy)
    for i in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(i)
        yield Check(
            "devices", f"cuda:{i}", True, f"{about.name}, {size_in_words(about.total_memory)}"
        )
    if sys.platform == "darwin":
        yield _attempt("devices", "mps", _multiply_on("mps"), "Update macOS to 14 or later.")


def _multiply_on(device: str) -> Callable[[], str]:
    def multiply() -> str:
        import torch

        matrix = torch.eye(64, device=device)
        if not torch.equal((matrix @ matrix).cpu(), torch.eye(64)):
            raise ArithmeticError("a matrix product is wrong")
        if device == "cuda":
            return f"{counted(torch.cuda.device_count(), 'GPU')}, CUDA {torch.version.cuda}"
        return f"{torch.get_num_threads()} threads" if device == "cpu" else "works"

    return multiply


def _check_onnxruntime() -> Iterator[Check]:
    with_cuda = platform.machine() in ("x86_64", "AMD64") and sys.platform != "darwin"
    remedy = f"Install it again: {sys.executable} -m pip install -U onnxruntime"
    yield _attempt("onnxruntime", "onnx-cpu", _run_on("cpu"), remedy, needed=True)
    yield _attempt(
        "onnxruntime",
        "onnx-cuda",
        _run_on("cuda"),
        'pip uninstall -y onnxruntime && pip install "onnxruntime-gpu[cuda,cudnn]"'
        if with_cuda
        else f"onnxruntime has no CUDA for {platform.system()} {platform.machine()}; use torch.",
    )


def _run_on(device: str) -> Callable[[], str]:
    def run() -> str:
        import numpy as np
        import onnx

        from alexnet_cli.onnx.runtime import start_session

        value = onnx.helper.make_tensor_value_info
        graph = onnx.helper.make_graph(
            [onnx.helper.make_node("Add", ["x", "x"], ["y"])],
            "twice",
            [value("x", onnx.TensorProto.FLOAT, [2])],
            [value("y", onnx.TensorProto.FLOAT, [2])],
        )
        opset = [onnx.helper.make_opsetid("", 17)]
        model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=8)
        session = start_session(model.SerializeToString(), device, Path("twice.onnx"), {})
        (found,) = session.run(None, {"x": np.ones(2, np.float32)})
        if found.tolist() != [2, 2]:
            raise ArithmeticError("a sum is wrong")
        return _import("onnxruntime")

    return run


def _check_images() -> Iterator[Check]:
    for name in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"):
        remedy = f"Install them again: {sys.executable} -m pip install -U pillow simplejpeg"
        yield _attempt("images", name.lower(), _read_back(name), remedy, needed=True)
    yield _attempt(
        "images",
        "fast-resize",
        lambda: f"cykooz-resizer {importlib.metadata.version('cykooz-resizer')}",
        f"{sys.executable} -m pip install cykooz-resizer; without it, and on ARM servers, where it "
        "has no wheel, Pillow resizes, slower.",
    )


def _read_back(image_format: str) -> Callable[[], str]:
    def read_back() -> str:
        from PIL import Image

        from alexnet_cli.data.images.decode import decode

        file = io.BytesIO()
        Image.new("RGB", (40, 30), (10, 120, 230)).save(file, image_format)
        if decode(file.getvalue()).shape != (30, 40, 3):
            raise ArithmeticError("the image comes back in another size")
        return "decoded"

    return read_back


def _check_machine() -> Iterator[Check]:
    here = platform.system(), platform.machine()
    seen = "all commands run in tests on such a system" if here == TESTED else NOT_RUN
    yield Check("machine", "system", True, f"{' '.join(here)}: {seen}")
    yield Check(
        "machine",
        "workers",
        True,
        f"started by {start_method()}; {max_open_files(MOST_SHARDS):,} shards may be open at once",
    )
    encoding = (sys.stderr.encoding or "ascii").lower()
    detail = f"{encoding} on the console, utf-8 in files"
    yield Check("machine", "text", True, detail)
    yield Check("machine", "cores", True, f"{num_cores()} may be used")
    limit = memory_limit()
    detail = f"{size_in_words(limit)} allowed by the container" if limit else "no limit set"
    yield Check("machine", "memory", True, detail)
    for name, folder in (("disk", Path()), ("temporary", Path(tempfile.gettempdir()))):
        free = shutil.disk_usage(folder).free
        detail = f"{size_in_words(free)} free in {folder.resolve()}"
        yield Check("machine", name, free > 0, detail, "Make room, or use a folder elsewhere.")
    if sys.platform == "linux":
        yield _attempt(
            "machine",
            "shared-memory",
            _measure_shared_memory,
            "Give the container more shared memory; docker's option is shm-size, for example 2g.",
        )


def _measure_shared_memory() -> str:
    free = shutil.disk_usage(SHARED_MEMORY).free
    if free < MIN_SHARED_BYTES:
        raise OSError(f"{SHARED_MEMORY} has {size_in_words(free)} free")
    return f"{size_in_words(free)} free in {SHARED_MEMORY}"


def _check_processes() -> Iterator[Check]:
    remedy = "Set GLOO_SOCKET_IFNAME to a network interface that is up, for example lo."
    if not has_package("torch"):
        remedy = GET_TRAIN
    yield _attempt("processes", "gloo", _add_up_in_two_processes, remedy)


def _add_up_in_two_processes() -> str:
    from alexnet_cli.distributed.launcher import run_replicas

    if run_replicas(_add_up, 2) != 3:
        raise ArithmeticError("two processes do not agree on a sum")
    return "two processes exchanged tensors"


def _add_up() -> float:
    import torch

    from alexnet_cli.distributed.replicas import joined

    with joined("cpu") as replicas:
        value = torch.tensor([replicas.rank + 1.0])
        replicas.all_reduce(value)
        return value.item()


def _check_extras() -> Iterator[Check]:
    for extra, (module, purpose) in EXTRAS.items():
        remedy = f'{sys.executable} -m pip install "alexnet-cli[{extra}]"; it is for {purpose}.'
        yield _attempt("extras", extra, partial(_import, module), remedy)


def _import(name: str) -> str:
    return f"{name} {importlib.import_module(name).__version__}"
