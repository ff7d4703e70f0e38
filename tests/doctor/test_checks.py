"""The checks of `alexnet doctor`: what works is tried, what does not is named with its remedy."""

import os
import subprocess
import sys

import pytest

from alexnet_cli.doctor import checks
from alexnet_cli.doctor.checks import Check, Examination, examine


@pytest.fixture(scope="module")
def examination() -> Examination:
    return examine()


def find(examination: Examination, name: str) -> Check:
    (check,) = [check for check in examination.checks if check.name == name]
    return check


@pytest.mark.parametrize(
    "name", ["python", "torch", "cpu", "onnx-cpu", "jpeg", "tiff", "cores", "disk", "gloo"]
)
def test_what_the_tests_themselves_need_works(examination, name):
    check = find(examination, name)
    assert check.works, check.detail
    assert check.detail


def test_groups_are_reported_before_they_are_checked():
    groups = []
    found = examine(groups.append)
    assert groups == list(dict.fromkeys(check.group for check in found.checks))


def test_everything_that_fails_has_a_remedy(examination):
    for check in examination.checks:
        assert check.works or check.remedy, check.name


def test_broken_library_is_a_row_and_not_the_end(monkeypatch):
    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr(checks, "MIN_SHARED_BYTES", 1 << 62)
    found = examine()
    broken = find(found, "onnx-cpu")
    assert (broken.works, broken.needed) == (False, True)
    assert "pip install" in broken.remedy
    assert broken.detail == "onnxruntime is not installed"
    if sys.platform == "linux":
        assert "shm-size" in find(found, "shared-memory").remedy
    assert "onnx-cpu" in found.missing([])


def test_missing_are_what_is_needed_and_what_is_wanted():
    found = Examination(
        [
            Check("a", "cpu", True, "fine", needed=True),
            Check("a", "cuda", False, "no driver", "install it"),
            Check("b", "onnx-cpu", False, "broken", "mend it", needed=True),
        ]
    )
    assert found.missing([]) == ["onnx-cpu"]
    assert found.missing(["cuda", "cpu", "tpu"]) == ["onnx-cpu", "cuda", "tpu"]


def test_reason_of_many_lines_is_one_line():
    def fail() -> str:
        raise RuntimeError("first\nsecond")

    assert checks._attempt("a", "b", fail, "mend").detail == "RuntimeError: first second"


def test_trying_onnxruntime_leaves_nothing_in_an_empty_home(tmp_path):
    program = "from alexnet_cli.doctor.checks import _run_on; print(_run_on('cpu')())"
    finished = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        capture_output=True,
        text=True,
        env={k: v for k, v in os.environ.items() if not k.startswith("XDG_")}
        | {"HOME": str(tmp_path)},
    )
    assert finished.stdout.startswith("onnxruntime ")
    assert list(tmp_path.iterdir()) == []
