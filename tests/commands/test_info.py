import subprocess
import sys

import numpy as np
import pytest

# Kernels times inputs, plus biases: original sizes, two columns (section 3.5).
PAPER_LAYERS = {
    "conv1": ([96, 55, 55], 96 * 3 * 11 * 11 + 96),
    "conv2": ([256, 27, 27], 256 * 48 * 5 * 5 + 256),
    "conv3": ([384, 13, 13], 384 * 256 * 3 * 3 + 384),
    "conv4": ([384, 13, 13], 384 * 192 * 3 * 3 + 384),
    "conv5": ([256, 13, 13], 256 * 192 * 3 * 3 + 256),
    "fc6": ([4096], 4096 * 256 * 6 * 6 + 4096),
    "fc7": ([4096], 4096 * 4096 + 4096),
    "fc8": ([1000], 1000 * 4096 + 1000),
}


def test_json_of_the_paper_has_its_sizes_and_parameters(answer):
    found = answer("info")
    assert found["parameters"] == 60_965_224
    layers = {layer["name"]: (layer["output"], layer["parameters"]) for layer in found["layers"]}
    for name, expected in PAPER_LAYERS.items():
        assert layers[name] == expected
    assert sum(parameters for _, parameters in PAPER_LAYERS.values()) == 60_965_224


def test_table_shows_layers_and_the_total(shown):
    text = shown("info")
    assert "96 x 55 x 55" in text
    assert "60,965,224" in text


@pytest.mark.parametrize("recipe", ["paper", "small", "demo"])
def test_every_recipe_can_be_shown(answer, recipe):
    found = answer("info", recipe, "--classes", 10)
    assert (found["kind"], found["recipe"]) == ("recipe", recipe)
    assert found["layers"][-1]["output"] == [10]


def test_settings_change_the_table(answer):
    narrow = answer("info", "--set", "width=0.5")
    assert narrow["layers"][0]["output"] == [48, 55, 55]
    assert narrow["parameters"] < 60_965_224 / 3


def test_checkpoint_is_described_with_its_network_and_origin(answer, shown, checkpoint, dataset):
    found = answer("info", checkpoint)
    assert found["classes"] == 10
    assert found["layers"][-1] == {"name": "fc8", "output": [10], "parameters": 256 * 10 + 10}
    assert found["about"]["step"] in ("4", "8")
    text = shown("info", checkpoint)
    assert f"{found['parameters']:,}" in text
    assert found["about"]["dataset"] in text


@pytest.mark.parametrize("content", [b"", b"no tensors here"])
def test_file_that_is_no_checkpoint_is_refused(fails, tmp_path, content):
    (tmp_path / "bad.safetensors").write_bytes(content)
    failure = fails(3, "info", tmp_path / "bad.safetensors")
    assert "not an alexnet checkpoint" in failure.message


@pytest.mark.parametrize("command", ["info {}", "predict x.png --model {}", "export {} -o a.onnx"])
def test_predictions_are_no_network(fails, tmp_path, command):
    path = tmp_path / "a.npz"
    np.savez(path, probs=np.ones(1))
    (tmp_path / "x.png").write_bytes(b"")
    failure = fails(3, *command.format(path).replace("x.png", f"{tmp_path}/x.png").split())
    assert "a.npz: not a network; .npz files have the predictions of one." in failure.message
    assert f"To see its errors: alexnet errors {path}" in failure.message


def test_onnx_model_is_described_with_its_network_and_origin(answer, onnx_model, checkpoint):
    found = answer("info", onnx_model)
    assert found["kind"] == "onnx"
    assert found["layers"] == answer("info", checkpoint)["layers"]
    assert found["about"]["weights"]


def test_dataset_is_described_with_its_splits(answer, shown, dataset):
    found = answer("info", dataset)
    assert (found["kind"], found["classes"]) == ("dataset", 10)
    train = found["splits"]["train"]
    assert (train["found"], train["written"], train["rejected"], train["shards"]) == (60, 60, 0, 3)
    assert train["bytes"] == sum(path.stat().st_size for path in dataset.glob("train-*.tar"))
    assert found["about"]["dataset"] in shown("info", dataset)


def test_dataset_is_described_without_torch(needs_no_torch, dataset):
    needs_no_torch("info", dataset)


def test_folder_that_is_no_dataset_is_refused(fails, tmp_path):
    assert "no dataset" in fails(3, "info", tmp_path).message


def test_unknown_thing_or_field_is_exit_2(fails, checkpoint):
    assert "alexnet recipes lists the recipes" in fails(2, "info", "nonsense").message
    assert "no field" in fails(2, "info", "--set", "nonsense=1").message
    assert "is not a recipe" in fails(2, "info", checkpoint, "--set", "epochs=1").message


WITHOUT_TORCH = (
    "import sys\n"
    "from alexnet_cli.cli.app import app\n"
    "app(sys.argv[1:], standalone_mode=False)\n"
    "sys.exit('torch' in sys.modules or 'onnxruntime' in sys.modules)"
)


@pytest.mark.parametrize("name", ["paper", "checkpoint", "onnx_model", "recipes"])
def test_networks_are_described_without_torch(request, name: str):
    """It takes seconds and 800 MB to import."""
    arguments = ["info", name]
    if name == "recipes":
        arguments = ["recipes"]
    elif name != "paper":
        arguments = ["info", str(request.getfixturevalue(name))]

    command = [sys.executable, "-c", WITHOUT_TORCH, *arguments]
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0
