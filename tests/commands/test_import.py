import hashlib
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import train

from alexnet_cli import load_model
from alexnet_cli.data.imagenet_classes import imagenet_classes
from alexnet_cli.data.remote.published import PublishedFile
from alexnet_cli.inference.describe import published_results
from alexnet_cli.model.checkpoint import load_checkpoint
from alexnet_cli.pretrained.importer import PUBLISHED
from alexnet_cli.pretrained.names import NAMES

ON_CPU = ("--device", "cpu")
# torchvision's layers with few kernels: name, channels in, kernels, window.
CONVS = ((0, 3, 8, 11), (3, 8, 8, 5), (6, 8, 8, 3), (8, 8, 8, 3), (10, 8, 8, 3))


def state_dict(num_classes: int = 1000) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)

    def draw(*shape):
        return torch.randn(*shape, generator=generator) * 0.05

    state = {}
    for place, channels, filters, window in CONVS:
        state[f"features.{place}.weight"] = draw(filters, channels, window, window)
        state[f"features.{place}.bias"] = draw(filters)
    for place, inputs, units in ((1, 8 * 36, 16), (4, 16, 16), (6, 16, num_classes)):
        state[f"classifier.{place}.weight"] = draw(units, inputs)
        state[f"classifier.{place}.bias"] = draw(units)
    return state


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("web") / "alexnet-owt-7be5be79.pth"
    torch.save(state_dict(), path)
    return path


@pytest.fixture
def published(weights, web, monkeypatch):
    """The name torchvision stands for a small file on this machine."""
    opened = web(weights.parent)
    content = weights.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    file = PublishedFile(
        weights.name, f"{opened.url}/{weights.name}", len(content), "sha256", digest
    )
    monkeypatch.setitem(PUBLISHED, "torchvision", file)
    return opened


def test_names_are_those_that_are_published():
    assert set(NAMES) == set(PUBLISHED)
    file = PUBLISHED["torchvision"]
    assert file.digest.startswith(file.name.removeprefix("alexnet-owt-").removesuffix(".pth"))
    for entry in PUBLISHED.values():
        assert len(entry.digest) == {"sha256": 64, "sha1": 40}[entry.algorithm]
        assert entry.url.endswith(entry.name)


def test_name_is_fetched_and_becomes_a_run_that_predict_finds(
    published, answer, images, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    found = answer("import", "torchvision")
    assert found["checkpoint"] == "runs/torchvision/best.safetensors"
    assert found["recipe"] == "owt"
    assert found["classes"] == 1000
    assert found["sha256"] == PUBLISHED["torchvision"].digest
    predicted = answer("predict", images / "b.jpg", *ON_CPU)
    assert predicted["model"] == found["checkpoint"]
    names = {entry.wnid: entry.name for entry in imagenet_classes()}
    for row in predicted["images"][0]["predictions"]:
        assert row["name"] == names[row["wnid"]]


def test_model_torchvision_is_imported_on_first_use_into_the_cache(
    published, answer, images, cache, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    arguments = ("predict", images / "b.jpg", "--model", "torchvision", *ON_CPU)
    first, second = answer(*arguments), answer(*arguments)
    assert first == second
    assert published.asked == ["alexnet-owt-7be5be79.pth"]
    assert Path(first["model"]).parent == cache / "models"
    assert load_model("torchvision").info.path == Path(first["model"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("wrong", ["torchvison", "Torchvision", "bvcl"])
def test_name_like_that_of_a_published_network_is_answered_with_it(fails, images, wrong):
    found = fails(3, "predict", images / "b.jpg", "--model", wrong, *ON_CPU)
    assert f"{wrong}: no such file." in found.message
    assert re.search("Did you mean (torchvision|bvlc)[?]", found.message)


def test_file_of_that_name_comes_before_the_published_network(
    published, answer, checkpoint, images, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "torchvision").symlink_to(checkpoint.parent)
    found = answer("predict", images / "b.jpg", "--model", "torchvision", *ON_CPU)
    assert len(found["images"][0]["predictions"]) == 5
    assert not published.asked


def test_text_names_the_next_command(shown, weights, tmp_path):
    output = tmp_path / "owt.safetensors"
    text = shown("import", weights, "-o", output)
    assert f"alexnet predict IMAGE --model {output}" in text
    assert hashlib.sha256(weights.read_bytes()).hexdigest() in text


def test_weights_of_another_program_get_the_advice_to_import_them(
    alexnet, weights, dataset, images, tmp_path
):
    small = ("--set", "crop_size=99", "--set", "width=0.05")
    for arguments in (
        ("train", dataset, *small, "--run", tmp_path / "run", "--init-from", weights, *ON_CPU),
        ("predict", images / "b.jpg", "--model", weights, *ON_CPU),
        ("export", weights, "-o", tmp_path / "x.onnx"),
    ):
        result = alexnet(*arguments)
        assert result.exit_code == 3
        assert f"alexnet import {weights}" in result.stderr
        assert not (tmp_path / "run").exists()


def test_predict_without_a_model_says_how_to_get_one(alexnet, images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = alexnet("predict", images / "b.jpg")
    assert result.exit_code == 3
    assert "--model torchvision" in result.stderr


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_not_finite_are_refused(fails, tmp_path, value):
    state = state_dict()
    state["classifier.4.bias"][7] = value
    torch.save(state, tmp_path / "a.pth")
    found = fails(3, "import", tmp_path / "a.pth", "-o", tmp_path / "a.safetensors")
    assert "fc7.bias has values that are not finite" in found.message
    assert not (tmp_path / "a.safetensors").exists()


def test_other_bytes_behind_the_name_are_refused(published, alexnet, tmp_path):
    published.faults = {"alexnet-owt-7be5be79.pth": ["other"]}
    result = alexnet("import", "torchvision", "-o", tmp_path / "out")
    assert result.exit_code == 3
    assert "not the published file: its sha256 is" in result.stderr
    assert not (tmp_path / "out").exists()


def test_eval_has_what_was_published_of_imported_weights_only(
    weights, answer, checkpoint, tmp_path, monkeypatch
):
    assert published_results(checkpoint) == []
    path = tmp_path / "owt.safetensors"
    answer("import", weights, "-o", path)
    (row,) = published_results(path)
    assert (row["top1_error"], row["top5_error"]) == (0.43478, 0.20934)
    assert row["protocol"] == "center view, validation"
    monkeypatch.setattr("alexnet_cli.inference.export.CHECKED_VIEWS", 36)
    answer("export", path, "-o", tmp_path / "owt.onnx")
    assert published_results(tmp_path / "owt.onnx") == [row]


def test_eval_prints_published_errors_beside_its_own(
    shown, answer, checkpoint, onnx_model, dataset, monkeypatch
):
    row = {"top1_error": 0.43478, "top5_error": 0.20934, "protocol": "center", "source": "docs"}
    assert answer("eval", onnx_model, dataset, *ON_CPU)["published"] == []
    module = "alexnet_cli.inference.describe"
    monkeypatch.setattr(f"{module}.published_results", lambda model: [row])
    arguments = ("eval", checkpoint, dataset, "--views", 1, *ON_CPU)
    assert answer(*arguments)["published"] == [row]
    text = shown(*arguments)
    assert text.index("center view") < text.index("43.48%") < text.index("20.93%")
    assert "published: center (docs)" in text


def test_imported_layers_begin_a_run_on_other_classes(weights, answer, dataset, tmp_path):
    source = tmp_path / "owt.safetensors"
    answer("import", weights, "-o", source)
    recipe = replace(load_checkpoint(source).recipe, crop_size=99, batch_size=20, epochs=1)
    still = replace(recipe, learning_rate=0.0, milestones=(), weight_decay=0.0, bias_decay=0.0)
    train(dataset, tmp_path / "run", still, init_from=source)
    found = load_checkpoint(tmp_path / "run" / "best.safetensors")
    for name, tensor in load_checkpoint(source).weights.items():
        if name.startswith("conv"):
            np.testing.assert_array_equal(found.weights[name], tensor)
    assert found.init_from["recipe"] == "owt"


def test_caffe_and_names_are_imported_without_torch(tmp_path):
    """An ONNX file of another network is compared and refused, without loading torch."""
    import onnx

    light = Path(onnx.__file__).parent / "backend/test/data/light/light_bvlc_alexnet.onnx"
    code = (
        "import sys\nfrom alexnet_cli.cli.app import app\n"
        f"try: app(['import', {str(light)!r}, '-o', {str(tmp_path / 'x')!r}])\n"
        "except SystemExit as e: code = e.code\n"
        "print(code, 'torch' in sys.modules)"
    )
    environment = {**os.environ, "NO_COLOR": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.split() == ["3", "False"], done
    assert json.dumps("conv1_w_0")[1:-1] in done.stderr
