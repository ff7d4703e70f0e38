"""The Python API: what it loads, and that it agrees with the commands, torch and Pillow."""

import json
import pickle
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

import alexnet_cli
from alexnet_cli import load_model, open_dataset
from alexnet_cli.errors import ImageError, InputError, MachineError, UsageError
from alexnet_cli.inference.export import export
from alexnet_cli.model.checkpoint import load_checkpoint
from alexnet_cli.model.network import AlexNet


@pytest.fixture(scope="module")
def models(checkpoint, tmp_path_factory):
    """The checkpoint with ten views on torch, and exported with 1, 9 and 10 views."""
    folder = tmp_path_factory.mktemp("api")
    found = {"torch": load_model(checkpoint, device="cpu")}
    for views in (1, 9, 10):
        export(checkpoint, folder / f"{views}.onnx", num_views=views)
        found[f"onnx-{views}"] = load_model(folder / f"{views}.onnx", device="cpu")
    return found


@pytest.fixture(scope="module")
def val(dataset):
    return open_dataset(dataset)["val"]


def loaded_by(program: str, *arguments) -> list[str]:
    """Return the modules that a program loads in a process of its own."""
    program += "\nimport sys; print('\\n'.join(sys.modules))"
    command = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_import_loads_nothing_but_the_package():
    found = loaded_by("import alexnet_cli")
    assert [name for name in found if name.startswith("alexnet_cli")] == ["alexnet_cli"]
    assert not {"numpy", "torch", "typer"} & set(found)


def test_onnx_model_is_used_without_torch(models, val):
    program = (
        "import sys; from alexnet_cli import load_model, open_dataset\n"
        "model = load_model(sys.argv[1], device='cpu')\n"
        "sample = open_dataset(sys.argv[2])['val'][0]\n"
        "model.predict(sample); model.features(sample); model.layer('conv1').weight"
    )
    found = loaded_by(program, models["onnx-1"].info.path, val.folder)
    assert "onnxruntime" in found
    assert "torch" not in found


def test_every_name_of_the_package_is_found_and_no_other():
    for name in alexnet_cli.__all__:
        assert getattr(alexnet_cli, name) is not None
    assert set(alexnet_cli.__all__) <= set(dir(alexnet_cli))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = alexnet_cli.nonsense


def test_results_are_those_of_the_command(alexnet, models, release, tmp_path):
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (90, 120, 3), np.uint8))
    image.save(tmp_path / "a.png")
    (tmp_path / "b.png").write_text("no image")
    model = models["onnx-10"]
    printed = alexnet("predict", tmp_path, "--model", model.info.path, "--json", "--top", 3)
    found = [result.to_dict() for result in model.predict(tmp_path, top=3)]
    assert found == json.loads(printed.stdout)["images"]
    assert found[0]["predictions"][0]["label"] == model.predict(tmp_path)[0].label


def test_paths_arrays_bytes_and_pillow_images_give_the_same(models, tmp_path):
    pixels = np.random.default_rng(2).integers(0, 256, (150, 120, 3), np.uint8)
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path)
    forms = [path, str(path), path.read_bytes(), pixels, Image.fromarray(pixels)]
    first, *others = models["onnx-1"].predict(forms)
    assert [result.top for result in others] == [first.top] * 4
    assert [result.image for result in (first, *others)][2:] == ["image 2", "image 3", "image 4"]
    batch = models["onnx-1"].predict(np.stack([pixels, pixels[::-1]]))
    assert batch[0].top == first.top != batch[1].top


def test_more_images_than_a_batch_keep_their_order(models, val):
    model, samples = models["onnx-10"], val[:]  # 30 images, batches of 3
    expected = model.probabilities(np.stack([sample.pixels for sample in samples]))
    found = model.predict([*samples[:7], b"", *samples[7:]], top=1)
    assert found.pop(7).error == "empty: 0 bytes"
    assert [result.image for result in found] == [sample.key for sample in samples]
    assert [result.label for result in found] == expected.argmax(axis=1).tolist()


def test_improbable_classes_are_left_out(models, val):
    (every,) = models["torch"].predict(val[0], top=10)
    limit = every.top[3].probability
    (found,) = models["torch"].predict(val[0], top=10, min_probability=limit)
    assert found.top == every.top[:4]
    (none,) = models["torch"].predict(val[0], min_probability=1.0)
    assert none.top == ()
    with pytest.raises(InputError, match="no class is that probable"):
        _ = none.label


def test_image_that_cannot_be_read_fails_only_when_it_is_used(models):
    (result,) = models["onnx-1"].predict("none.jpg")
    assert "no such file" in result.error
    with pytest.raises(InputError, match="no such file"):
        _ = result.name
    with pytest.raises(ImageError, match=r"none\.jpg: .*no such file"):
        models["onnx-1"].features("none.jpg")


@pytest.mark.parametrize("kind", ["torch", "onnx-1"])
def test_other_numbers_of_views_are_refused(models, kind):
    with pytest.raises(UsageError, match="3 views: a network averages 1, 9 or 10"):
        load_model(models[kind].info.path, views=3, device="cpu")


@pytest.mark.parametrize("views", [1, 9])
def test_views_of_an_exported_model_are_those_asked_for(models, val, views):
    images = np.stack([sample.pixels for sample in val[:3]])
    path = models["onnx-10"].info.path
    assert models["onnx-10"].info.num_views == 10
    found = load_model(path, views=views, device="cpu")
    assert found.info.num_views == views
    expected = models[f"onnx-{views}"].probabilities(images)
    np.testing.assert_array_equal(found.probabilities(images), expected)


@pytest.mark.parametrize("wrong", [np.zeros((5, 5, 4), np.uint8), np.zeros((5, 5, 3), np.float32)])
def test_array_that_is_no_image_is_refused(models, wrong):
    with pytest.raises(UsageError, match="is no image"):
        models["onnx-1"].predict(wrong)


@pytest.mark.parametrize("layer", [None, "conv1", "pool5", "drop7", "fc8"])
@pytest.mark.parametrize("kind", ["torch", "onnx-1", "onnx-9", "onnx-10"])
def test_features_are_those_of_the_network_run_by_hand(models, val, kind, layer):
    checkpoint = load_checkpoint(models["torch"].info.path)
    net = AlexNet(checkpoint.recipe, len(checkpoint.classes)).eval()
    net.load_state_dict({name: torch.from_numpy(t) for name, t in checkpoint.weights.items()})
    samples, size = val[:4], checkpoint.recipe.crop_size
    start = (112 - size) // 2
    crops = np.stack([sample.pixels for sample in samples]).astype(np.float32)
    crops = (crops - checkpoint.pixels["mean_image"])[:, start : start + size, start : start + size]
    x = torch.from_numpy(crops.transpose(0, 3, 1, 2))
    for name, module in net.named_children():
        x = module(x)
        if name == (layer or "relu7"):
            break
    found = models[kind].features(samples, layer)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, x.detach().numpy(), atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("name", ["conv1", "conv4", "fc6", "fc8"])
def test_parameters_of_checkpoint_and_exported_model_are_equal(models, name):
    weights = load_checkpoint(models["torch"].info.path).weights
    for kind in ("torch", "onnx-10"):
        layer = models[kind].layer(name)
        np.testing.assert_array_equal(layer.weight, weights[f"{name}.weight"])
        np.testing.assert_array_equal(layer.bias, weights[f"{name}.bias"])


def test_unknown_layer_and_layer_without_weights_are_named(models):
    with pytest.raises(UsageError, match="no layer 'conv9'") as caught:
        models["onnx-1"].layer("conv9")
    assert "conv5" in caught.value.hint
    with pytest.raises(UsageError, match="layer pool1 has no weight"):
        _ = models["onnx-1"].layer("pool1").weight


def test_result_is_shown_as_a_table_without_markup_of_names():
    rows = (alexnet_cli.Prediction(0, "n1", "<b>cat</b>", 0.75),)
    shown = alexnet_cli.ImageResult("<script>.jpg", rows)._repr_html_()
    tags = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, _: tags.append(tag)
    parser.feed(shown)
    assert {"table", "tr", "td"} <= set(tags)
    assert not {"b", "script"} & set(tags)
    assert "75.0%" in shown
    assert "&lt;b&gt;" in alexnet_cli.ImageResult("a", (), "<b>")._repr_html_()


def test_split_is_a_sequence_of_labeled_images(dataset, val):
    classes = open_dataset(dataset).classes
    assert len(val) == len(list(val)) == 30
    assert [sample.label for sample in val] == val.labels.tolist()
    assert [sample.key for sample in val] == val.keys()
    assert val[-1] == val[29]
    sample = val[3]
    assert sample.name == classes[sample.label].name
    assert sample.image.size == (112, 112)
    np.testing.assert_array_equal(np.asarray(sample.image), sample.pixels)
    with pytest.raises(IndexError):
        val[30]


def test_split_feeds_a_data_loader_of_torch(val):
    pairs = val.as_torch()
    assert isinstance(pairs, Dataset)
    assert isinstance(pickle.loads(pickle.dumps(pairs))[0], tuple)  # for workers
    images, labels = next(iter(DataLoader(pairs, batch_size=30)))
    assert labels.tolist() == val.labels.tolist()
    np.testing.assert_array_equal(images[7].permute(1, 2, 0), val[7].pixels)
    sizes = [image for image, _ in val.as_torch(lambda image: image.size)]
    assert sizes == [(112, 112)] * 30


def test_dataset_behind_a_url_is_a_sequence_too(web, dataset, val):
    found = open_dataset(web(dataset).url)["val"]
    assert found[29] == val[29]


def test_package_is_marked_as_typed():
    assert (Path(alexnet_cli.__file__).parent / "py.typed").is_file()


def test_missing_torch_names_the_extra_to_install(checkpoint, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("alexnet_cli.inference.torch")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MachineError, match="torch is not installed") as caught:
        load_model(checkpoint)
    assert caught.value.hint == 'Install it: pip install "alexnet-cli[train]"'
