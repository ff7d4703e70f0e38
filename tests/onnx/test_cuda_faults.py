"""Each reason why onnxruntime cannot use CUDA is told apart, with the line that mends it."""

import shutil
import subprocess
from pathlib import Path

import pytest

from alexnet_cli.cli.hints import message
from alexnet_cli.onnx import cuda_faults
from alexnet_cli.onnx.cuda_faults import find_cuda_fault, find_library_fault

REPLACE = 'pip install "onnxruntime-gpu[cuda,cudnn]"'


@pytest.fixture
def installed(monkeypatch):
    """Pretend that these distributions are installed, and a driver or none."""

    def pretend(*wheels: str, driver: bool = True) -> None:
        monkeypatch.setattr(cuda_faults, "_version", lambda name: "1.31" * (name in wheels))
        monkeypatch.setattr(cuda_faults, "has_driver", lambda: driver)

    return pretend


@pytest.mark.parametrize(
    ("wheels", "driver", "words"),
    [
        (["onnxruntime"], True, ["built without CUDA", "uninstall -y onnxruntime &&", REPLACE]),
        (
            ["onnxruntime", "onnxruntime-gpu"],
            True,
            ["both installed", "uninstall -y onnxruntime onnxruntime-gpu &&", REPLACE],
        ),
        (["onnxruntime-gpu"], False, ["libcuda.so.1 is missing", "Install the driver"]),
    ],
)
def test_packages_and_driver_are_told_apart(installed, wheels, driver, words):
    installed(*wheels, driver=driver)
    fault = find_cuda_fault()
    assert fault.exit_code == 4
    for word in (*words, "--device cpu"):
        assert word in message(fault)


def test_wheel_with_cuda_and_a_driver_are_no_fault(installed):
    installed("onnxruntime-gpu")
    assert find_cuda_fault() is None


@pytest.fixture
def provider(tmp_path, monkeypatch):
    """Build a provider library that needs another one, which is then removed."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")

    def build(needed: str) -> None:
        (tmp_path / "empty.c").write_text("int nothing;")
        for target, more in (
            (needed, [f"-Wl,-soname,{needed}"]),
            (cuda_faults.PROVIDER, ["-Wl,--no-as-needed", f"-L{tmp_path}", f"-l:{needed}"]),
        ):
            command = [compiler, "-shared", "-o", target, "empty.c", *more]
            subprocess.run(command, cwd=tmp_path, check=True)
        (tmp_path / needed).unlink()
        path = tmp_path / cuda_faults.PROVIDER
        monkeypatch.setattr(cuda_faults, "_provider_path", lambda: path)

    return build


def test_missing_cudnn_is_named(provider):
    provider("libcudnn.so.97")
    text = message(find_library_fault())
    assert "cuDNN 97 is missing (libcudnn.so.97)" in text
    assert REPLACE in text


def test_other_version_of_cuda_is_named(provider, installed, tmp_path, monkeypatch):
    installed("onnxruntime-gpu")
    provider("libcufake.so.97")
    text = message(find_library_fault())
    assert "onnxruntime-gpu 1.31 needs libcufake.so.97, which is missing" in text
    assert "another version" not in text
    folder = Path(tmp_path, "nvidia", "cu98", "lib")
    folder.mkdir(parents=True)
    (folder / "libcufake.so.98").touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert "libcufake.so.98 is there, of another version of CUDA" in message(find_library_fault())


def test_provider_that_is_missing_is_named(monkeypatch):
    monkeypatch.setattr(cuda_faults, "_provider_path", lambda: None)
    assert f"{cuda_faults.PROVIDER} is missing" in message(find_library_fault())
