"""Which libraries pyproject.toml asks for on which machine."""

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

PYPROJECT = Path(__file__).parent.parent / "pyproject.toml"


@pytest.fixture(scope="module")
def installed_on():
    """The names of the dependencies on a system and a machine type, as Python calls them."""
    lines = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]["dependencies"]
    requirements = [Requirement(line) for line in lines]

    def names(system: str, machine: str) -> set[str]:
        here = {"sys_platform": system, "platform_machine": machine}
        return {r.name for r in requirements if r.marker is None or r.marker.evaluate(here)}

    return names


MACHINES = [
    ("linux", "x86_64", "onnxruntime-gpu", True),
    ("linux", "aarch64", "onnxruntime", False),
    ("darwin", "arm64", "onnxruntime", True),
    ("darwin", "x86_64", "onnxruntime", True),
    ("win32", "AMD64", "onnxruntime-gpu", True),
    ("win32", "ARM64", "onnxruntime", False),
]


@pytest.mark.parametrize(("system", "machine", "runtime", "has_resizer"), MACHINES)
def test_one_onnxruntime_and_only_wheels_that_exist(
    installed_on, system, machine, runtime, has_resizer
):
    names = installed_on(system, machine)
    assert {name for name in names if name.startswith("onnxruntime")} == {runtime}
    assert ("cykooz-resizer" in names) == has_resizer
    assert {"torch", "numpy", "pillow", "simplejpeg", "filelock"} <= names
