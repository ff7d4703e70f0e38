"""An exported model opened without torch, and files that are none; a few seconds."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from onnxruntime.capi.onnxruntime_pybind11_state import RuntimeException

from alexnet_cli.cli.hints import message
from alexnet_cli.distributed.device_plan import Runtime
from alexnet_cli.errors import CheckpointError, DeviceError, InputError, MachineError
from alexnet_cli.inference.classifier import load_classifier
from alexnet_cli.inference.export import export
from alexnet_cli.onnx import runtime
from alexnet_cli.onnx.model_file import METADATA_KEY, open_onnx_file
from alexnet_cli.onnx.runtime import CUDA, load_onnx

CPU = (torch.device("cpu"),)


@pytest.fixture(scope="module")
def models(checkpoint, tmp_path_factory) -> dict[int, Path]:
    """The checkpoint exported with one view and with ten. Read only."""
    folder = tmp_path_factory.mktemp("onnx")
    for views in (1, 10):
        export(checkpoint, folder / f"{views}.onnx", num_views=views)
    return {views: folder / f"{views}.onnx" for views in (1, 10)}


def draw_images(num: int, size: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (num, size, size, 3), dtype=np.uint8)


def write_model(path: Path, metadata: dict[str, str]) -> Path:
    """Write a valid model that is not ours."""
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", "x", "y")], "g", ends[:1], ends[1:])
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    helper.set_model_props(model, metadata)
    path.write_bytes(model.SerializeToString())
    return path


def test_waiting_threads_of_a_session_sleep_after_a_moment(models):
    options = load_onnx(models[1], "cpu").session.get_session_options()

    assert options.get_session_config_entry("session.intra_op.spin_duration_us") == "300"


@pytest.mark.parametrize("views", [1, 10])
def test_model_info_is_that_of_the_checkpoint(models, checkpoint, views: int):
    _, origin = load_classifier(checkpoint, Runtime(CPU))

    found = load_onnx(models[views], "cpu")

    assert found.info.classes == origin.classes
    assert found.info.image_size == len(origin.pixels["mean_image"])
    assert found.info.views == views
    assert found.provider == "CPUExecutionProvider"


@pytest.mark.parametrize("num_images", [1, 2, 5])
@pytest.mark.parametrize("views", [1, 10])
def test_probabilities_are_those_of_torch(models, checkpoint, views: int, num_images: int):
    classifier, _ = load_classifier(checkpoint, Runtime(CPU))
    images = draw_images(num_images, classifier.augmenter.image_size)

    found = load_onnx(models[views], "cpu").probabilities(images)

    expected = classifier.probabilities(images, classifier.views(views)).mean(axis=0)
    assert (found.dtype, found.shape) == (np.float32, expected.shape)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("views", [1, 9, 10])
def test_views_are_those_asked_for_whatever_the_file_was_exported_with(
    models, checkpoint, tmp_path, views: int
):
    """Every bit of the probabilities is that of a file exported with as many views."""
    export(checkpoint, tmp_path / "a.onnx", num_views=views)
    same = load_onnx(tmp_path / "a.onnx", "cpu")
    images = draw_images(3, same.info.image_size)

    for path in models.values():
        found = load_onnx(path, "cpu", views)
        assert found.views == views
        np.testing.assert_array_equal(found.probabilities(images), same.probabilities(images))


@pytest.mark.parametrize("views", [9, 10])
def test_center_view_is_known_beside_the_average(models, views: int):
    found, center = (load_onnx(models[10], "cpu", number) for number in (views, 1))
    images = draw_images(3, center.info.image_size)

    probs, of_center = found.with_center(images)

    np.testing.assert_array_equal(probs, found.probabilities(images))
    np.testing.assert_allclose(of_center, center.probabilities(images), atol=1e-6)
    assert np.abs(of_center - probs).max() > 1e-4
    (alone,) = center.with_center(images)
    np.testing.assert_array_equal(alone, center.probabilities(images))


def test_large_constants_are_views_of_the_file(models):
    values = {
        tensor.name: onnx.numpy_helper.to_array(tensor)
        for tensor in onnx.load(models[1]).graph.initializer
        if tensor.data_type == TensorProto.FLOAT
    }

    found = open_onnx_file(models[1]).constants

    assert found.keys() == values.keys()
    for name, array in values.items():
        np.testing.assert_array_equal(found[name], array)
        assert not found[name].flags.owndata
        assert not found[name].flags.writeable


@pytest.mark.parametrize(("layer", "is_needed"), [("conv1", False), ("fc8", True)])
def test_session_of_a_layer_has_only_what_it_needs(models, monkeypatch, layer, is_needed):
    given = {}
    monkeypatch.setattr(runtime, "start_session", lambda *arguments: given.update(arguments[3]))

    runtime.open_layer_session(open_onnx_file(models[1]), layer, "cpu")

    assert ("fc8.weight" in given) == is_needed
    assert "conv1.weight" in given


def test_without_cuda_auto_runs_on_the_cpu(models, monkeypatch):
    monkeypatch.setattr("alexnet_cli.onnx.runtime.has_driver", lambda: False)

    assert load_onnx(models[1], "auto").provider == "CPUExecutionProvider"


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA works here")
def test_cuda_that_is_not_there_is_refused(models, capfd):
    with pytest.raises(DeviceError, match="cannot use CUDA") as caught:
        load_onnx(models[1], "cuda")

    assert caught.value.exit_code == 4
    assert "--device cpu" in message(caught.value)
    assert capfd.readouterr() == ("", "")  # our message says it all


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.skipif(CUDA not in onnxruntime.get_available_providers(), reason="no onnxruntime-gpu")
def test_probabilities_on_cuda_are_those_on_the_cpu(models):
    images = draw_images(3, load_onnx(models[10], "cpu").info.image_size)

    on_cpu, on_cuda = (load_onnx(models[10], device) for device in ("cpu", "cuda"))

    assert on_cuda.provider == "CUDAExecutionProvider"
    np.testing.assert_allclose(
        on_cuda.probabilities(images), on_cpu.probabilities(images), atol=1e-3
    )


@pytest.mark.parametrize(
    "content",
    [b"", b"hello\n", b"\0" * 4096, b"\x80\x04N."],
    ids=["empty", "text", "zeros", "pickle"],
)
def test_file_that_is_no_model_is_refused(tmp_path, content: bytes):
    (tmp_path / "a.onnx").write_bytes(content)

    with pytest.raises(CheckpointError, match=r"a\.onnx"):
        load_onnx(tmp_path / "a.onnx", "cpu")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_model_that_was_cut_is_refused(models, tmp_path, share: float):
    content = models[1].read_bytes()
    (tmp_path / "a.onnx").write_bytes(content[: int(len(content) * share)])

    with pytest.raises(CheckpointError, match=r"a\.onnx"):
        load_onnx(tmp_path / "a.onnx", "cpu")


def test_missing_file_names_the_command_that_makes_it(tmp_path):
    with pytest.raises(CheckpointError, match="no such file") as caught:
        load_onnx(tmp_path / "none.onnx", "cpu")

    assert f"alexnet export MODEL -o {tmp_path / 'none.onnx'}" in message(caught.value)


def test_folder_is_refused(tmp_path):
    with pytest.raises(CheckpointError):
        load_onnx(tmp_path, "cpu")


@pytest.mark.parametrize(
    "metadata",
    [{}, {"other": "{}"}, *({METADATA_KEY: text} for text in ("", "3", "[]", "{}", "{"))],
)
def test_model_of_another_tool_is_refused(tmp_path, metadata: dict[str, str]):
    with pytest.raises(CheckpointError, match="not one of alexnet export"):
        load_onnx(write_model(tmp_path / "a.onnx", metadata), "cpu")


@pytest.mark.parametrize("change", [{"classes": 3}, {"classes": [["n01"]]}, {"image_size": "big"}])
def test_model_with_damaged_metadata_is_refused(models, tmp_path, change: dict):
    about = {entry.key: entry.value for entry in onnx.load(models[1]).metadata_props}
    text = json.dumps({**json.loads(about[METADATA_KEY]), **change})

    with pytest.raises(CheckpointError, match="not one of alexnet export"):
        load_onnx(write_model(tmp_path / "a.onnx", {METADATA_KEY: text}), "cpu")


def test_opening_a_model_does_not_load_torch(models):
    program = (
        "import sys; from pathlib import Path\n"
        "from alexnet_cli.onnx.runtime import load_onnx\n"
        "load_onnx(Path(sys.argv[1]), 'cpu')\n"
        "sys.exit('torch' in sys.modules)"
    )
    finished = subprocess.run([sys.executable, "-c", program, models[1]], check=False)

    assert finished.returncode == 0


class FailingSession:
    """A session whose run raises onnxruntime's own error."""

    def __init__(self, text: str):
        self.text = text

    def run(self, *_):
        raise RuntimeException(self.text)


@pytest.mark.parametrize(
    ("text", "exit_code"),
    [
        (
            "Non-zero status code: Failed to allocate memory for requested buffer of size 16777216",
            4,
        ),
        ("Exception during initialization: std::bad_alloc", 4),
        ("CUDA failure 2: out of memory ; GPU=0 ; hostname=a", 4),
        ("CUBLAS failure 13: CUBLAS_STATUS_EXECUTION_FAILED", 4),
        ("Non-zero status code while running Conv node: shape mismatch", 3),
    ],
)
def test_full_memory_and_failing_gpu_are_the_machines_fault(models, text: str, exit_code: int):
    classifier = load_onnx(models[1], "cpu")
    failing = replace(classifier, session=FailingSession(text))

    with pytest.raises(InputError if exit_code == 3 else MachineError) as caught:
        failing.probabilities(draw_images(2, classifier.info.image_size))

    assert caught.value.exit_code == exit_code
    assert text[:60] in str(caught.value)
    assert ("--device cpu" in message(caught.value)) == (exit_code == 4)
