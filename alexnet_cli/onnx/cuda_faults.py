"""Why onnxruntime cannot use CUDA here, told apart, with what mends each cause."""

import ctypes
import re
import sys
from importlib import metadata
from pathlib import Path

from alexnet_cli.errors import DeviceError, brief, hint, on_one_line

CPU_WHEEL, GPU_WHEEL = "onnxruntime", "onnxruntime-gpu"
PROVIDER = "libonnxruntime_providers_cuda.so"
GPU_PACKAGES = '"onnxruntime-gpu[cuda,cudnn]"'
LIBRARY = re.compile(r"lib(\w+)\.so\.(\d+)")


def has_driver() -> bool:
    """Return whether an NVIDIA driver is installed; takes microseconds."""
    return not _load_error("libcuda.so.1")


def find_cuda_fault() -> DeviceError | None:
    """Return what the installed packages and the driver lack for CUDA; None if nothing.

    Wheels with and without CUDA share one folder, so that the one installed last decides.
    """
    wheels = {name for name in (CPU_WHEEL, GPU_WHEEL) if _version(name)}
    replace = f"Type: pip uninstall -y {' '.join(sorted(wheels))} && pip install {GPU_PACKAGES}."
    if len(wheels) == 2:
        return _fault(
            f"{CPU_WHEEL} and {GPU_WHEEL} are both installed; they overwrite each other", replace
        )
    if GPU_WHEEL not in wheels:
        return _fault(f"the installed {CPU_WHEEL} is built without CUDA", replace)
    if not has_driver():
        return _fault(
            "there is no NVIDIA driver: libcuda.so.1 is missing",
            "Install the driver; in a container, start it with its GPUs.",
        )
    return None


def find_library_fault() -> DeviceError | None:
    """Return which library the CUDA provider of onnxruntime does not find; None if it loads."""
    provider = _provider_path()
    error = _load_error(str(provider)) if provider else f"{PROVIDER} is missing"
    found = LIBRARY.search(error)
    if not found:
        return _fault(f"{PROVIDER} does not load ({on_one_line(error)})", "") if error else None
    library = found[0]
    if found[1].startswith("cudnn"):
        what = f"cuDNN {found[2]} is missing ({library})"
        return _fault(what, f"Type: pip install {GPU_PACKAGES}.")
    others = _installed_versions(found[1]) - {library}
    what = f"{GPU_WHEEL} {_version(GPU_WHEEL)} needs {library}, which is missing"
    if others:
        what += f"; {', '.join(sorted(others))} is there, of another version of CUDA"
    return _fault(what, f"Type: pip install {GPU_PACKAGES}.")


def _fault(what: str, install: str) -> DeviceError:
    return DeviceError(
        f"onnxruntime cannot use CUDA here: {what}.", hint=hint("install_or_cpu", install=install)
    )


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


def _provider_path() -> Path | None:
    import onnxruntime

    path = Path(onnxruntime.__file__).parent / "capi" / PROVIDER
    return path if path.is_file() else None


def _load_error(library: str) -> str:
    """Return why a library does not load; empty if it does."""
    try:
        ctypes.CDLL(library)
    except OSError as error:
        return brief(error, 300)
    return ""


def _installed_versions(library: str) -> set[str]:
    """Return the names of a CUDA library of any version that other packages installed."""
    found = (
        path.name
        for folder in sys.path
        for path in Path(folder).glob(f"nvidia/*/lib/lib{library}.so.*")
    )
    return {name for name in found if LIBRARY.fullmatch(name)}
