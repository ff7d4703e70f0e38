import json
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers import CPU

import alexnet_cli.inference.export as export_module
from alexnet_cli.distributed.device_plan import Runtime
from alexnet_cli.errors import CheckpointError
from alexnet_cli.inference.classifier import load_classifier
from alexnet_cli.inference.export import _check_equal
from alexnet_cli.onnx.runtime import load_onnx


@pytest.fixture
def quick_check(monkeypatch):
    """Compare with torch on one image only."""
    monkeypatch.setattr(export_module, "_batch_sizes", lambda num_views: [1])


def test_json_has_the_difference_from_torch(answer, checkpoint, tmp_path):
    path = tmp_path / "model.onnx"
    found = answer("export", checkpoint, "-o", path)
    assert found["onnx"] == str(path)
    assert found["views"] == 1
    assert 0 <= found["max_abs_difference"] <= 1e-4
    assert found["batches"] == [1, 2, 32]
    assert 1000 <= found["checked"] <= 1031
    assert found["top1_differing"] == 0
    assert found["bytes"] == path.stat().st_size
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.onnx"]


def test_ten_views_are_as_near_to_torch(exported):
    assert (exported.views, exported.batches) == (10, [1, 2, 3])
    assert 100 <= exported.checked <= 102
    assert 0 <= exported.max_abs_difference <= 1e-4


def test_views_are_inside_the_file(answer, checkpoint, tmp_path, quick_check):
    path = tmp_path / "model.onnx"
    assert answer("export", checkpoint, "-o", path, "--views", 10)["views"] == 10
    assert load_onnx(path, "cpu").info.views == 10


def test_exported_file_passes_the_checker_and_has_its_origin(onnx_model):
    model = onnx.load(onnx_model)
    onnx.checker.check_model(model, full_check=True)
    about = json.loads({entry.key: entry.value for entry in model.metadata_props}["alexnet"])
    assert about["views"] == 10
    assert about["classes"][0] == ["n90000001", "horizontal stripes"]
    assert about["origin"]["recipe"] == "paper"
    assert about["origin"]["epoch"]


def test_exported_file_gives_torch_probabilities(checkpoint, onnx_model):
    classifier, _ = load_classifier(checkpoint, Runtime((CPU,)))
    exported = load_onnx(onnx_model, "cpu")
    size = exported.info.image_size
    images = np.random.default_rng(5).integers(0, 256, (5, size, size, 3), dtype=np.uint8)
    expected = classifier.probabilities(images, classifier.views(10)).mean(axis=0)
    np.testing.assert_allclose(exported.probabilities(images), expected, atol=1e-4)


def test_text_names_file_and_difference(shown, checkpoint, tmp_path, quick_check):
    text = shown("export", checkpoint, "-o", tmp_path / "model.onnx")
    assert "model.onnx" in text
    assert "10 classes, center view" in text
    assert "1 image: probabilities within " in text
    assert "of torch's, same first class" in text


def test_existing_file_is_replaced_only_by_force(fails, answer, checkpoint, tmp_path, quick_check):
    path = tmp_path / "model.onnx"
    path.write_text("mine")
    assert "--force" in fails(3, "export", checkpoint, "-o", path).message
    assert path.read_text() == "mine"
    answer("export", checkpoint, "-o", path, "--force")
    assert load_onnx(path, "cpu").info.views == 1


def test_model_that_differs_gets_no_file(fails, checkpoint, tmp_path, monkeypatch, quick_check):
    monkeypatch.setattr(export_module, "MAX_DIFFERENCE", -1)
    failure = fails(3, "export", checkpoint, "-o", tmp_path / "model.onnx")
    assert "differ from torch's" in failure.message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("found", "fault"),
    [
        ([[0.6, 0.4], [0.3, 0.7]], ""),
        ([[0.60005, 0.39995], [0.3, 0.7]], ""),
        ([[0.6002, 0.3998], [0.3, 0.7]], "differ from torch's by 0.0002, more than 0.0001"),
        ([[np.nan, np.nan], [0.3, 0.7]], "differ from torch's by nan"),
    ],
)
def test_probabilities_may_differ_by_rounding_only(found, fault):
    with pytest.raises(CheckpointError, match=fault) if fault else nullcontext():
        _check_equal(np.array([[0.6, 0.4], [0.3, 0.7]]), np.array(found), Path("a.onnx"))


@pytest.mark.parametrize(("gap", "is_fault"), [(8e-7, False), (8e-5, True)])
def test_another_first_class_is_a_fault_unless_the_two_are_nearly_equal(gap, is_fault):
    expected = np.array([[0.6, 0.4], [0.5 + gap / 2, 0.5 - gap / 2]])
    found = np.array([[0.6, 0.4], [0.5 - gap / 2, 0.5 + gap / 2]])
    match = "its first class is not torch's for 1 image"
    with pytest.raises(CheckpointError, match=match) if is_fault else nullcontext():
        _check_equal(expected, found, Path("a.onnx"))


def test_model_that_differs_leaves_the_old_file(
    fails, checkpoint, tmp_path, monkeypatch, quick_check
):
    (tmp_path / "model.onnx").write_text("mine")
    monkeypatch.setattr(export_module, "MAX_DIFFERENCE", -1)
    fails(3, "export", checkpoint, "-o", tmp_path / "model.onnx", "--force")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


def test_folder_and_name_of_another_kind_are_refused(fails, checkpoint, tmp_path):
    (tmp_path / "folder.onnx").mkdir()
    found = fails(2, "export", checkpoint, "-o", tmp_path / "folder.onnx", "--force")
    assert "folder.onnx: a folder." in found.message
    found = fails(2, "export", checkpoint, "-o", tmp_path / "model")
    assert "model: does not end in .onnx" in found.message
    assert f"Name it so: -o {tmp_path / 'model.onnx'}" in found.message


def test_suffix_in_upper_case_is_recognized_by_all_readers(
    answer, checkpoint, dataset, tmp_path, quick_check
):
    path, predictions = tmp_path / "M.ONNX", tmp_path / "P.NPZ"
    answer("export", checkpoint, "-o", path)
    assert answer("info", path)["kind"] == "onnx"
    measured = answer("eval", path, dataset, "-o", predictions)
    assert answer("errors", predictions)["top1_error"] == measured["top1_error"]


def test_model_gets_its_folder(answer, checkpoint, tmp_path):
    path = tmp_path / "new" / "model.onnx"
    answer("export", checkpoint, "-o", path)
    assert path.is_file()


def test_file_that_is_no_checkpoint_is_refused(fails, tmp_path):
    (tmp_path / "bad.safetensors").write_text("no tensors here")
    fails(3, "export", tmp_path / "bad.safetensors", "-o", tmp_path / "model.onnx")
    fails(3, "export", tmp_path / "none.safetensors", "-o", tmp_path / "model.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["bad.safetensors"]


def test_three_views_and_no_output_are_refused(wrong_command_line, checkpoint, tmp_path):
    path = tmp_path / "model.onnx"
    assert "--views: 3" in wrong_command_line("export", checkpoint, "-o", path, "--views", 3)
    assert "--output" in wrong_command_line("export", checkpoint)


def test_network_that_predict_would_refuse_is_not_written(fails, checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr("alexnet_cli.onnx.model_file.MAX_PRODUCTS", 0)

    message = fails(3, "export", checkpoint, "-o", tmp_path / "a.onnx").message

    assert "a.onnx: " in message
    assert "take more time than is allowed" in message
    assert list(tmp_path.iterdir()) == []
