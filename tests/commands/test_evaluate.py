import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import evaluate

from alexnet_cli.distributed.precision import BF16_INSTRUCTIONS, SLOW_BF16
from alexnet_cli.inference.predictions import load_predictions
from alexnet_cli.model.network import AlexNet

ON_CPU = ("--device", "cpu")


@pytest.fixture(scope="module")
def ten(checkpoint, dataset, tmp_path_factory) -> dict:
    """What ten views of the checkpoint give, with a predictions file."""
    path = tmp_path_factory.mktemp("ten") / "predictions.npz"
    return asdict(evaluate(checkpoint, dataset, predictions=path))


def test_json_has_ten_views_and_the_center(answer, checkpoint, dataset, ten):
    found = answer("eval", checkpoint, dataset, *ON_CPU)
    assert found == json.loads(json.dumps({**ten, "predictions": None, "published": []}))
    assert (found["images"], found["views"]) == (30, 10)
    for errors in (found, found["center"]):
        assert 0 <= errors["top5_error"] <= errors["top1_error"] <= 1
        assert errors["log_loss"] > 0


def test_one_view_is_the_center_of_ten(answer, checkpoint, dataset, ten):
    one = answer("eval", checkpoint, dataset, "--views", 1, *ON_CPU)
    assert one["views"] == 1
    assert one["center"] is None
    for name in ("top1_error", "top5_error"):
        assert one[name] == ten["center"][name]
    assert one["log_loss"] == pytest.approx(ten["center"]["log_loss"], abs=1e-6)


def test_table_shows_the_errors_in_percent(shown, checkpoint, dataset, ten):
    text = shown("eval", checkpoint, dataset, "--views", 1, *ON_CPU)
    assert "30 images" in " ".join(text.split())
    row = next(line for line in text.splitlines() if "center view" in line)
    assert f"{ten['center']['top1_error']:.2%}" in row
    assert f"{ten['center']['top5_error']:.2%}" in row
    assert f"{ten['center']['log_loss']:.4f}" in row


def test_split_train_has_its_own_images(answer, checkpoint, dataset):
    arguments = ("--split", "train", "--views", 1, *ON_CPU)
    assert answer("eval", checkpoint, dataset, *arguments)["images"] == 60


def test_predictions_are_saved_where_asked(answer, checkpoint, dataset, tmp_path):
    path = tmp_path / "found.npz"
    arguments = ("--output", path, "--views", 1, *ON_CPU)
    assert answer("eval", checkpoint, dataset, *arguments)["predictions"] == str(path)
    assert load_predictions(path).views == 1


def test_predictions_file_holds_what_was_scored(ten):
    saved = load_predictions(Path(ten["predictions"]))
    assert saved.keys == tuple(f"val-{number:08d}" for number in range(30))
    np.testing.assert_allclose(saved.probs.sum(axis=1), 1, atol=1e-5)
    right = saved.probs.argmax(axis=1) == saved.labels
    assert ten["top1_error"] == pytest.approx(1 - right.mean())
    log_loss = -np.log(saved.probs[np.arange(30), saved.labels].astype(np.float64)).mean()
    assert ten["log_loss"] == pytest.approx(log_loss)


def test_two_devices_find_what_one_does(answer, checkpoint, dataset, ten):
    found = answer("eval", checkpoint, dataset, "--gpus", 2, "--views", 1, *ON_CPU)
    assert found["top1_error"] == ten["center"]["top1_error"]
    assert found["log_loss"] == pytest.approx(ten["center"]["log_loss"], abs=1e-5)


@pytest.mark.parametrize("content", [b"", b"no tensors here", bytes(5000)])
def test_file_that_is_no_checkpoint_is_refused(fails, dataset, tmp_path, content):
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    failure = fails(3, "eval", path, dataset, *ON_CPU)
    assert "bad.safetensors: not an alexnet checkpoint" in failure.message
    assert path.read_bytes() == content


def test_cut_checkpoint_is_refused(fails, checkpoint, dataset, tmp_path):
    path = tmp_path / "cut.safetensors"
    path.write_bytes(checkpoint.read_bytes()[:-1000])
    assert "damaged" in fails(3, "eval", path, dataset, *ON_CPU).message


def test_flipped_bit_is_found(fails, checkpoint, dataset, tmp_path):
    content = bytearray(checkpoint.read_bytes())
    content[-1000] ^= 1
    path = tmp_path / "flipped.safetensors"
    path.write_bytes(content)
    assert "checksum" in fails(3, "eval", path, dataset, *ON_CPU).message


def test_missing_or_folder_checkpoint_is_refused(fails, dataset, tmp_path):
    assert "no such file" in fails(3, "eval", tmp_path / "none", dataset, *ON_CPU).message
    assert "a folder without" in fails(3, "eval", tmp_path, dataset, *ON_CPU).message


def test_dataset_of_other_classes_is_refused(fails, checkpoint, two_class_dataset):
    failure = fails(3, "eval", checkpoint, two_class_dataset, *ON_CPU)
    assert "classes unknown to" in failure.message
    assert "2 of 2, first 0, cat" in failure.message


def test_missing_dataset_or_split_is_refused(fails, checkpoint, dataset, tmp_path):
    assert "no index.json" in fails(3, "eval", checkpoint, tmp_path / "none", *ON_CPU).message
    failure = fails(3, "eval", checkpoint, dataset, "--split", "test", *ON_CPU)
    assert "no split 'test'" in failure.message


def test_gpus_that_are_not_there_are_exit_4(fails, checkpoint, dataset, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    fails(4, "eval", checkpoint, dataset, "--gpus", 2)
    fails(4, "eval", checkpoint, dataset, "--device", "cuda")


def test_predictions_under_another_suffix_are_refused(wrong_command_line, checkpoint, dataset):
    text = wrong_command_line("eval", checkpoint, dataset, "--output", "p.csv")
    assert "p.csv does not end in .npz" in text
    assert "alexnet errors FILE.npz -o" in text


def test_three_views_are_refused(wrong_command_line, checkpoint, dataset):
    assert "--views: 3" in wrong_command_line("eval", checkpoint, dataset, "--views", 3)


def test_unwritable_predictions_are_exit_4_and_leave_nothing(fails, checkpoint, dataset, tmp_path):
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "found.npz"
    assert (
        str(path.parent)
        in fails(4, "eval", checkpoint, dataset, "--output", path, "--views", 1, *ON_CPU).message
    )
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


# --- precision


def test_json_names_the_precision(ten, answer, checkpoint, dataset):
    assert ten["precision"] == "fp32"
    found = answer("eval", checkpoint, dataset, "--views", 1, "--precision", "tf32", *ON_CPU)
    assert found["precision"] == "tf32"


def test_bf16_is_near_fp32_on_one_replica_and_on_two(
    alexnet, checkpoint, dataset, ten, tmp_path, capfd
):
    is_slow = not any(torch.cpu.get_capabilities().get(name) for name in BF16_INSTRUCTIONS)
    rows = []
    for number, more in enumerate(((), ("--gpus", 2, "--columns", 1))):
        path = tmp_path / f"{number}.npz"
        options = ("--views", 1, "--precision", "bf16", "--output", path, "--json")
        result = alexnet("eval", checkpoint, dataset, *options, *more, *ON_CPU)
        assert json.loads(result.stdout)["precision"] == "bf16"
        said = " ".join((result.stderr + capfd.readouterr().err).split())
        assert said.count(SLOW_BF16) == is_slow  # once, not by each replica
        rows.append(load_predictions(path).probs)
    exact = load_predictions(Path(ten["predictions"])).center_probs

    assert 0 < np.abs(rows[0] - exact).max() < 0.02
    # Replicas have other batches, whose bfloat16 products may be added up in another order.
    np.testing.assert_allclose(rows[1], rows[0], atol=2e-3)


def test_table_names_a_precision_that_is_not_the_default(shown, checkpoint, dataset):
    options = ("--views", 1, *ON_CPU)
    assert "bf16" in shown("eval", checkpoint, dataset, "--precision", "bf16", *options)
    assert "fp32" not in shown("eval", checkpoint, dataset, *options)


def test_cpu_without_bfloat16_instructions_is_warned_of_once(
    alexnet, checkpoint, dataset, monkeypatch
):
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)

    result = alexnet("eval", checkpoint, dataset, "--views", 1, "--precision", "bf16", *ON_CPU)

    assert result.exit_code == 0, result.output
    assert " ".join(result.stderr.split()).count(SLOW_BF16) == 1


# --- memory that is full, and a GPU that fails

OUT_OF_MEMORY = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.25 GiB.")
GPU_LOST = torch.AcceleratorError("CUDA error: unspecified launch failure\nmore")
NO_HOST_MEMORY = RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")


@pytest.mark.parametrize(
    "error", [OUT_OF_MEMORY, GPU_LOST, NO_HOST_MEMORY], ids=lambda e: type(e).__name__
)
@pytest.mark.parametrize("command", ["eval", "ensemble", "predict", "export"])
def test_full_memory_and_failing_gpu_are_exit_4_with_advice(
    fails, checkpoint, runs, dataset, images, tmp_path, monkeypatch, command, error
):
    def fail(*_):
        raise error

    monkeypatch.setattr(AlexNet, "forward", fail)
    other = runs.second / "best.safetensors"
    arguments = {
        "eval": (checkpoint, dataset, *ON_CPU),
        "ensemble": (checkpoint, other, "--data", dataset, *ON_CPU),
        "predict": (images, "--model", checkpoint, *ON_CPU),
        "export": (checkpoint, "-o", tmp_path / "model.onnx"),
    }[command]

    message = fails(4, command, *arguments).message

    assert ("the GPU failed" if error is GPU_LOST else "out of memory with batches of") in message
    assert "--device cpu" in message or command == "export"
    assert "\n" in message.strip()  # advice
    assert list(tmp_path.iterdir()) == []
