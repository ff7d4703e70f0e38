"""The Dockerfile: a linter's opinion, and that what it names exists."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCKERFILE = ROOT / "Dockerfile"
TEXT = DOCKERFILE.read_text()
HADOLINT = shutil.which("hadolint", path=f"{Path(sys.executable).parent}") or shutil.which(
    "hadolint"
)


@pytest.mark.skipif(not HADOLINT, reason="hadolint is not installed")
def test_linter_finds_nothing():
    ended = subprocess.run(
        [HADOLINT, "--no-color", DOCKERFILE], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout) == (0, "")


def test_copied_files_exist_and_are_sent_to_the_daemon():
    sources = [word for line in re.findall(r"^COPY (.+) \S+$", TEXT, re.M) for word in line.split()]
    sent = (ROOT / ".dockerignore").read_text().split()
    assert sources
    for name in sources:
        assert (ROOT / name).exists(), name
        assert f"!{name}" in sent


def test_extras_are_those_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (extras,) = re.findall(r'pip install "\.\[([\w,]+)\]"', TEXT)
    assert set(extras.split(",")) <= set(project["optional-dependencies"])


def test_nothing_runs_as_root():
    """By number, as Kubernetes cannot look up a name before it starts the container."""
    assert re.findall(r"^USER (.+)$", TEXT, re.M)[-1] == "1000:1000"
    assert TEXT.rindex("\nRUN") < TEXT.rindex("\nUSER")
