"""Which libraries pyproject.toml asks for on which machine."""

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from alexnet_cli.errors import EXTRA_OF

PYPROJECT = Path(__file__).parent.parent / "pyproject.toml"


def read_project() -> dict:
    return tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def installed_on():
    """The names of the dependencies on a system and a machine type, as Python calls them."""
    requirements = [Requirement(line) for line in read_project()["dependencies"]]

    def names(system: str, machine: str) -> set[str]:
        here = {"sys_platform": system, "platform_machine": machine}
        return {r.name for r in requirements if r.marker is None or r.marker.evaluate(here)}

    return names


MACHINES = [
    ("linux", "x86_64", True),
    ("linux", "aarch64", False),
    ("darwin", "arm64", True),
    ("darwin", "x86_64", True),
    ("win32", "AMD64", True),
    ("win32", "ARM64", False),
]


@pytest.mark.parametrize(("system", "machine", "has_resizer"), MACHINES)
def test_one_onnxruntime_and_only_wheels_that_exist(installed_on, system, machine, has_resizer):
    names = installed_on(system, machine)
    assert {name for name in names if name.startswith("onnxruntime")} == {"onnxruntime"}
    assert ("cykooz-resizer" in names) == has_resizer
    assert {"numpy", "pillow", "simplejpeg", "filelock"} <= names
    assert not {"torch", "torchvision", "matplotlib"} & names


def test_every_extra_that_an_error_names_installs_the_package():
    extras = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"][
        "optional-dependencies"
    ]
    for package, extra in EXTRA_OF.items():
        names = {Requirement(line).name.removesuffix("-skinny") for line in extras[extra]}
        assert package in names


def test_all_has_every_extra_for_users():
    extras = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"][
        "optional-dependencies"
    ]
    (line,) = extras.pop("all")
    assert Requirement(line).extras == set(extras) - {"docs", "test", "loggers"}
